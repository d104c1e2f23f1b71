"""What an operator asks of a run in the database, from any host."""

from __future__ import annotations

import getpass
import json
import socket
from typing import TYPE_CHECKING, Any, Final

from fleetops.cluster.database import connected, no_such_run
from fleetops.cluster.rules import Tally, totals
from fleetops.cluster.submit import MAKE_GATE
from fleetops.cluster.window import starts_ns
from fleetops.errors import RunBusyError, UsageError
from fleetops.journal import Action, Heard
from fleetops.model import OPERATIONS, ReplyKind
from fleetops.policy import Policy, parse_rate
from fleetops.policy.exclusion import excluded
from fleetops.scheduler import Event, StopReason
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    Connection = psycopg.Connection[Any]

_SETTLE: Final = (
    "UPDATE step SET settle_ns = %(after)s WHERE run_id = %(run_id)s AND operation = %(operation)s "
    "AND settle_ns = %(before)s AND settle_ns <> %(after)s"
)
_LEAVE_OUT: Final = """
INSERT INTO result (run_id, chunk, step, outcome, reason, finished_ns, drive)
SELECT s.run_id, s.chunk, s.step, CASE WHEN t.reason IS NULL THEN 'skipped' ELSE 'unknown' END,
       coalesce(t.reason, o.reason), %(now_ns)s, %(drive)s
FROM step s JOIN unnest(%(devices)s::int4[], %(reasons)s::text[]) AS o(device, reason) USING (device)
LEFT JOIN LATERAL (
    SELECT CASE WHEN a.kind IS NULL THEN 'crashed' ELSE a.reason END AS reason FROM attempt a
    WHERE (a.run_id, a.chunk, a.step) = (s.run_id, s.chunk, s.step)
      AND (a.kind IS NULL OR a.kind = ANY(%(may_have_run)s::text[]))
    ORDER BY a.attempt DESC LIMIT 1
) t ON true
WHERE s.run_id = %(run_id)s
  AND NOT EXISTS (SELECT 1 FROM result r WHERE (r.run_id, r.chunk, r.step) = (s.run_id, s.chunk, s.step))
"""
_TALLIES: Final = "SELECT 0, operation, outcome, sum(steps)::bigint, 0 FROM tally WHERE run_id = %s GROUP BY 2, 3"


def ask(url: str, run_id: str, action: Action, argument: str = "") -> Heard:
    """Have a live run pause, continue, stop, or go at another rate; its workers see to it at their next look.

    Returns:
        Whether that changes anything.

    Raises:
        UsageError: There is no such run, or it is over.
        JournalError: The database cannot be used.
    """
    with connected(url) as connection, connection.transaction():
        row = connection.execute(
            "SELECT ended_ns IS NULL, drive, paused, gate_failed FROM run WHERE run_id = %s FOR UPDATE", (run_id,)
        ).fetchone()
        if row is None:
            raise no_such_run(run_id)
        live, drive, paused, gate_failed = row
        if not live:
            raise UsageError(
                f"run {run_id} is not live: there is nobody to ask to {action}",
                hint=f"`fleetops status {run_id}` shows how it stands, `fleetops resume {run_id}` goes on with it",
            )
        connection.execute(
            "INSERT INTO command (run_id, asked_ns, action, argument, asked_by) VALUES (%s, now_ns(), %s, %s, %s)",
            (run_id, action, argument, f"{getpass.getuser()}@{socket.gethostname()}"),
        )
        heard = Heard.DONE
        match action:
            case Action.PAUSE if not paused:
                connection.execute("UPDATE run SET paused = true WHERE run_id = %s", (run_id,))
                _note(connection, run_id, drive, Event.PAUSED, "by the operator")
            case Action.CONTINUE if paused:
                connection.execute(
                    "UPDATE run SET paused = false, gate_failed = false, wave = wave + %s, judge_ns = CASE WHEN %s "
                    "THEN NULL ELSE judge_ns END WHERE run_id = %s",
                    (int(gate_failed), gate_failed, run_id),
                )
                _note(connection, run_id, drive, Event.CONTINUED, "")
                if gate_failed:
                    _note(connection, run_id, drive, Event.WAVE_STARTED, "by the operator")
            case Action.ABORT:
                heard = Heard.DONE if _abandoned(connection, run_id) else Heard.NO_ANSWER
                connection.execute(
                    "UPDATE run SET stop_reason = %s, stop_detail = 'by the operator' "
                    "WHERE run_id = %s AND stop_reason IS NULL",
                    (StopReason.ABORTED, run_id),
                )
                if heard is Heard.DONE:
                    _end(connection, run_id, drive)
            case Action.RATE:
                per_s = parse_rate(argument).per_s
                connection.execute("UPDATE pace SET asked_per_s = %s WHERE run_id = %s", (per_s, run_id))
                _note(connection, run_id, drive, Event.RATE, f"{per_s:g}/s")
            case _:
                heard = Heard.NO_CHANGE
    return heard


