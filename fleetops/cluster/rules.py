"""What holds for a run as a whole, whoever runs its chunks: when it stops, when a wave is let in, when it is over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fleetops.model import GOOD, OPERATIONS, Outcome
from fleetops.policy.budget import BudgetState, Measure
from fleetops.policy.settings import AtEnd, OnGateFailed
from fleetops.policy.waves import Verdict
from fleetops.scheduler import Event, StopReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetops.policy import Policy

NOT_CONFIRMED: Final = "not_confirmed"
"""How a step is tallied that was accepted, and whose device did not come back in time."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Steps of one wave and operation that came to the same.

    Attributes:
        wave: The wave.
        operation: The operation's code.
        outcome: An `Outcome`, or `not_confirmed`.
        steps: How many.
        last_ns: When the last of them finished.
    """

    wave: int
    operation: int
    outcome: str
    steps: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands.

    Attributes:
        wave: The last wave that was let in, from 0.
        waves: How many there are.
        judge_ns: When the wave that is done has soaked; None while that is not known.
        paused: Whether it waits for the operator.
        stop_reason: Why nothing more is sent, or None.
        stop_detail: What was said then.
        held: Chunks that a live worker has.
        chunks: Chunks by wave and state.
        tallies: What the steps came to.
        counted: Of these by operation and outcome, what its budgets do not count.
        bad: Steps that failed or may have run since the last good one, in order: operation and when.
    """

    wave: int = 0
    waves: int = 1
    judge_ns: int | None = None
    paused: bool = False
    stop_reason: StopReason | None = None
    stop_detail: str = ""
    held: int = 0
    chunks: Mapping[tuple[int, str], int] = field(default_factory=dict)
    tallies: Sequence[Tally] = ()
    counted: Mapping[tuple[int, str], int] = field(default_factory=dict)
    bad: Sequence[tuple[int, int]] = ()


@dataclass(slots=True)
class Change:
    """What has to be changed about a run.

    Attributes:
        stop: Why nothing more is to be sent, and what to say of it.
        end: Why it is over, and what to say of it.
        judge_ns: When the wave that is done is to be judged.
        next_wave: Whether the next wave is let in.
        shut: Whether all that is left waits for the next window.
        pause: Why it is to wait for the operator.
        events: What has happened.
    """

    stop: tuple[StopReason, str] | None = None
    end: tuple[StopReason, str] | None = None
    judge_ns: int | None = None
    next_wave: bool = False
    shut: bool = False
    pause: str | None = None
    events: list[tuple[Event, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.stop or self.end or self.judge_ns is not None or self.next_wave or self.shut or self.pause is not None
        )


def judge(standing: Standing, policy: Policy, now_ns: int) -> Change:
    """What follows from how a run stands."""
    change = Change()
    stopped = None
    if standing.stop_reason is not None:
        stopped = standing.stop_reason, standing.stop_detail
    elif (spent := spent_budget(standing, policy)) is not None:
        stopped = change.stop = StopReason.BUDGET_SPENT, spent
    if stopped is not None:
        if not standing.held:
            change.end = stopped
        return change
    let_in = range(standing.wave + 1)
    if any(standing.chunks.get((wave, "open")) for wave in let_in):
        return change
    if any(standing.chunks.get((wave, "shut")) for wave in let_in):
        if policy.at_end is AtEnd.WAIT:
            change.shut = True
        else:
            change.end = StopReason.WINDOW_CLOSED, ""
    elif standing.wave == standing.waves - 1:
        change.end = StopReason.COMPLETE, ""
    else:
        _judge_wave(standing, policy, now_ns, change)
    return change


def _judge_wave(standing: Standing, policy: Policy, now_ns: int, change: Change) -> None:
    judge_ns = standing.judge_ns
    if judge_ns is None:
        judge_ns = change.judge_ns = now_ns + policy.gate.soak_ns
    if standing.paused or now_ns < judge_ns:
        return
    counts = wave_counts(standing)
    explained = f"wave {standing.wave + 1} of {standing.waves}: {policy.gate.explain(*counts)}"
    if policy.gate.verdict(*counts) is Verdict.PASSED:
        change.next_wave = True
        devices = f"wave {standing.wave + 2} of {standing.waves}"
        change.events += [(Event.GATE_PASSED, explained), (Event.WAVE_STARTED, devices)]
        return
    change.events.append((Event.GATE_FAILED, explained))
    if policy.on_gate_failed is OnGateFailed.ABORT:
        change.stop = change.end = StopReason.GATE_FAILED, explained
    else:
        change.pause = explained


def wave_counts(standing: Standing) -> tuple[int, int, int]:
    """Of the wave that was let in last: the steps that were accepted, failed and are unknown."""
    counts = [0, 0, 0]
    for tally in standing.tallies:
        if tally.wave != standing.wave:
            continue
        if tally.outcome in GOOD:
            counts[0] += tally.steps
        elif tally.outcome == Outcome.FAILED:
            counts[1] += tally.steps
        elif tally.outcome in {Outcome.UNKNOWN, NOT_CONFIRMED}:
            counts[2] += tally.steps
    return counts[0], counts[1], counts[2]


def totals(tallies: Sequence[Tally]) -> Counter[tuple[int, str]]:
    """How many steps have what outcome, by operation."""
    counts: Counter[tuple[int, str]] = Counter()
    for tally in tallies:
        counts[tally.operation, tally.outcome] += tally.steps
    return counts


def spent_budget(standing: Standing, policy: Policy) -> str | None:
    """The budget that is exceeded, with its figures; None while there is room."""
    in_all: Counter[tuple[int, Outcome]] = Counter()
    for (operation, outcome), steps in totals(standing.tallies).items():
        since = steps - standing.counted.get((operation, outcome), 0)
        in_all[operation, Outcome.ACCEPTED if outcome == NOT_CONFIRMED else Outcome(outcome)] += since
    shares = [budget for budget in policy.abort_when if budget.measure is not Measure.CONSECUTIVE]
    spent = BudgetState(shares, in_all).spent()
    if spent is not None:
        return spent
    last_good_ns = {
        operation: max(
            (one.last_ns for one in standing.tallies if one.operation == operation and one.outcome in GOOD), default=0
        )
        for operation in range(len(OPERATIONS))
    }
    for budget in policy.abort_when:
        if budget.measure is Measure.CONSECUTIVE:
            codes = [code for code, one in enumerate(OPERATIONS) if budget.operation in {None, one}]
            since_ns = max(last_good_ns[code] for code in codes)
            state = BudgetState([budget])
            for operation, at_ns in standing.bad:
                if operation in codes and at_ns > since_ns:
                    state.record(operation, Outcome.FAILED)
            if state.spent() is not None:
                return state.spent()
    return None
