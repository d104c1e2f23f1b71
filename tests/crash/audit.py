"""What a campaign's three records say of each other: the sandbox's request log, the journal and the report."""

from __future__ import annotations

import csv
import json
import sqlite3
from bisect import bisect_right
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

NS_PER_S: Final = 1_000_000_000
RESENDABLE: Final = frozenset({"sync", "reconf"})
"""What the policy lets be sent again after it may have run."""

_FINAL: Final = frozenset({"accepted", "bad_reply", "refused"})
"""Kinds of answer after which a step is never sent again, whatever its operation."""
_THROTTLED: Final = 429
_JITTER_S: Final = 0.05
"""How much later one request than another may at least be read by a sandbox that shares its cores."""
_STRAY: Final = 2


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the sandbox read it.

    Attributes:
        at_ns: When, by the monotonic clock of the host.
        serial: The device.
        operation: What was asked for; empty where the sandbox refused before it looked.
        status: What was answered; None where nothing was.
        fault: The fault it met, or empty.
        processed: Whether the operation was started.
        operation_id: The id that it was given.
    """

    at_ns: int
    serial: str
    operation: str
    status: int | None = 200
    fault: str = ""
    processed: bool = True
    operation_id: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the manifest."""

    serial: str
    operation: str
    settle_ns: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the journal's table of attempts; times are since boot.

    One that its process did not live to see answered has `crashed` for a reason, and the time at which a later process
    found it so.
    """

    step: int
    attempt: int
    process: int
    intent_ns: int
    sent_ns: int | None = None
    answered_ns: int | None = None
    kind: str | None = None
    reason: str | None = None
    operation_id: str | None = None

    @property
    def final(self) -> bool:
        """Whether the step must not be sent after this answer, whatever its operation."""
        return self.kind in _FINAL


@dataclass(frozen=True, slots=True)
class JournalCopy:
    """What the audit needs of a journal, steps by number."""

    steps: Sequence[Step]
    attempts: Sequence[Attempt]
    outcomes: dict[int, str]
    rate_per_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far the journal was when a process had been killed.

    Attributes:
        arrivals: Requests that the sandbox had logged by then.
        answered: Steps with a final answer, or an outcome, in the journal.
    """

    arrivals: int
    answered: frozenset[int]


@dataclass(slots=True)
class Findings:
    """What an audit found.

    Attributes:
        breaches: What must not be, one sentence each.
        resent: Arrivals of steps that were answered before, each a breach.
        lost: Manifest rows without a report row, and arrivals without an intent, each a breach.
    """

    breaches: list[str] = field(default_factory=list)
    resent: int = 0
    lost: int = 0


def read_arrivals(log: Path) -> list[Arrival]:
    """The operations in a sandbox's log, in the order in which they were read."""
    if not log.exists():
        return []
    rows = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    names = Arrival.__slots__
    return [Arrival(**{name: row[name] for name in names}) for row in rows if row["method"] == "PUT"]


def read_journal(path: Path) -> JournalCopy:
    """What a journal holds."""
    with closing(sqlite3.connect(path)) as connection:
        policy: dict[str, Any] = json.loads(_fact(connection, "policy"))
        rows = connection.execute(
            "SELECT serial, operation, settle_ns FROM step JOIN device USING (device) ORDER BY step"
        )
        attempts = connection.execute(
            "SELECT step, attempt, process, intent_ns - w, sent_ns - w, answered_ns - w, kind, reason, operation_id "
            "FROM (SELECT a.*, p.wall_minus_boot_ns AS w FROM attempt a JOIN process p USING (process)) "
            "ORDER BY step, attempt"
        )
        return JournalCopy(
            [Step(*row) for row in rows],
            [Attempt(*row) for row in attempts],
            dict(connection.execute("SELECT step, outcome FROM result").fetchall()),
            float(policy["rate"].removesuffix("/s")),
        )


def _fact(connection: sqlite3.Connection, key: str) -> str:
    return str(connection.execute("SELECT value FROM run WHERE key = ?", (key,)).fetchone()[0])


