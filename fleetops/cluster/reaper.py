"""What any worker does for all of them now and then: nobody else sees to what dead workers left."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from fleetops.cluster.queue import offer_chunks
from fleetops.cluster.standing import settle
from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    import procrastinate
    import psycopg

    Connection = psycopg.AsyncConnection[Any]

_FORGET_NS: Final = 3600 * NS_PER_S
"""Workers that have been dead for so long are forgotten."""
_LIVE: Final = "SELECT run_id, starts_ns - now_ns() FROM run WHERE ended_ns IS NULL"


async def look_after(connection: Connection, queue: procrastinate.App, *, offers: bool) -> tuple[int, float]:
    """Offer the chunks that nobody has, and see to how the live runs stand.

    Args:
        connection: The database.
        queue: The queue.
        offers: Whether to offer chunks.

    Returns:
        How many runs are live, and in how many seconds the next one's window opens.
    """
    rows = await (await connection.execute(_LIVE)).fetchall()
    for run_id, _ in rows:
        await settle(connection, run_id)
    if rows and offers:
        await offer_chunks(queue, connection)
    return len(rows), min((wait_ns / NS_PER_S for _, wait_ns in rows if wait_ns > 0), default=inf)


async def forget_workers(connection: Connection) -> None:
    """Forget the workers that have been dead for long."""
    await connection.execute("DELETE FROM worker WHERE lease_ns < now_ns() - %s", (_FORGET_NS,))
