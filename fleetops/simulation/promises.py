"""What every run has to keep, whatever happens to it, checked on a story after the fact.

Each checker works from what left the process, what the service saw and what the journal holds; none of them asks the
scheduler. It yields a sentence for each breach.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Final

from fleetops.model import GOOD, NS_PER_S, Outcome, Reason, ReplyKind
from fleetops.policy.pacing import CATCH_UP_S
from fleetops.policy.settings import OnFailure, OnGateFailed
from fleetops.policy.waves import assign
from fleetops.policy.window import Calendar
from fleetops.scheduler import StopReason
from fleetops.simulation.engine import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetops.simulation.campaigns import Life, Run, Story

_REFUSALS: Final = frozenset({ReplyKind.TOKEN_REFUSED, ReplyKind.MISDIRECTED})
_ROUNDING: Final = 0.001
_HOLDS_BACK: Final = frozenset({ReplyKind.NOT_REACHED, ReplyKind.MAYBE, ReplyKind.THROTTLED, *_REFUSALS})
_COSTS_A_TRY: Final = frozenset({ReplyKind.NOT_REACHED, ReplyKind.MAYBE, None})


@dataclass(frozen=True, slots=True)
class Sent:
    """One request, as its sender knew it.

    Attributes:
        run: The run's place in its story.
        life: Which of the run's processes sent it.
        step: Its step.
        attempt: Its attempt.
        intent_ns: When its intent was noted.
        sent_ns: When it left.
        over_ns: When its answer came, or when its sender died.
        kind: What the answer meant; None where the sender died first.
    """

    run: int
    life: int
    step: int
    attempt: int
    intent_ns: int
    sent_ns: int
    over_ns: int
    kind: ReplyKind | None

    @property
    def may_have_run(self) -> bool:
        """Whether the operation may have been started, as far as its sender knew."""
        return self.kind is None or self.kind.may_have_run


def sends_of(run: Run, number: int = 0) -> list[Sent]:
    """Everything a run sent, in order."""
    return [
        Sent(
            number,
            life,
            trace.step[index],
            trace.attempt[index],
            trace.intent_ns[index],
            trace.sent_ns[index],
            trace.answered_ns[index] or trace.end_ns,
            trace.reply_kind(index),
        )
        for life, trace in enumerate(life.trace for life in run.lives)
        for index in range(len(trace))
    ]


def every_step_has_one_outcome(run: Run, sends: list[Sent]) -> Iterator[str]:  # noqa: ARG001 - one shape for all
    """Promise 1: a run that is complete has an outcome for each row, and the process that ended it knows the same."""
    if not run.is_complete:
        return
    outcomes = run.lives[-1].trace.outcomes
    for step, code in enumerate(outcomes):
        result = run.journal.results.get(step)
        if result is None:
            yield f"step {step} has no outcome in the journal"
        elif not code or tuple(Outcome)[code - 1] is not result.outcome:
            yield f"step {step} is {result.outcome} in the journal and something else to the process that ended"


def outcomes_are_honest(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Section 4 of the outcomes' meaning: accepted was seen to be, failed cannot have run, the rest was not sent."""
    ran = {arrival.step for arrival in run.world.arrivals if arrival.ran}
    accepted = {sent.step for sent in sends if sent.kind is ReplyKind.ACCEPTED}
    tried = {sent.step for sent in sends}
    for step, result in run.journal.results.items():
        if result.outcome in GOOD and step not in accepted:
            yield f"step {step} is {result.outcome} and was never accepted"
        if result.outcome is Outcome.FAILED and step in ran:
            yield f"step {step} is failed and has run"
        if result.outcome is Outcome.SKIPPED and step in tried:
            yield f"step {step} is skipped and was sent"