def read_report(path: Path) -> list[dict[str, str]]:
    """The rows of a report in CSV."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def snapshot(journal: JournalCopy, arrivals: int) -> Snapshot:
    """How far a journal is."""
    answered = {attempt.step for attempt in journal.attempts if attempt.final} | set(journal.outcomes)
    return Snapshot(arrivals, frozenset(answered))


def audit(
    arrivals: Sequence[Arrival],
    journal: JournalCopy,
    report: Sequence[dict[str, str]],
    snapshots: Iterable[Snapshot] = (),
) -> Findings:
    """What the records of a campaign that is done say of each other; a device has each operation once.

    Args:
        arrivals: What the sandbox received, in order.
        journal: The journal in the end.
        report: The report's rows.
        snapshots: How the journal was at moments in between.
    """
    step_of = {(step.serial, step.operation): number for number, step in enumerate(journal.steps)}
    of_step: dict[int, list[Arrival]] = defaultdict(list)
    strays = []
    for arrival in arrivals:
        step = step_of.get((arrival.serial, arrival.operation))
        strays.append(arrival) if step is None else of_step[step].append(arrival)
    tries: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in journal.attempts:
        tries[attempt.step].append(attempt)

    resent = [*_resent_after_snapshot(arrivals, step_of, snapshots), *_resent_after_answer(of_step, tries)]
    lost = [*_without_intent(strays, of_step, tries), *_without_row(journal, report)]
    others = [
        *_repeated(of_step, tries, journal),
        *_misreported(of_step, tries, journal, report),
        *_out_of_turn(arrivals, step_of, journal),
        *_overlapping(journal),
        *_too_fast(arrivals, journal),
    ]
    return Findings([*resent, *lost, *others], len(resent), len(lost))


def _resent_after_snapshot(
    arrivals: Sequence[Arrival], step_of: dict[tuple[str, str], int], snapshots: Iterable[Snapshot]
) -> Iterator[str]:
    """Whatever arrived for a step after a journal that had its answer was seen."""
    answered: set[int] = set()
    seen = sorted(snapshots, key=lambda snapshot: snapshot.arrivals)
    for number, arrival in enumerate(arrivals):
        while seen and seen[0].arrivals <= number:
            answered |= seen.pop(0).answered
        step = step_of.get((arrival.serial, arrival.operation))
        if step in answered:
            yield f"step {step} was sent again after a crash, and the journal had its answer"


def _resent_after_answer(of_step: dict[int, list[Arrival]], tries: dict[int, list[Attempt]]) -> Iterator[str]:
    for step, attempts in tries.items():
        for attempt in attempts:
            if attempt.final and attempt is not attempts[-1]:
                yield f"step {step} has an intent after attempt {attempt.attempt} was answered for good"
            ids = [str(arrival.operation_id) for arrival in of_step[step]]
            if attempt.kind == "accepted" and attempt.operation_id in ids and ids[-1] != attempt.operation_id:
                yield f"step {step} arrived again after operation {attempt.operation_id} was accepted"


def _without_intent(
    strays: Sequence[Arrival], of_step: dict[int, list[Arrival]], tries: dict[int, list[Attempt]]
) -> Iterator[str]:
    for arrival in strays:
        yield f"{arrival.operation or 'something'} arrived for {arrival.serial}, which the manifest does not have"
    for step, arrived in of_step.items():
        sends = sum(attempt.kind != "not_reached" for attempt in tries[step])
        if len(arrived) > sends:
            yield f"step {step} arrived {len(arrived)} times, with {sends} intents that can have left"


def _without_row(journal: JournalCopy, report: Sequence[dict[str, str]]) -> Iterator[str]:
    wanted = [(str(row), step.serial, step.operation) for row, step in enumerate(journal.steps, start=1)]
    found = [(row["row"], row["serial_number"], row["operation"]) for row in report]
    if found != wanted:
        counts = Counter(wanted)
        counts.subtract(found)
        wrong = {row: count for row, count in counts.items() if count}
        yield f"the report does not have the manifest's rows in their order: {str(wrong)[:200]}"


def _repeated(
    of_step: dict[int, list[Arrival]], tries: dict[int, list[Attempt]], journal: JournalCopy
) -> Iterator[str]:
    for step, attempts in tries.items():
        accepted = sum(attempt.kind == "accepted" for attempt in attempts)
        if accepted > 1:
            yield f"step {step} was accepted {accepted} times"
    for step, arrived in of_step.items():
        operation = journal.steps[step].operation
        if operation in RESENDABLE:
            continue
        for arrival in arrived[:-1]:
            if arrival.status != _THROTTLED:
                met = arrival.fault or arrival.status
                yield f"step {step} ({operation}) was sent again after it may have run ({met})"


def _misreported(
    of_step: dict[int, list[Arrival]],
    tries: dict[int, list[Attempt]],
    journal: JournalCopy,
    report: Sequence[dict[str, str]],
) -> Iterator[str]:
    for step, row in zip(range(len(journal.steps)), report, strict=False):
        outcome, arrived = row["outcome"], of_step[step]
        started = any(arrival.processed for arrival in arrived)
        answered = any(attempt.kind == "accepted" for attempt in tries[step])
        lost = arrived and arrived[-1].status != _THROTTLED and not answered
        if journal.steps[step].operation not in RESENDABLE and lost and outcome != "unknown":
            yield f"step {step} is reported {outcome}, and the answer to its last request was lost"
        match outcome:
            case "accepted" if not (started and answered):
                yield f"step {step} is reported accepted, and was not"
            case "failed" if started:
                yield f"step {step} is reported failed, and was started"
            case "skipped" | "not_started" if arrived:
                yield f"step {step} is reported {outcome}, and was sent"
            case "unknown" if answered or not tries[step]:
                yield f"step {step} is reported unknown, and is not"


def _out_of_turn(
    arrivals: Sequence[Arrival], step_of: dict[tuple[str, str], int], journal: JournalCopy
) -> Iterator[str]:
    """Steps of a device before an earlier one, or before the device had settled from it, as the sandbox saw it."""
    latest: dict[str, tuple[int, int]] = {}
    for arrival in arrivals:
        step = step_of.get((arrival.serial, arrival.operation))
        if step is None:
            continue
        before, at_ns = latest.get(arrival.serial, (step, 0))
        rested_ns = arrival.at_ns - at_ns
        settle_ns = journal.steps[before].settle_ns
        if step < before:
            yield f"step {step} arrived after step {before} of the same device"
        elif step > before and rested_ns < settle_ns:
            yield f"step {step} arrived {rested_ns / 1e6:.1f} ms after step {before}, not {settle_ns / 1e6:.0f} ms"
        if arrival.status != _THROTTLED:
            latest[arrival.serial] = step, arrival.at_ns


def _overlapping(journal: JournalCopy) -> Iterator[str]:
    """Attempts on a device of which one began before the other was over."""
    of_device: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in journal.attempts:
        of_device[journal.steps[attempt.step].serial].append(attempt)
    for serial, attempts in of_device.items():
        for one, other in pairwise(sorted(attempts, key=lambda attempt: attempt.intent_ns)):
            if one.reason == "crashed":
                over = other.process > one.process
            else:
                over = one.answered_ns is not None and other.intent_ns >= one.answered_ns
            if not over:
                yield f"{serial} had step {other.step} begun before step {one.step} was over"


def _too_fast(arrivals: Sequence[Arrival], journal: JournalCopy) -> Iterator[str]:
    sent = sorted(attempt.sent_ns for attempt in journal.attempts if attempt.sent_ns is not None)
    most = busiest_second(sent)
    if most > journal.rate_per_s:
        yield f"{most} requests left in a second at a rate of {journal.rate_per_s:g}/s"
    allowed = journal.rate_per_s * (1 + max(_JITTER_S, transit_spread_s(arrivals, journal))) + _STRAY
    arrived = busiest_second([arrival.at_ns for arrival in arrivals])
    if arrived > allowed:
        yield f"{arrived} requests arrived in a second at a rate of {journal.rate_per_s:g}/s"


def busiest_second(moments_ns: Sequence[int]) -> int:
    """The most moments, in ascending order, that any sliding second holds."""
    first = most = 0
    for number, moment_ns in enumerate(moments_ns):
        first = bisect_right(moments_ns, moment_ns - NS_PER_S, lo=first)
        most = max(most, number - first + 1)
    return most


def transit_spread_s(arrivals: Sequence[Arrival], journal: JournalCopy) -> float:
    """By how much longer one request took from the send to being read than another did, in seconds.

    What left in a second may arrive within a second less this, on a host whose cores are busy.
    """
    accepted = {
        (journal.steps[attempt.step].serial, attempt.operation_id): attempt.sent_ns
        for attempt in journal.attempts
        if attempt.kind == "accepted" and attempt.sent_ns is not None
    }
    transits_ns = [
        arrival.at_ns - sent_ns
        for arrival in arrivals
        if (sent_ns := accepted.get((arrival.serial, str(arrival.operation_id)))) is not None
    ]
    return (max(transits_ns) - min(transits_ns)) / NS_PER_S if transits_ns else 0.0
