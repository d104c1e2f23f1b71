"""Starting a run on the cluster and looking on from anywhere: whoever does may leave, and the run goes on."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio

from fleetops.cluster.database import connected, make_pool, no_such_run
from fleetops.cluster.queue import make_queue, offer_chunks
from fleetops.errors import JournalError
from fleetops.events import RunStatus
from fleetops.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY_S: Final = 1.0
_LOOK: Final = """
SELECT r.ended_ns IS NOT NULL, r.steps, r.paused, r.stop_reason, r.starts_ns > now_ns(), r.wave, r.waves,
       p.asked_per_s * g.share,
       (SELECT count(*) FROM worker w WHERE w.lease_ns > now_ns() AND w.queue = r.queue),
       (SELECT count(*) FROM chunk c WHERE c.run_id = r.run_id AND c.state = 'done'),
       (SELECT count(*) FROM chunk c WHERE c.run_id = r.run_id),
       (SELECT jsonb_object_agg(outcome, steps) FROM
           (SELECT outcome, sum(steps) AS steps FROM tally t WHERE t.run_id = r.run_id GROUP BY outcome) o)
FROM run r JOIN pace p USING (run_id) JOIN gate g USING (base_url) WHERE r.run_id = %s
"""


def glance(url: str, run_id: str) -> RunStatus:
    """How far a run is now.

    Raises:
        UsageError: There is no such run.
        JournalError: The database cannot be used.
    """
    with connected(url) as connection:
        row = connection.execute(_LOOK, (run_id,)).fetchone()
    if row is None:
        raise no_such_run(run_id)
    ended, steps, paused, stopping, scheduled, wave, waves, per_s, workers, done, chunks, tallies = row
    outcomes: dict[Outcome, int] = {}
    for name, count in (tallies or {}).items():
        outcome = Outcome.ACCEPTED if name == "not_confirmed" else Outcome(name)
        outcomes[outcome] = outcomes.get(outcome, 0) + int(count)
    ordered = {outcome: outcomes[outcome] for outcome in Outcome if outcomes.get(outcome)}
    return RunStatus(
        ended, steps, ordered, paused, stopping, scheduled, (wave + 1, waves), per_s, workers, (done, chunks)
    )


def follow(url: str, run_id: str, seen: Callable[[RunStatus], object], longest_s: float | None = None) -> bool:
    """Look at a run until it is over, also while the database is away.

    Args:
        url: The database.
        run_id: The run.
        seen: Called with every look.
        longest_s: For how many seconds at most; None for no end.

    Returns:
        Whether it is over.

    Raises:
        UsageError: There is no such run.
    """
    until_s = None if longest_s is None else time.monotonic() + longest_s
    while True:
        # A database that is away is for the workers to mind; whoever looks on only waits.
        with suppress(JournalError):
            now = glance(url, run_id)
            seen(now)
            if now.ended:
                return True
        left_s = _EVERY_S if until_s is None else until_s - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(_EVERY_S, left_s))


def offer(url: str, run_id: str) -> None:
    """Put the chunks of a run into the queue; the workers do so too, if whoever started it dies before."""
    with connected(url):
        # Says in good words where the database cannot be used.
        pass
    anyio.run(_offer, url, run_id)


async def _offer(url: str, run_id: str) -> None:
    pool = make_pool(url, size=2)
    await pool.open()
    try:
        queue: Any = make_queue(pool)
        await queue.open_async(pool)
        async with pool.connection() as connection:
            await offer_chunks(queue, connection, run_id)
    finally:
        await pool.close()