def intents_are_durable_before_sends(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 2: each send has an intent of its own that was on the disk before it left."""
    for sent in sends:
        key = (sent.step, sent.attempt)
        landed = run.journal.landed_ns.get(key, [])
        if not any(sent.intent_ns <= moment_ns <= sent.sent_ns for moment_ns in landed):
            yield f"attempt {sent.attempt} of step {sent.step} left at {sent.sent_ns} without a durable intent"
        if key not in run.journal.attempts:
            yield f"attempt {sent.attempt} of step {sent.step} left and is not in the journal"
    for first, second in pairwise(sorted((sent.step, sent.attempt) for sent in sends)):
        if first == second:
            yield f"attempt {first[1]} of step {first[0]} left twice"


def answered_steps_are_not_sent_again(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 2: nothing is sent for a step whose outcome is durable, or known to the sender."""
    known_ns: dict[tuple[int, int], int] = {}
    for sent in sends:
        durable_ns = run.journal.finished_ns.get(sent.step)
        if durable_ns is not None and durable_ns < sent.sent_ns:
            yield f"step {sent.step} had its outcome at {durable_ns} and was sent at {sent.sent_ns}"
        if (sent.life, sent.step) in known_ns:
            yield f"step {sent.step} was answered for good and sent again by the same process"
        if sent.kind in {ReplyKind.ACCEPTED, ReplyKind.REFUSED, ReplyKind.BAD_REPLY}:
            known_ns[sent.life, sent.step] = sent.over_ns


def what_may_have_run_is_resent_only_where_allowed(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 2: by the resend policy of the operation, and so the device is told twice only by it."""
    steps, resend = run.campaign.steps, run.campaign.policy.resend
    may_have_run: set[int] = set()
    for sent in sends:
        if sent.step in may_have_run and not resend.allows(steps.operation(sent.step)):
            yield f"step {sent.step} ({steps.operation(sent.step)}) may have run and was sent again"
        if sent.may_have_run:
            may_have_run.add(sent.step)
    times: dict[int, int] = defaultdict(int)
    for arrival in run.world.arrivals:
        times[arrival.step] += arrival.ran
    for step, count in times.items():
        if count > 1 and not resend.allows(steps.operation(step)):
            yield f"step {step} ({steps.operation(step)}) ran {count} times"


def tries_are_counted(run: Run, sends: list[Sent]) -> Iterator[str]:
    """No step is tried more often than the policy says, unless the service was down or throttled."""
    policy = run.campaign.policy
    tries: dict[int, int] = defaultdict(int)
    for sent in sends:
        tries[sent.step] += sent.kind in _COSTS_A_TRY
    if not policy.breaker.failures:
        for step, count in tries.items():
            if count > policy.retries.attempts:
                yield f"step {step} was tried {count} times of {policy.retries.attempts}"


def devices_do_one_step_at_a_time_in_order(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 3, first half: within a run, a device's steps follow one another."""
    latest: dict[int, Sent] = {}
    for sent in sends:
        device = run.campaign.steps.device_of[sent.step]
        before = latest.get(device)
        if before is not None and before.over_ns > sent.sent_ns:
            yield f"step {sent.step} was sent while step {before.step} of its device was under way"
        if before is not None and before.step > sent.step:
            yield f"step {sent.step} was sent after step {before.step} of its device"
        latest[device] = sent


def devices_settle(story: Story) -> Iterator[str]:
    """Promise 3, second half: a device is left alone after a step that may have run, by other runs as well."""
    until_ns: dict[str, dict[tuple[int, int], int]] = defaultdict(dict)
    by_run = [sends_of(run, number) for number, run in enumerate(story.runs)]
    for sent in merge(*by_run, key=lambda sent: sent.sent_ns):
        steps = story.runs[sent.run].campaign.steps
        settling = until_ns[steps.serial(sent.step)]
        for (run, step), settled_ns in settling.items():
            if (run, step) != (sent.run, sent.step) and sent.sent_ns < settled_ns:
                early_s = (settled_ns - sent.sent_ns) / NS_PER_S
                yield (
                    f"step {sent.step} of run {sent.run} was sent {early_s:.3f} s before its device had settled from "
                    f"step {step} of run {run}"
                )
        if sent.may_have_run:
            settled_ns = sent.over_ns + steps.settle_ns_of[sent.step]
            settling[sent.run, sent.step] = max(settled_ns, settling.get((sent.run, sent.step), 0))


def the_rate_is_kept(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 4: no sliding second carries more than the rate and the burst, whichever process sent it.

    A rate below one a second is kept over one of its periods.
    """
    policy = run.campaign.policy
    per_s = policy.rate.per_s
    size = max(1, ceil(per_s)) + policy.burst
    span_ns = NS_PER_S if per_s >= 1 else round(NS_PER_S / per_s)
    moments = [sent.sent_ns for sent in sends]
    for first_ns, beyond_ns in zip(moments, moments[size:], strict=False):
        if beyond_ns - first_ns < span_ns:
            yield f"more than {size} sends in the {span_ns / NS_PER_S:g} s from {first_ns} on"
            return


def the_average_rate_is_kept(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 4, over longer times: a burst is given once, not each time that the rate changes.

    It holds for what is taken up; what a slow disk piles up then leaves together, within the bound of a second.
    """
    policy = run.campaign.policy
    slack = 1 + policy.burst + CATCH_UP_S * policy.rate.per_s + _ROUNDING
    for life in range(len(run.lives)):
        moments = sorted(sent.intent_ns for sent in sends if sent.life == life)
        least = float("inf")
        for number, moment_ns in enumerate(moments):
            ahead = number - policy.rate.per_s * (moment_ns - moments[0]) / NS_PER_S
            least = min(least, ahead)
            if ahead - least + 1 > slack:
                yield f"process {life} took up {ahead - least + 1:.1f} at once, which is more than the rate allows"
                break


def holds_are_kept(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 4: nothing leaves before a hold is over, neither in the process that learnt of it nor in the next."""
    asked_ns = _asked_hold_ns(run)
    for number, life in enumerate(run.lives):
        moments = [sent.sent_ns for sent in sends if sent.life == number]
        throttled = [sent.over_ns for sent in sends if sent.life == number and sent.kind is ReplyKind.THROTTLED]
        for learnt_ns, until_ns in [*life.trace.holds, *((over_ns, over_ns + asked_ns) for over_ns in throttled)]:
            if any(learnt_ns < moment_ns < until_ns for moment_ns in moments):
                yield f"process {number} sent during the hold from {learnt_ns} to {until_ns}"
        if moments and moments[0] < _durable_hold_ns(run, number):
            yield f"process {number} sent during the hold that was in the journal"


def _asked_hold_ns(run: Run) -> int:
    """How long each 429 of the service has the run hold."""
    throttling, asked_s = run.campaign.policy.throttling, run.campaign.faults.retry_after_s
    hold_ns = throttling.hold_ns if asked_s is None else round(asked_s * NS_PER_S)
    return min(hold_ns, throttling.longest_hold_ns)


def _durable_hold_ns(run: Run, number: int) -> int:
    """The hold that was in the journal when a process began, as the processes before wrote it."""
    holds = [batch.hold_until_ns for process, batch in run.journal.commits if process < number]
    return max((hold_ns for hold_ns in holds if hold_ns is not None), default=0)


def concurrency_is_kept(run: Run, sends: list[Sent]) -> Iterator[str]:
    """No more requests are under way than the policy says."""
    for number, life in enumerate(run.lives):
        changes = [(sent.sent_ns, 1) for sent in sends if sent.life == number]
        changes += [(sent.over_ns, -1) for sent in sends if sent.life == number]
        under_way = 0
        for _, change in sorted(changes):
            under_way += change
            if under_way > run.campaign.policy.concurrency:
                yield f"process {number} had {under_way} requests under way"
                break
        if life.trace.most_in_flight > run.campaign.policy.concurrency:
            yield f"process {number} had {life.trace.most_in_flight} requests under way by its own count"


def nothing_is_sent_after_a_stop(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 6: a refused token, a wrong base URL, a spent budget or the operator stops new sends at once."""
    for number, life in enumerate(run.lives):
        mine = [sent for sent in sends if sent.life == number]
        stops = [sent.over_ns for sent in mine if sent.kind in _REFUSALS]
        stops += [at_ns for at_ns, order in life.orders if order in {Order.STOP, Order.CANCEL}]
        if life.trace.stopped_ns is not None:
            stops.append(life.trace.stopped_ns)
        stopped_ns = min(stops, default=None)
        if stopped_ns is not None and any(sent.sent_ns > stopped_ns for sent in mine):
            yield f"process {number} sent after it was stopped at {stopped_ns}"
        yield from _sent_while_paused(life, number, mine)


def _sent_while_paused(life: Life, number: int, sends: list[Sent]) -> Iterator[str]:
    for (from_ns, first), (until_ns, second) in pairwise(life.orders):
        paused = first is Order.PAUSE and second is Order.CONTINUE
        if paused and any(from_ns < sent.sent_ns < until_ns for sent in sends):
            yield f"process {number} sent while it was paused"


def the_rest_is_skipped(run: Run, sends: list[Sent]) -> Iterator[str]:  # noqa: ARG001 - one shape for all
    """What follows a failed or unknown step of a device is skipped, or nothing is, by the policy."""
    steps, results = run.campaign.steps, run.journal.results
    skips = run.campaign.policy.on_failure is OnFailure.SKIP_REST
    broken: dict[int, Reason] = {}
    for step in range(len(steps)):
        device, result = steps.device_of[step], results.get(step)
        if device in broken:
            if result is None or (result.outcome, result.reason) != (Outcome.SKIPPED, broken[device]):
                yield f"step {step} was not skipped after an earlier one of its device went wrong"
        elif result is not None and result.outcome is Outcome.SKIPPED:
            yield f"step {step} was skipped without a reason"
        elif result is not None and skips:
            if result.outcome is Outcome.FAILED:
                broken[device] = Reason.EARLIER_STEP_FAILED
            elif result.outcome is Outcome.UNKNOWN:
                broken[device] = Reason.EARLIER_STEP_UNKNOWN
            elif result.reason is Reason.NOT_CONFIRMED:
                broken[device] = Reason.NOT_CONFIRMED


def longest_sequences_go_first(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Of the devices that are ready from the start, those with more settle time ahead are taken first."""
    policy, steps = run.campaign.policy, run.campaign.steps
    first_life = run.lives[0]
    if policy.waves or policy.group_cap or policy.window or first_life.progress.not_before_ns:
        return
    tail_ns: dict[int, int] = {}
    for step in reversed(range(len(steps))):
        device = steps.device_of[step]
        # The settle time after a device's last step delays nothing.
        tail_ns[device] = tail_ns[device] + steps.settle_ns_of[step] + 1 if device in tail_ns else 0
    mine = [sent for sent in sends if sent.life == 0]
    # What was taken and is then held back by a failure or the operator is not seen here, and comes later.
    undisturbed_until_ns = min(
        (*(sent.over_ns for sent in mine if sent.kind in _HOLDS_BACK), *(at_ns for at_ns, _ in first_life.orders)),
        default=first_life.trace.end_ns,
    )
    taken = [sent for sent in mine if sent.sent_ns < undisturbed_until_ns]
    taken.sort(key=lambda sent: sent.intent_ns)
    order = list(dict.fromkeys(steps.device_of[sent.step] for sent in taken))
    for first, second in pairwise(order):
        if tail_ns[first] < tail_ns[second]:
            yield f"device {first} with {tail_ns[first]} ns ahead was taken before {second} with {tail_ns[second]} ns"


def windows_are_kept(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Promise 5: nothing starts outside a window, nor where it could not finish in it."""
    policy = run.campaign.policy
    if not policy.window:
        return
    calendar = Calendar(policy.window, policy.blackout)
    for sent in sends:
        opening = calendar.opening(sent.sent_ns)
        takes_ns = policy.timeouts.connect_ns + policy.timeouts.read_ns + run.campaign.steps.settle_ns_of[sent.step]
        if opening is None or sent.sent_ns + takes_ns > opening.end_ns:
            yield f"step {sent.step} was sent at {sent.sent_ns}, where it could not finish in a window"


def groups_are_capped(run: Run, sends: list[Sent]) -> Iterator[str]:
    """Of a group, no more devices are in flight or in settle than the policy says."""
    cap, steps = run.campaign.policy.group_cap, run.campaign.steps
    if cap is None:
        return
    for group in {name for name in steps.groups if name}:
        size = list(steps.groups).count(group)
        most = cap.count or max(1, size * (cap.share_ppm or 0) // 1_000_000)
        busy_until_ns: dict[int, int] = {}
        for sent in sends:
            device = steps.device_of[sent.step]
            if steps.groups[device] != group:
                continue
            settled_ns = sent.over_ns + (steps.settle_ns_of[sent.step] if sent.may_have_run else 0)
            others = sum(until_ns > sent.sent_ns for other, until_ns in busy_until_ns.items() if other != device)
            if others >= most:
                yield f"step {sent.step} was sent while {others} other devices of group {group} were disturbed"
            busy_until_ns[device] = max(settled_ns, busy_until_ns.get(device, 0))


def waves_wait_for_one_another(run: Run, sends: list[Sent]) -> Iterator[str]:
    """No device is sent to before every device of the waves before its own is done, and the last one has soaked."""
    policy, steps = run.campaign.policy, run.campaign.steps
    if policy.waves is None:
        return
    wave_of = assign(policy.waves, steps.groups, len(steps.serials), run.key.decode())
    done_ns = [0.0] * (max(wave_of) + 2)
    for step in range(len(steps)):
        wave, result = wave_of[steps.device_of[step]], run.journal.results.get(step)
        done_ns[wave + 1] = max(done_ns[wave + 1], float("inf") if result is None else result.finished_ns)
    waived = policy.on_gate_failed is OnGateFailed.PAUSE
    waived |= any(life.trace.ended is StopReason.GATE_FAILED for life in run.lives)
    soak_ns = 0 if waived else policy.gate.soak_ns
    for sent in sends:
        wave = wave_of[steps.device_of[sent.step]]
        before_ns = max(done_ns[: wave + 1])
        if sent.sent_ns < before_ns + (soak_ns if wave else 0):
            yield f"step {sent.step} of wave {wave + 1} was sent before the waves before it were done"


OF_A_RUN: Final[tuple[Callable[[Run, list[Sent]], Iterator[str]], ...]] = (
    every_step_has_one_outcome,
    outcomes_are_honest,
    intents_are_durable_before_sends,
    answered_steps_are_not_sent_again,
    what_may_have_run_is_resent_only_where_allowed,
    tries_are_counted,
    devices_do_one_step_at_a_time_in_order,
    the_rate_is_kept,
    the_average_rate_is_kept,
    holds_are_kept,
    concurrency_is_kept,
    nothing_is_sent_after_a_stop,
    the_rest_is_skipped,
    longest_sequences_go_first,
    windows_are_kept,
    groups_are_capped,
    waves_wait_for_one_another,
)


def breaches(story: Story) -> dict[str, list[str]]:
    """What a story did not keep, by the name of the promise; empty where it kept all."""
    found = {devices_settle.__name__: list(devices_settle(story))}
    for number, run in enumerate(story.runs):
        sends = sends_of(run, number)
        for promise in OF_A_RUN:
            told = [f"run {number}: {text}" for text in promise(run, sends)]
            found.setdefault(promise.__name__, []).extend(told)
    return {name: texts for name, texts in found.items() if texts}