def _abandoned(connection: Connection, run_id: str) -> bool:
    """Whether no live worker has a chunk of the run, so that nobody would see to its end."""
    row = connection.execute(
        "SELECT 1 FROM chunk c JOIN worker w ON w.worker = c.worker "
        "WHERE c.run_id = %s AND w.lease_ns > now_ns() LIMIT 1",
        (run_id,),
    ).fetchone()
    return row is None


def _end(connection: Connection, run_id: str, drive: int) -> None:
    connection.execute("UPDATE run SET ended_ns = now_ns() WHERE run_id = %s", (run_id,))
    connection.execute(
        "UPDATE drive SET ended_ns = now_ns(), end_reason = r.stop_reason, end_detail = r.stop_detail FROM run r "
        "WHERE drive.run_id = %s AND drive.drive = %s AND r.run_id = drive.run_id",
        (run_id, drive),
    )


def _note(connection: Connection, run_id: str, drive: int, event: Event, detail: str) -> None:
    connection.execute(
        "INSERT INTO event (run_id, at_ns, drive, event, detail) VALUES (%s, now_ns(), %s, %s, %s)",
        (run_id, drive, event, detail),
    )


def resume(
    url: str,
    run_id: str,
    *,
    base_url: str | None = None,
    change_policy: Callable[[Policy], Policy] = lambda policy: policy,
    alongside: bool = False,
    heed_window: bool = True,
) -> None:
    """Have a run that is over go on; its chunks are still to be offered.

    Args:
        url: The database.
        run_id: The run.
        base_url: The control plane, where it is another one now.
        change_policy: Gives the policy to go on with from the one that the run had.
        alongside: Whether other runs may be live on the same control plane.
        heed_window: Whether the policy's maintenance windows count.

    Raises:
        UsageError: There is no such run, or its waves or groups were to change.
        RunBusyError: It goes on as it is, or another run is live on its control plane.
        JournalError: The database cannot be used.
    """
    with connected(url) as connection, connection.transaction():
        row = connection.execute(
            "SELECT r.ended_ns IS NULL, r.drive, r.policy, r.base_url, d.end_reason, now_ns() FROM run r JOIN drive d "
            "USING (run_id, drive) WHERE run_id = %s FOR UPDATE OF r",
            (run_id,),
        ).fetchone()
        if row is None:
            raise no_such_run(run_id)
        live, drive, policy_json, base_url_before, end_reason, now_ns = row
        if live:
            raise RunBusyError(
                f"run {run_id} is being driven by workers",
                hint=f"watch it with `fleetops status {run_id} --watch`",
            )
        before = Policy.from_json(policy_json)
        policy = change_policy(before)
        if (policy.waves, policy.group_cap) != (before.waves, before.group_cap):
            raise UsageError(
                "a run that was cut into chunks keeps its waves and its cap on groups",
                hint="leave --waves and --group-cap out",
            )
        url_now = base_url or base_url_before
        other = connection.execute(
            "SELECT run_id FROM run WHERE ended_ns IS NULL AND base_url = %s ORDER BY run_id DESC LIMIT 1", (url_now,)
        ).fetchone()
        if other is not None and not alongside:
            raise RunBusyError(
                f"run {other[0]} is live on the same control plane: the two would share one rate",
                hint=f"wait for it (`fleetops status {other[0]} --watch`), or run `--alongside` it",
            )
        _change_settle(connection, run_id, before, policy)
        if (policy.allow, policy.deny) != (before.allow, before.deny):
            _leave_out(connection, run_id, policy, drive, now_ns)
        counted = [
            (operation, outcome, steps)
            for (operation, outcome), steps in totals(
                [Tally(*one) for one in connection.execute(_TALLIES, (run_id,))]
            ).items()
        ]
        connection.execute(
            "UPDATE run SET drive = drive + 1, ended_ns = NULL, stop_reason = NULL, stop_detail = '', paused = false, "
            "gate_failed = false, judge_ns = NULL, policy = %s, base_url = %s, heed_window = %s, counted = %s, "
            "starts_ns = %s, wave = least(waves - 1, wave + %s), facts = %s WHERE run_id = %s",
            (
                policy.to_json(),
                url_now,
                heed_window,
                json.dumps(counted),
                starts_ns(policy, now_ns, heed_window=heed_window),
                int(end_reason == StopReason.GATE_FAILED),
                json.dumps({**_facts(connection, run_id), "base_url": url_now}),
                run_id,
            ),
        )
        connection.execute("UPDATE chunk SET state = 'open' WHERE run_id = %s AND state = 'shut'", (run_id,))
        connection.execute(
            "UPDATE pace SET asked_per_s = %s, burst = %s, outage_since_ns = NULL, outage_until_ns = NULL, "
            "throttled_since_ns = NULL WHERE run_id = %s",
            (policy.rate.per_s, policy.burst, run_id),
        )
        connection.execute(MAKE_GATE, (url_now,))
        connection.execute(
            "INSERT INTO drive (run_id, drive, version, started_ns, policy) VALUES (%s, %s, %s, %s, %s)",
            (run_id, drive + 1, __version__, now_ns, policy.to_json()),
        )
        _note(connection, run_id, drive + 1, Event.RESUMED, f"after {str(end_reason).replace('_', ' ')}")


