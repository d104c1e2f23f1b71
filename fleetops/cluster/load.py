"""A chunk as the database has it, ready for a scheduler."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fleetops.model import CODE_OF, NS_PER_S, OUTCOMES, Outcome, Reason, ReplyKind, Steps
from fleetops.scheduler import Progress, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from fleetops.policy import Policy

_SKIPPED: Final = OUTCOMES.index(Outcome.SKIPPED) + 1
_COUNTS_AS_FAILURE: Final = frozenset({ReplyKind.NOT_REACHED, ReplyKind.MAYBE})
_DEVICES: Final = (
    "SELECT device, serial, grp, not_before_ns FROM device WHERE run_id = %s AND chunk = %s ORDER BY device"
)
_STEPS: Final = "SELECT step, device, operation, settle_ns FROM step WHERE run_id = %s AND chunk = %s ORDER BY step"
_RESULTS: Final = "SELECT step, outcome, reason FROM result WHERE run_id = %s AND chunk = %s"
_ATTEMPTS: Final = (
    "SELECT step, attempt, intent_ns, sent_ns, answered_ns, kind, reason FROM attempt "
    "WHERE run_id = %s AND chunk = %s ORDER BY step, attempt"
)
_HOLD: Final = "SELECT hold_ns FROM run JOIN gate USING (base_url) WHERE run_id = %s"
_GROUP_MATES: Final = """
SELECT d.device, d.serial, d.grp,
       coalesce(max(coalesce(a.answered_ns, coalesce(a.sent_ns, a.intent_ns) + %(lost_ns)s) + s.settle_ns), 0)
FROM device d
LEFT JOIN step s USING (run_id, chunk, device)
LEFT JOIN attempt a ON (a.run_id, a.chunk, a.step) = (s.run_id, s.chunk, s.step)
     AND (a.kind IS NULL OR a.kind IN ('accepted', 'maybe', 'bad_reply'))
WHERE d.run_id = %(run_id)s AND d.chunk <> %(chunk)s AND d.grp <> ''
  AND d.grp IN (SELECT grp FROM device WHERE run_id = %(run_id)s AND chunk = %(chunk)s)
GROUP BY d.device, d.serial, d.grp ORDER BY d.device
"""


class AttemptRow(NamedTuple):
    """A row of the table of attempts."""

    step: int
    attempt: int
    intent_ns: int
    sent_ns: int | None
    answered_ns: int | None
    kind: str | None
    reason: str | None


class Mate(NamedTuple):
    """A device of another chunk, in a group of which this chunk has devices, and when it will have settled."""

    device: int
    serial: str
    group: str
    until_ns: int


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """What the database has of a chunk, steps and devices by their numbers in the campaign."""

    devices: Sequence[tuple[int, str, str, int]]
    steps: Sequence[tuple[int, int, str, int]]
    results: Sequence[tuple[int, str, str | None]]
    attempts: Sequence[AttemptRow]
    hold_until_ns: int = 0
    mates: Sequence[Mate] = ()


@dataclass(frozen=True, slots=True)
class LoadedChunk:
    """A chunk as a scheduler takes it: its steps are numbered from 0.

    Attributes:
        numbers: By step here, its number in the campaign.
        steps: What is to be done; after the chunk's own steps come those, done, of devices in its groups that other
            chunks have.
        progress: What was done so far.
    """

    numbers: array[int]
    steps: Steps
    progress: Progress


async def read_chunk(connection: psycopg.AsyncConnection[Any], run_id: str, chunk: int, policy: Policy) -> ChunkRows:
    """Read a chunk's rows; called by whoever holds it."""
    key = (run_id, chunk)
    devices = await (await connection.execute(_DEVICES, key)).fetchall()
    steps = await (await connection.execute(_STEPS, key)).fetchall()
    results = await (await connection.execute(_RESULTS, key)).fetchall()
    attempts = await (await connection.execute(_ATTEMPTS, key)).fetchall()
    hold = await (await connection.execute(_HOLD, (run_id,))).fetchone()
    mates: list[Any] = []
    if policy.group_cap is not None and policy.waves is not None:
        lost_ns = longest_in_flight_ns(policy)
        given = {"run_id": run_id, "chunk": chunk, "lost_ns": lost_ns}
        mates = await (await connection.execute(_GROUP_MATES, given)).fetchall()
    return ChunkRows(
        devices,
        steps,
        results,
        [AttemptRow(*row) for row in attempts],
        0 if hold is None else hold[0],
        [Mate(*row) for row in mates],
    )


def longest_in_flight_ns(policy: Policy) -> int:
    """How long after it was sent a request of another host may still be under way."""
    return policy.timeouts.connect_ns + policy.timeouts.read_ns


