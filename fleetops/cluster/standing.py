"""How a run stands, read from the database, and what follows from it, written there: by whichever worker looks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from fleetops.cluster.rules import Change, Standing, Tally, judge
from fleetops.cluster.window import goes_on_ns
from fleetops.model import CODE_OF, Operation
from fleetops.policy import Policy
from fleetops.policy.budget import Measure
from fleetops.scheduler import Event, StopReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    Connection = psycopg.AsyncConnection[Any]

_RUN: Final = (
    "SELECT wave, waves, judge_ns, paused, stop_reason, stop_detail, counted, policy, drive, now_ns() "
    "FROM run WHERE run_id = %s AND ended_ns IS NULL AND (starts_ns <= now_ns() OR stop_reason IS NOT NULL)"
)
_CHUNKS: Final = """
SELECT c.wave, c.state, count(*), count(*) FILTER (WHERE w.lease_ns > now_ns())
FROM chunk c LEFT JOIN worker w ON w.worker = c.worker WHERE c.run_id = %s GROUP BY c.wave, c.state
"""
_TALLIES: Final = """
SELECT c.wave, t.operation, t.outcome, sum(t.steps)::bigint, max(t.last_ns)
FROM tally t JOIN chunk c USING (run_id, chunk) WHERE t.run_id = %s GROUP BY c.wave, t.operation, t.outcome
"""
_BAD: Final = """
SELECT s.operation, r.finished_ns FROM result r JOIN step s USING (run_id, chunk, step)
WHERE r.run_id = %(run_id)s AND r.outcome IN ('failed', 'unknown') AND r.finished_ns > greatest(%(since_ns)s,
      (SELECT started_ns FROM drive WHERE run_id = %(run_id)s AND drive = %(drive)s))