def _leave_out(connection: Connection, run_id: str, policy: Policy, drive: int, now_ns: int) -> None:
    """End the open steps of the devices that the policy leaves out; a later policy does not let them in again."""
    devices = connection.execute("SELECT device, serial FROM device WHERE run_id = %s", (run_id,)).fetchall()
    number_of = [device for device, _ in devices]
    left_out = {number_of[at]: reason for at, reason in excluded(policy, [serial for _, serial in devices]).items()}
    connection.execute(
        _LEAVE_OUT,
        {
            "run_id": run_id,
            "drive": drive,
            "now_ns": now_ns,
            "devices": list(left_out),
            "reasons": list(left_out.values()),
            "may_have_run": [kind for kind in ReplyKind if kind.may_have_run],
        },
    )
    connection.execute("SELECT count_again(%s)", (run_id,))


def _facts(connection: Connection, run_id: str) -> dict[str, Any]:
    row = connection.execute("SELECT facts FROM run WHERE run_id = %s", (run_id,)).fetchone()
    assert row is not None, "the row is locked"  # noqa: S101 - what FOR UPDATE promises
    facts: dict[str, Any] = json.loads(row[0])
    return facts


def _change_settle(connection: Connection, run_id: str, before: Policy, policy: Policy) -> None:
    for operation in OPERATIONS:
        given = {
            "run_id": run_id,
            "operation": operation,
            "before": before.settle.after_ns(operation),
            "after": policy.settle.after_ns(operation),
        }
        if given["before"] != given["after"]:
            connection.execute(_SETTLE, given)
