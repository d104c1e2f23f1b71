"""The state machine of a run: what to send now, when to look again, and what an answer changes.

It has no clock, no socket and no chance in it: `now_ns` (nanoseconds since the epoch, never going back
within one process) is passed in, and jitter is a hash. The runner and the simulation drive the same object:

    next(now)            -> Send | Wait | Done
    answer(step, reply)  -> what became of the step, and what that does to its device and the run
    withdraw(step)       -> the send did not leave after all
    stop(reason)         -> nothing more is sent

A device is in exactly one place: in flight, ready (a heap by `Sequences.rank`), waiting for a moment (a heap
by time: it settles or backs off), or at its end. A step is open until `Finish` or `Skip` names it, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from fleetops.model import GOOD, NS_PER_S, OUTCOMES, Outcome, Reason, ReplyKind
from fleetops.policy.adaptive import AdaptiveRate
from fleetops.policy.backoff import RetryRule
from fleetops.policy.settings import OnFailure
from fleetops.scheduler.instructions import (
    Done,
    Effect,
    Finish,
    Hold,
    Instruction,
    Retry,
    Send,
    Skip,
    Stop,
    StopReason,
    Wait,
)
from fleetops.scheduler.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fleetops.model import Reply, Steps
    from fleetops.policy import Policy

_SKIP_REASON: Final = {
    Outcome.FAILED: Reason.EARLIER_STEP_FAILED,
    Outcome.UNKNOWN: Reason.EARLIER_STEP_UNKNOWN,
}
_STOPPING: Final = {
    ReplyKind.TOKEN_REFUSED: StopReason.TOKEN_REFUSED,
    ReplyKind.MISDIRECTED: StopReason.MISDIRECTED,
}


@dataclass(slots=True)
class Trouble:
    """What an open step has behind it, kept only for steps whose first send did not settle the matter.

    Attributes:
        sends: Attempts that left.
        failures: Those of them that count against the retries.
        first_ns: When the first one left.
        may_have_run: Why it may have run already; None where it cannot have.
    """

    sends: int = 0
    failures: int = 0
    first_ns: int = 0
    may_have_run: Reason | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What earlier processes left of a run.

    Attributes:
        outcomes: Final outcomes by step, each an index into `OUTCOMES` plus one; 0 where the step is open.
            Empty where all are.
        troubles: Open steps that were sent before, those in `lost` included.
        lost: Open steps with an intent and no answer; each has to be answered before anything is sent.
        not_before_ns: By device, when its settle time after an earlier step ends.
        hold_until_ns: When the run's hold ends.
    """

    outcomes: bytes | bytearray = b""
    troubles: Mapping[int, Trouble] = field(default_factory=dict)
    lost: Collection[int] = ()
    not_before_ns: Mapping[int, int] = field(default_factory=dict)
    hold_until_ns: int = 0


