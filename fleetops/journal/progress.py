"""What a process that takes up a run goes on from: the steps, and what earlier processes have left of them."""

from __future__ import annotations

from array import array
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetops.model import CODE_OF, NS_PER_S, OPERATIONS, OUTCOMES, Outcome, Reason, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.policy.pacing import longest_attempt_ns
from fleetops.scheduler import Progress, StopReason, Trouble
from fleetops.scheduler.progress import finished_steps_matter

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Iterable, Sequence

    from fleetops.journal.clock import RunClock

_FEW_ROWS: Final = 500
_NOT_ALIKE: Final = "SELECT EXISTS (SELECT 1 FROM step WHERE device <> step OR settle_ns <> ? OR operation <> ?)"
"""Whether the steps are anything else than one for each device, the same on all."""
_COUNTS_AS_FAILURE: Final = frozenset({ReplyKind.NOT_REACHED, ReplyKind.MAYBE})


def read_steps(connection: sqlite3.Connection) -> Steps:
    """The steps of a run."""
    execute = connection.execute
    # No more rows than a few are ever held: the garbage collector would go through all of them time and again.
    serials = list(chain.from_iterable(execute("SELECT serial FROM device ORDER BY device")))
    groups: Sequence[str] = ()
    if execute("SELECT EXISTS (SELECT 1 FROM device WHERE grp <> '')").fetchone()[0]:
        groups = list(chain.from_iterable(execute("SELECT grp FROM device ORDER BY device")))
    codes = {operation.value: code for operation, code in CODE_OF.items()}
    count = execute("SELECT count(*) FROM step").fetchone()[0]
    alike = execute("SELECT settle_ns, operation FROM step LIMIT 1").fetchone()
    if alike is None or not execute(_NOT_ALIKE, alike).fetchone()[0]:
        settle_ns, name = alike or (0, OPERATIONS[0].value)
        return Steps(
            serials, groups, array("I", range(count)), bytes([codes[name]]) * count, array("q", [settle_ns]) * count
        )
    device_of, settle_ns_of, operations = array("I"), array("q"), bytearray()
    rows = execute("SELECT device, settle_ns, operation FROM step ORDER BY step")
    while chunk := rows.fetchmany(_FEW_ROWS):
        of_device, settle_ns, names = zip(*chunk, strict=True)
        device_of.extend(of_device)
        settle_ns_of.extend(settle_ns)
        operations.extend(map(codes.__getitem__, names))
    return Steps(serials, groups, device_of, bytes(operations), settle_ns_of)


def read_progress(
    connection: sqlite3.Connection, clock: RunClock, policy: Policy, steps: Steps, *, now_ns: int
) -> Progress:
    """What earlier processes left of a run, for one that takes it up now, with times in terms of its clock."""
    outcomes = _outcomes(connection, len(steps))
    troubles, lost = read_troubles(connection, now_ns)
    settling = settling_devices(connection, clock, now_ns=now_ns, finished=finished_steps_matter(steps, policy))
    return Progress(
        outcomes=outcomes,
        troubles=troubles,
        lost=lost,
        not_before_ns=settling.after_finished_ns,
        disturbed_until_ns=settling.after_any_ns,
        hold_until_ns=_hold_until_ns(connection, clock, policy, now_ns),
        unconfirmed=_unconfirmed(connection, policy, steps, outcomes, troubles),
        gate_waived=last_end(connection) == StopReason.GATE_FAILED,
        left_out_since=_left_out_since(connection),
    )


def _outcomes(connection: sqlite3.Connection, steps: int) -> bytearray:
    """As `Progress.outcomes`. Nearly always, either few steps have one or few have another than `accepted`."""
    code_of: dict[str | None, int] = {outcome.value: code for code, outcome in enumerate(OUTCOMES, start=1)}
    code_of[None] = 0
    most, query = None, "SELECT step, outcome FROM result"
    if 2 * connection.execute("SELECT count(*) FROM result").fetchone()[0] > steps:
        most = Outcome.ACCEPTED.value
        query = "SELECT step, outcome FROM step LEFT JOIN result USING (step) WHERE outcome IS NOT 'accepted'"
    outcomes = bytearray([code_of[most]]) * steps
    for step, outcome in connection.execute(query):
        outcomes[step] = code_of[outcome]
    return outcomes


def _left_out_since(connection: sqlite3.Connection) -> frozenset[int]:
    """The devices that a resume has left out."""
    rows = connection.execute(
        "SELECT DISTINCT device FROM result JOIN step USING (step) "
        "WHERE outcome = 'skipped' AND reason = 'excluded' AND result.process IS NOT NULL"
    )
    return frozenset(device for (device,) in rows)


def _unconfirmed(
    connection: sqlite3.Connection, policy: Policy, steps: Steps, outcomes: bytearray, tried: Container[int]
) -> dict[int, int]:
    """The accepted steps that are still to be confirmed: the last of their device that anything was done about."""
    confirm = policy.confirm
    if not confirm.enabled:
        return {}
    latest = array("I", bytes(4 * len(steps.serials)))
    for step, device in enumerate(steps.device_of):
        if outcomes[step] or step in tried:
            latest[device] = step
    accepted = connection.execute(
        "SELECT r.step, a.sent_ns FROM result r CROSS JOIN attempt a USING (step) "
        "WHERE r.outcome = 'accepted' AND r.reason IS NULL AND a.kind = 'accepted' ORDER BY r.step"
    )
    wanted = frozenset(confirm.operations)
    return {
        step: sent_ns
        for step, sent_ns in accepted
        if latest[steps.device_of[step]] == step and steps.operation(step) in wanted
    }