ORDER BY r.finished_ns LIMIT %(most)s
"""
_NEXT_STEPS: Final = """
SELECT r.policy, now_ns(), (SELECT min(settle_ns) FROM (
    SELECT DISTINCT ON (s.chunk, s.device) s.settle_ns FROM step s JOIN chunk c USING (run_id, chunk)
    WHERE c.run_id = r.run_id AND c.state = 'shut'
      AND NOT EXISTS (SELECT 1 FROM result o WHERE (o.run_id, o.chunk, o.step) = (s.run_id, s.chunk, s.step))
    ORDER BY s.chunk, s.device, s.step
) n)
FROM run r WHERE r.run_id = %(run_id)s
"""
_MOST_BAD: Final = 100_000


async def settle(connection: Connection, run_id: str) -> Change:
    """Do what follows from how a run stands; called after each of its chunks, and now and then.

    Returns:
        What was changed.
    """
    # Most of the time nothing is, and nobody has to wait for a look.
    if not (await _look(connection, run_id, lock=False))[0]:
        return Change()
    async with connection.transaction():
        change, drive = await _look(connection, run_id, lock=True)
        if change:
            await _apply(connection, run_id, drive, change)
    return change


async def _look(connection: Connection, run_id: str, *, lock: bool) -> tuple[Change, int]:
    row = await (await connection.execute(_RUN + (" FOR UPDATE" if lock else ""), (run_id,))).fetchone()
    if row is None:
        return Change(), 0
    wave, waves, judge_ns, paused, stop_reason, stop_detail, counted, policy_json, drive, now_ns = row
    policy = Policy.from_json(policy_json)
    chunks = await (await connection.execute(_CHUNKS, (run_id,))).fetchall()
    tallies: list[Tally] = []
    bad: list[tuple[int, int]] = []
    if policy.abort_when or waves > 1:
        rows = await (await connection.execute(_TALLIES, (run_id,))).fetchall()
        tallies = [Tally(*one) for one in rows]
    if any(budget.measure is Measure.CONSECUTIVE for budget in policy.abort_when):
        bad = await _bad(connection, run_id, drive)
    standing = Standing(
        wave=wave,
        waves=waves,
        judge_ns=judge_ns,
        paused=paused,
        stop_reason=None if stop_reason is None else StopReason(stop_reason),
        stop_detail=stop_detail,
        held=sum(held for *_, held in chunks),
        chunks={(of_wave, state): count for of_wave, state, count, _ in chunks},
        tallies=tallies,
        counted={(operation, outcome): steps for operation, outcome, steps in json.loads(counted)},
        bad=bad,
    )
    return judge(standing, policy, now_ns), drive


async def _bad(connection: Connection, run_id: str, drive: int) -> list[tuple[int, int]]:
    given = {"run_id": run_id, "drive": drive, "since_ns": 0, "most": _MOST_BAD}
    rows = await (await connection.execute(_BAD, given)).fetchall()
    return [(CODE_OF[Operation(operation)], at_ns) for operation, at_ns in rows]


async def _apply(connection: Connection, run_id: str, drive: int, change: Change) -> None:
    await note_events(connection, run_id, drive, change.events)
    if change.stop is not None:
        await stop_run(connection, run_id, *change.stop)
    if change.judge_ns is not None:
        await connection.execute("UPDATE run SET judge_ns = %s WHERE run_id = %s", (change.judge_ns, run_id))
    if change.next_wave:
        await connection.execute("UPDATE run SET wave = wave + 1, judge_ns = NULL WHERE run_id = %s", (run_id,))
    if change.pause is not None:
        await connection.execute("UPDATE run SET paused = true, gate_failed = true WHERE run_id = %s", (run_id,))
        await note_events(connection, run_id, drive, [(Event.PAUSED, change.pause)])
    if change.shut:
        await _wait_for_window(connection, run_id, change)
    if change.end is not None:
        reason, detail = change.end
        await connection.execute("UPDATE run SET ended_ns = now_ns() WHERE run_id = %s", (run_id,))
        await connection.execute(
            "UPDATE drive SET ended_ns = now_ns(), end_reason = %s, end_detail = %s WHERE run_id = %s AND drive = %s",
            (reason, detail, run_id, drive),
        )


async def _wait_for_window(connection: Connection, run_id: str, change: Change) -> None:
    """Have a run whose window has closed go on at the next opening; it ends where nothing would fit into any."""
    row: Any = await (await connection.execute(_NEXT_STEPS, {"run_id": run_id})).fetchone()
    policy_json, now_ns, settle_ns = row
    due_ns = goes_on_ns(Policy.from_json(policy_json), now_ns, settle_ns or 0)
    if due_ns is None:
        change.end = StopReason.WINDOW_CLOSED, ""
        return
    await connection.execute("UPDATE run SET starts_ns = %s WHERE run_id = %s", (due_ns, run_id))
    await connection.execute("UPDATE chunk SET state = 'open' WHERE run_id = %s AND state = 'shut'", (run_id,))


async def stop_run(connection: Connection, run_id: str, reason: StopReason, detail: str) -> None:
    """Have nothing more of a run sent; the first reason stands."""
    await connection.execute(
        "UPDATE run SET stop_reason = %s, stop_detail = %s WHERE run_id = %s AND stop_reason IS NULL "
        "AND ended_ns IS NULL",
        (reason, detail, run_id),
    )


async def note_events(
    connection: Connection, run_id: str, drive: int, events: Sequence[tuple[Event, str]], *, apart_ns: int = 0
) -> None:
    """Note what happened to a run as a whole.

    Args:
        connection: The database.
        run_id: The run.
        drive: Its drive.
        events: What happened.
        apart_ns: What others noted of the same within so long is the same.
    """
    for event, detail in events:
        await connection.execute(
            "INSERT INTO event (run_id, at_ns, drive, event, detail) SELECT %(run_id)s, now_ns(), %(drive)s, "
            "%(event)s, %(detail)s WHERE NOT EXISTS (SELECT 1 FROM event WHERE run_id = %(run_id)s "
            "AND event = %(event)s AND at_ns > now_ns() - %(apart_ns)s)",
            {"run_id": run_id, "drive": drive, "event": event, "detail": detail, "apart_ns": apart_ns},
        )