class Scheduler:
    """Drives a campaign's steps; see the module's docstring.

    Attributes:
        counts: Steps by final outcome.
        hold_until_ns: No sends before this moment.
    """

    def __init__(self, steps: Steps, policy: Policy, run_key: bytes, progress: Progress | None = None) -> None:
        progress = progress or Progress()
        self._steps = steps
        self._policy = policy
        self._sequences = Sequences(steps)
        self._retry_rule = RetryRule(policy.retries, run_key)
        self._rate = AdaptiveRate(policy.rate.per_s)
        self._throttled_since_ns: int | None = None
        self._stop: StopReason | None = None
        self._troubles = dict(progress.troubles)
        self._in_flight: dict[int, int] = dict.fromkeys(progress.lost, 0)
        self._ready: list[int] = []
        self._timers: list[tuple[int, int]] = []
        self.hold_until_ns = progress.hold_until_ns
        self.counts = dict.fromkeys(Outcome, 0)
        self._place_devices(progress)

    def _place_devices(self, progress: Progress) -> None:
        sequences = self._sequences
        outcomes = progress.outcomes or bytes(len(self._steps))
        for device in range(sequences.devices):
            step = sequences.current(device)
            while step is not None and outcomes[step]:
                sequences.advance(device)
                step = sequences.current(device)
            if step is None or step in self._in_flight:
                continue
            due_ns = progress.not_before_ns.get(device)
            if due_ns is None:
                self._ready.append(sequences.rank(device))
            else:
                self._timers.append((due_ns, device))
        heapify(self._ready)
        heapify(self._timers)
        for code, outcome in enumerate(OUTCOMES, start=1):
            self.counts[outcome] += outcomes.count(code)

    @property
    def in_flight(self) -> int:
        """Requests that were told to be sent and are not answered."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """Devices that settle or back off."""
        return len(self._timers)

    @property
    def ready(self) -> int:
        """Devices whose next step could be sent now."""
        return len(self._ready)

    @property
    def per_s(self) -> float:
        """The rate to send at, in operations per second: the one asked for, or less after 429s."""
        return self._rate.per_s

    @property
    def stopping(self) -> StopReason | None:
        """Why nothing more is sent, or None while the run goes on."""
        return self._stop

    def may_send(self, now_ns: int) -> bool:
        """Whether a send that was told earlier may still leave: no stop or hold came between."""
        return self._stop is None and now_ns >= self.hold_until_ns

    def next(self, now_ns: int) -> Instruction:
        """What to do now; a `Send` is in flight from here on."""
        if self._stop is not None:
            return Wait(None) if self._in_flight else Done(self._stop)
        timers, ready = self._timers, self._ready
        while timers and timers[0][0] <= now_ns:
            heappush(ready, self._sequences.rank(heappop(timers)[1]))
        if not ready and not timers:
            return Wait(None) if self._in_flight else Done(StopReason.COMPLETE)
        if len(self._in_flight) >= self._policy.concurrency:
            return Wait(None)
        if now_ns < self.hold_until_ns:
            return Wait(self.hold_until_ns)
        if not ready:
            return Wait(timers[0][0])
        self._rate.quiet(now_ns, self.hold_until_ns)
        return self._send(Sequences.device_of_rank(heappop(ready)), now_ns)

    def _send(self, device: int, now_ns: int) -> Send:
        step = self._sequences.current(device)
        assert step is not None, "a ready device has a step"  # noqa: S101 - an invariant of this class
        self._in_flight[step] = now_ns
        trouble = self._troubles.get(step)
        return Send(step, 1 if trouble is None else trouble.sends + 1)

    def withdraw(self, step: int) -> None:
        """The send of `step` did not leave; it is ready again."""
        del self._in_flight[step]
        heappush(self._ready, self._sequences.rank(self._steps.device_of[step]))

    def stop(self, reason: StopReason) -> None:
        """Send nothing more; the first reason stands."""
        if self._stop is None:
            self._stop = reason

    def answer(self, step: int, reply: Reply, now_ns: int) -> list[Effect]:
        """What the result of the attempt in flight of `step` changes, at `now_ns`."""
        sent_ns = self._in_flight.pop(step)
        kind = reply.kind
        if kind is not ReplyKind.THROTTLED:
            self._throttled_since_ns = None
        if kind is ReplyKind.ACCEPTED:
            return self._finish(step, Outcome.ACCEPTED, None, now_ns)
        trouble = self._troubles.get(step)
        if trouble is None:
            trouble = self._troubles[step] = Trouble(first_ns=sent_ns)
        trouble.sends += 1
        if kind is ReplyKind.THROTTLED:
            return self._hold(step, trouble, reply, now_ns)
        if kind in _STOPPING:
            self.stop(_STOPPING[kind])
            self._again(step, now_ns)
            return [Stop(_STOPPING[kind], reply.detail)]
        trouble.failures += 1
        if kind.may_have_run:
            trouble.may_have_run = reply.reason
        if self._repeatable(step, kind):
            delay_ns = self._retry_rule.delay_ns(step, trouble.failures, now_ns - trouble.first_ns)
            if delay_ns is not None:
                self._again(step, now_ns + delay_ns)
                return [Retry(step, now_ns + delay_ns)]
        return self._give_up(step, trouble, reply, now_ns)

    def _repeatable(self, step: int, kind: ReplyKind) -> bool:
        if kind is ReplyKind.MAYBE:
            return self._policy.resend.allows(self._steps.operation(step))
        return kind is ReplyKind.NOT_REACHED

    def _give_up(self, step: int, trouble: Trouble, reply: Reply, now_ns: int) -> list[Effect]:
        """Failed where it cannot have run, else unknown; a device that does not exist has run nothing."""
        may_have_run = trouble.may_have_run
        if may_have_run is None or reply.reason is Reason.NOT_FOUND:
            return self._finish(step, Outcome.FAILED, reply.reason, now_ns)
        return self._finish(step, Outcome.UNKNOWN, may_have_run, now_ns)

    def _again(self, step: int, due_ns: int) -> None:
        heappush(self._timers, (due_ns, self._steps.device_of[step]))

    def _hold(self, step: int, trouble: Trouble, reply: Reply, now_ns: int) -> list[Effect]:
        """429: the run holds, the rate falls, and the step's time does not run while it waits."""
        settings = self._policy.throttling
        self._rate.throttled(now_ns)
        asked_s = reply.retry_after_s
        hold_ns = settings.hold_ns if asked_s is None else round(min(asked_s, 1e9) * NS_PER_S)
        until_ns = now_ns + min(hold_ns, settings.longest_hold_ns)
        self.hold_until_ns = max(self.hold_until_ns, until_ns)
        trouble.first_ns += until_ns - now_ns
        self._again(step, until_ns)
        if self._throttled_since_ns is None:
            self._throttled_since_ns = now_ns
        if now_ns - self._throttled_since_ns >= settings.give_up_ns:
            self.stop(StopReason.THROTTLED)
            return [Hold(self.hold_until_ns), Stop(StopReason.THROTTLED, reply.detail)]
        return [Hold(self.hold_until_ns)]

    def _finish(self, step: int, outcome: Outcome, reason: Reason | None, now_ns: int) -> list[Effect]:
        trouble = self._troubles.pop(step, None)
        device = self._steps.device_of[step]
        self.counts[outcome] += 1
        effects: list[Effect] = [Finish(step, outcome, reason)]
        if outcome not in GOOD and self._policy.on_failure is OnFailure.SKIP_REST:
            rest = self._sequences.drop_rest(device)
            if rest:
                self.counts[Outcome.SKIPPED] += len(rest)
                effects.append(Skip(rest, _SKIP_REASON[outcome]))
        elif self._sequences.advance(device):
            disturbed = outcome is not Outcome.FAILED or (trouble is not None and trouble.may_have_run is not None)
            settle_ns = self._steps.settle_ns_of[step] if disturbed else 0
            heappush(self._timers, (now_ns + settle_ns, device))
        return effects