def last_end(connection: sqlite3.Connection) -> str | None:
    """Why the last process that drove the run ended: a `StopReason`, or `crashed`; None where there was none."""
    row = connection.execute("SELECT end_reason FROM process ORDER BY process DESC LIMIT 1").fetchone()
    return None if row is None else str(row[0] or "crashed")


def read_troubles(connection: sqlite3.Connection, now_ns: int) -> tuple[dict[int, Trouble], list[int]]:
    """What open steps have behind them; the time a step may take in all starts anew."""
    troubles: dict[int, Trouble] = {}
    lost: list[int] = []
    rows = connection.execute(
        "SELECT step, kind, reason FROM attempt WHERE step NOT IN (SELECT step FROM result) ORDER BY step, attempt"
    )
    for step, kind_text, reason in rows:
        trouble = troubles.setdefault(step, Trouble(first_ns=now_ns))
        if kind_text is None:
            lost.append(step)
            continue
        kind = ReplyKind(kind_text)
        trouble.sends += 1
        trouble.failures += kind in _COUNTS_AS_FAILURE
        if kind.may_have_run:
            trouble.may_have_run = Reason(reason)
    return troubles, lost


def _hold_until_ns(connection: sqlite3.Connection, clock: RunClock, policy: Policy, now_ns: int) -> int:
    """The hold that an earlier process was under, or the quiet time after its last send that keeps the rate."""
    last = connection.execute(
        "SELECT boot_id, wall_minus_boot_ns, process FROM process "
        "WHERE process = coalesce((SELECT max(process) FROM attempt), (SELECT max(process) FROM process))"
    ).fetchone()
    if last is None:
        return 0
    boot, wall_minus_boot_ns, process = last
    shift_ns = clock.shift_ns(boot, wall_minus_boot_ns)
    # An attempt without an answer left at some time before now.
    last_sent_ns: int = connection.execute(
        "SELECT coalesce(max(coalesce(sent_ns, answered_ns, ?)), 0) FROM attempt WHERE process = ?",
        (now_ns - shift_ns, process),
    ).fetchone()[0]
    row = connection.execute("SELECT value FROM run WHERE key = 'hold_until_ns'").fetchone()
    spacing_ns = round(NS_PER_S / min(1.0, policy.rate.per_s))
    quiet_until_ns = min(last_sent_ns + shift_ns, now_ns) + spacing_ns
    held_until_ns = int(row[0]) + shift_ns if row else 0
    return min(max(quiet_until_ns, held_until_ns), now_ns + max(policy.throttling.longest_hold_ns, spacing_ns))


class Settling(NamedTuple):
    """When devices will have settled from what a run last told them; those that have are left out.

    Attributes:
        after_finished_ns: By device, from steps that have their outcome.
        after_any_ns: By device, from whatever may have run, steps without an outcome included: within a run these back
            off for a shorter time, towards other runs and to its group the device is disturbed.
    """

    after_finished_ns: dict[int, int]
    after_any_ns: dict[int, int]


def settling_devices(
    connection: sqlite3.Connection, clock: RunClock, *, now_ns: int, finished: bool = True
) -> Settling:
    """The devices of a journal that still settle.

    Args:
        connection: The journal, of this run or of another.
        clock: The clock whose terms the times are wanted in.
        now_ns: The time now.
        finished: Whether steps that have their outcome count.
    """
    frames: dict[int, tuple[int, int]] = {}
    for process, boot, wall_minus_boot_ns, policy_json in connection.execute(
        "SELECT process, boot_id, wall_minus_boot_ns, policy FROM process"
    ):
        longest_ns = longest_attempt_ns(Policy.from_json(policy_json))
        frames[process] = (clock.shift_ns(boot, wall_minus_boot_ns), longest_ns)
    settling = Settling({}, {})
    # Coarse, so that one pass over the attempts does for all processes: settled in the terms of whichever of them.
    settled_ns = now_ns - max((shift_ns + lost_ns for shift_ns, lost_ns in frames.values()), default=0)
    longest_settle_ns = int(connection.execute("SELECT value FROM run WHERE key = 'longest_settle_ns'").fetchone()[0])
    rows = connection.execute(
        "SELECT s.device, s.settle_ns, a.process, a.answered_ns, coalesce(a.sent_ns, a.intent_ns) AS left_ns, "
        "r.step IS NOT NULL FROM attempt a CROSS JOIN step s USING (step) LEFT JOIN result r USING (step) "
        "WHERE (a.kind IS NULL OR a.kind IN ('accepted', 'maybe', 'bad_reply')) "
        # What is known of the attempt alone comes first, and spares most of them the look at their steps.
        "AND (? OR a.step NOT IN (SELECT step FROM result)) "
        "AND coalesce(a.answered_ns, a.sent_ns, a.intent_ns) > ? "
        "AND coalesce(a.answered_ns, a.sent_ns, a.intent_ns) + s.settle_ns > ?",
        (finished, settled_ns - longest_settle_ns, settled_ns),
    )
    for device, settle_ns, process, answered_ns, left_ns, has_outcome in rows:
        shift_ns, lost_ns = frames[process]
        over_ns = (left_ns + lost_ns if answered_ns is None else answered_ns) + shift_ns
        if over_ns + settle_ns > now_ns:
            due_ns = min(over_ns, now_ns) + settle_ns
            for due in settling if has_outcome else settling[1:]:
                due[device] = max(due.get(device, 0), due_ns)
    return settling


def unfinished_serials(connection: sqlite3.Connection) -> Iterable[str]:
    """The serial numbers of the devices that have a step without an outcome."""
    rows = connection.execute(
        "SELECT serial FROM device WHERE device IN "
        "(SELECT device FROM step LEFT JOIN result USING (step) WHERE result.step IS NULL)"
    )
    return (serial for (serial,) in rows)