def load_chunk(rows: ChunkRows, policy: Policy, *, now_ns: int) -> LoadedChunk:
    """Make of a chunk's rows what a scheduler goes on from."""
    here = {number: device for device, (number, *_) in enumerate(rows.devices)}
    local = {number: step for step, (number, *_) in enumerate(rows.steps)}
    codes = {operation.value: code for operation, code in CODE_OF.items()}
    serials = [serial for _, serial, _, _ in rows.devices] + [mate.serial for mate in rows.mates]
    groups = [group for _, _, group, _ in rows.devices] + [mate.group for mate in rows.mates]
    # Every device has a step: one of another chunk has one here that is done.
    beside = range(len(rows.devices), len(serials))
    steps = Steps(
        serials=serials,
        groups=groups if any(groups) else (),
        device_of=array("I", (*(here[device] for _, device, _, _ in rows.steps), *beside)),
        operation_of=bytes((*(codes[operation] for _, _, operation, _ in rows.steps), *bytes(len(beside)))),
        settle_ns_of=array("q", (*(settle_ns for *_, settle_ns in rows.steps), *bytes(len(beside)))),
    )
    outcomes = bytearray(len(rows.steps)) + bytes([_SKIPPED]) * len(beside)
    code_of = {outcome.value: code for code, outcome in enumerate(OUTCOMES, start=1)}
    given = {local[number]: reason for number, _, reason in rows.results}
    for number, outcome, _ in rows.results:
        outcomes[local[number]] = code_of[outcome]
    troubles, lost = _troubles(rows.attempts, local, outcomes, now_ns)
    after_finished, after_any = _settling(rows, local, here, steps, outcomes, longest_in_flight_ns(policy), now_ns)
    for number, mate in enumerate(rows.mates, start=len(rows.devices)):
        if mate.until_ns > now_ns:
            after_any[number] = mate.until_ns
    progress = Progress(
        outcomes=outcomes,
        troubles=troubles,
        lost=lost,
        not_before_ns=after_finished,
        disturbed_until_ns=after_any,
        hold_until_ns=rows.hold_until_ns,
        unconfirmed=_unconfirmed(rows.attempts, local, steps, outcomes, troubles, given, policy),
    )
    return LoadedChunk(array("I", (number for number, *_ in rows.steps)), steps, progress)


def _troubles(
    attempts: Sequence[AttemptRow], local: Mapping[int, int], outcomes: bytearray, now_ns: int
) -> tuple[dict[int, Trouble], list[int]]:
    """What open steps have behind them, and those that were left without an answer."""
    troubles: dict[int, Trouble] = {}
    lost: list[int] = []
    for row in attempts:
        step = local[row.step]
        if outcomes[step]:
            continue
        trouble = troubles.setdefault(step, Trouble(first_ns=now_ns))
        if row.kind is None:
            lost.append(step)
            continue
        kind = ReplyKind(row.kind)
        trouble.sends += 1
        trouble.failures += kind in _COUNTS_AS_FAILURE
        if kind.may_have_run:
            trouble.may_have_run = Reason(row.reason or Reason.CRASHED)
    return troubles, lost


def _settling(
    rows: ChunkRows,
    local: Mapping[int, int],
    here: Mapping[int, int],
    steps: Steps,
    outcomes: bytearray,
    lost_ns: int,
    now_ns: int,
) -> tuple[dict[int, int], dict[int, int]]:
    """By device, when it will have settled: from steps that have their outcome, and from whatever may have run."""
    after_finished: dict[int, int] = {}
    after_any: dict[int, int] = {}
    for number, _, _, not_before_ns in rows.devices:
        if not_before_ns > now_ns:
            after_finished[here[number]] = after_any[here[number]] = not_before_ns
    for row in rows.attempts:
        if row.kind is not None and not ReplyKind(row.kind).may_have_run:
            continue
        step = local[row.step]
        device = steps.device_of[step]
        left_ns = row.intent_ns if row.sent_ns is None else row.sent_ns
        over_ns = left_ns + lost_ns if row.answered_ns is None else row.answered_ns
        due_ns = min(over_ns, now_ns) + steps.settle_ns_of[step]
        if due_ns > now_ns:
            for due in (after_finished, after_any) if outcomes[step] else (after_any,):
                due[device] = max(due.get(device, 0), due_ns)
    return after_finished, after_any


def _unconfirmed(
    attempts: Sequence[AttemptRow],
    local: Mapping[int, int],
    steps: Steps,
    outcomes: bytearray,
    tried: Mapping[int, Trouble],
    reasons: Mapping[int, str | None],
    policy: Policy,
) -> dict[int, int]:
    """The accepted steps that are still to be confirmed: the last of their device that anything was done about."""
    if not policy.confirm.enabled:
        return {}
    latest = {device: step for step, device in enumerate(steps.device_of) if outcomes[step] or step in tried}
    wanted = frozenset(policy.confirm.operations)
    found: dict[int, int] = {}
    for row in attempts:
        step = local[row.step]
        open_still = outcomes[step] == 1 and reasons[step] is None and row.kind == ReplyKind.ACCEPTED
        if open_still and latest[steps.device_of[step]] == step and steps.operation(step) in wanted:
            found[step] = row.sent_ns if row.sent_ns is not None else row.intent_ns
    return found


def wait_for_strays(loaded: LoadedChunk, rows: ChunkRows, policy: Policy) -> LoadedChunk:
    """The chunk, with devices left alone whose last request may still be under way from a host that was cut off.

    That host sends nothing new once its lease is over, but what it had sent before may arrive as late as its timeouts
    allow; and a device has one step at a time.
    """
    progress, local = loaded.progress, {number: step for step, number in enumerate(loaded.numbers)}
    not_before_ns = dict(progress.not_before_ns)
    for row in rows.attempts:
        step = local[row.step]
        if row.kind is None and not progress.outcomes[step]:
            device = loaded.steps.device_of[step]
            over_ns = row.intent_ns + longest_in_flight_ns(policy) + NS_PER_S
            not_before_ns[device] = max(not_before_ns.get(device, 0), over_ns)
    return replace(loaded, progress=replace(progress, not_before_ns=not_before_ns))
