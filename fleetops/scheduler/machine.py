"""The state machine of a run: what to send now, when to look again, and what an answer changes.

It has no clock, no socket and no chance in it: `now_ns` (nanoseconds since the epoch, never going back
within one process) is passed in, and jitter is a hash. The runner and the simulation drive the same object:

    next(now)                  -> Send | Wait | Done
    answer(step, reply, now)   -> what became of the step, and what that does to its device and the run
    withdraw(step)             -> the send did not leave after all
    looks(now), seen(...)      -> devices to look up in the inventory, and what was seen there
    stop, pause, go_on, set_rate: the operator

A device is in flight, watched for its return, or somewhere in the lineup. A step is open until `Finish` or `Skip` names
it; only a step that was accepted is named again, by what its confirmation came to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetops.model import GOOD, NS_PER_S, OUTCOMES, Outcome, Reason, ReplyKind
from fleetops.policy.adaptive import AdaptiveRate, Throttled
from fleetops.policy.backoff import RetryRule
from fleetops.policy.breaker import CircuitBreaker
from fleetops.policy.budget import BudgetState
from fleetops.policy.settings import OnFailure, OnGateFailed
from fleetops.policy.waves import Verdict
from fleetops.scheduler.instructions import (
    Done,
    Effect,
    Event,
    Finish,
    Hold,
    Instruction,
    Notice,
    Retry,
    Send,
    Skip,
    Stop,
    StopReason,
    Wait,
    WaitFor,
)
from fleetops.scheduler.lineup import Lineup
from fleetops.scheduler.progress import Progress, Trouble
from fleetops.scheduler.watchlist import Look, Watchlist

if TYPE_CHECKING:
    from fleetops.model import Reply, Steps
    from fleetops.policy import Policy
    from fleetops.scheduler.openings import Openings
    from fleetops.scheduler.rollout import Rollout

_SKIP_REASON: Final = {
    Outcome.FAILED: Reason.EARLIER_STEP_FAILED,
    Outcome.UNKNOWN: Reason.EARLIER_STEP_UNKNOWN,
}
_STOPPING: Final = {
    ReplyKind.TOKEN_REFUSED: StopReason.TOKEN_REFUSED,
    ReplyKind.MISDIRECTED: StopReason.MISDIRECTED,
}
_ACCEPTED: Final = ReplyKind.ACCEPTED
_THROTTLED: Final = ReplyKind.THROTTLED
_OUTCOME_ACCEPTED: Final = Outcome.ACCEPTED
"""The members that every answer is held against: looking one up on its class costs as much as the comparison."""
_NOT_ANSWERED: Final = frozenset({ReplyKind.NOT_REACHED, ReplyKind.MAYBE, ReplyKind.BAD_REPLY})
"""What a service that works does not answer; a page that a proxy puts up during maintenance may well be a 200."""
_ANSWERED: Final = tuple(OUTCOMES.index(outcome) + 1 for outcome in GOOD)
"""The codes of outcomes that only an answer of the service gives."""
_SHORTEST_HOLD_NS: Final = NS_PER_S
"""A service that throttles and says `Retry-After: 0` is not asked again and again without a pause."""
_new: Final = tuple.__new__
"""Makes a named tuple in half the time, where one is made for every send."""
_FOR_ANSWERS: Final = Wait(None)
_FOR_CONCURRENCY: Final = Wait(None, WaitFor.CONCURRENCY)


class Scheduler:
    """Drives a campaign's steps; see the module's docstring.

    Args:
        steps: What is to be done.
        policy: How.
        run_key: What makes this run's jitter its own.
        progress: What earlier processes left.
        wave_seed: What decides which devices are in which wave: the campaign's digest.
        heed_window: Whether the policy's maintenance windows count.
        breaker: Whether the service is down, where others see it too; None for a breaker of its own.
        throttled: Since when it has answered nothing but 429, where others see it too; None for the scheduler's own.

    Attributes:
        counts: Steps by final outcome.
        hold_until_ns: No sends before this moment.
        detail: Why the run was stopped or paused, in figures or in the service's words; may be empty.
    """

    def __init__(
        self,
        steps: Steps,
        policy: Policy,
        run_key: bytes,
        progress: Progress | None = None,
        *,
        wave_seed: str = "",
        heed_window: bool = True,
        breaker: CircuitBreaker | None = None,
        throttled: Throttled | None = None,
    ) -> None:
        progress = progress or Progress()
        self._steps = steps
        self._device_of = steps.device_of
        self._settle_ns_of = steps.settle_ns_of
        self._policy = policy
        self._concurrency = policy.concurrency
        self._retry_rule = RetryRule(policy.retries, run_key)
        self._rate = AdaptiveRate(policy.rate.per_s)
        answered = any(code in progress.outcomes for code in _ANSWERED)
        self._breaker = CircuitBreaker(policy.breaker, has_answered=answered) if breaker is None else breaker
        self._budgets = BudgetState(policy.abort_when)
        self._watchlist = Watchlist(policy.confirm)
        self._watches = bool(policy.confirm.enabled)
        self._lineup = Lineup(steps, policy, progress, wave_seed=wave_seed, heed_window=heed_window)
        self._throttled = Throttled() if throttled is None else throttled
        self._stop: StopReason | None = None
        self._paused = False
        self._gate_failed = False
        self._troubles = dict(progress.troubles)
        self._in_flight: dict[int, int] = dict.fromkeys(progress.lost, 0)
        self._notices: list[Notice] = []
        self.hold_until_ns = progress.hold_until_ns
        self.detail = ""
        self.counts = {outcome: progress.outcomes.count(code) for code, outcome in enumerate(OUTCOMES, start=1)}
        for step, sent_ns in progress.unconfirmed.items():
            look = Look(steps.device_of[step], step, sent_ns)
            self._watchlist.watch(look, progress.not_before_ns.get(look.device, 0))
            self._budgets.record(steps.operation_of[step], Outcome.ACCEPTED, watched=True)

    @property
    def in_flight(self) -> int:
        """Requests that were told to be sent and are not answered."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """Devices that settle, back off, or are watched for their return."""
        return self._lineup.resting + len(self._watchlist)

    @property
    def ready(self) -> int:
        """Devices whose next step waits for nothing of their own: for a slot, their wave, their group or the window."""
        return self._lineup.ready

    @property
    def per_s(self) -> float:
        """The rate to send at, in operations per second: the one asked for, or less after 429s."""
        return self._rate.per_s

    @property
    def asked_per_s(self) -> float:
        """The rate asked for, in operations per second."""
        return self._rate.asked_per_s

    @property
    def wave(self) -> tuple[int, int]:
        """The wave that was let in last, from 1, and how many there are; (1, 1) without waves."""
        rollout = self._lineup.rollout
        return (1, 1) if rollout is None else (rollout.wave + 1, rollout.waves)

    @property
    def stopping(self) -> StopReason | None:
        """Why nothing more is sent, or None while the run goes on."""
        return self._stop

    @property
    def paused(self) -> bool:
        """Whether the run waits for the operator to go on."""
        return self._paused

    def take_notices(self) -> list[Notice]:
        """What happened to the run as a whole since this was last asked."""
        notices, self._notices = self._notices, []
        return notices

    def _notice(self, now_ns: int, event: Event, detail: str = "") -> None:
        self._notices.append(Notice(now_ns, event, detail))

    def may_send(self, step: int, now_ns: int) -> bool:
        """Whether a send that was told earlier may still leave: nothing that forbids it came between."""
        if self._stop is not None or self._paused or now_ns < self.hold_until_ns or now_ns < self._breaker.until_ns:
            return False
        openings = self._lineup.openings
        return openings is None or openings.fits(now_ns, self._settle_ns_of[step])

    def next(self, now_ns: int) -> Instruction:
        """What to do now; a `Send` is in flight from here on."""
        lineup = self._lineup
        if self._stop is None:
            rollout = lineup.rollout
            if rollout is not None and rollout.judge_at_ns is not None and not self._paused:
                self._judge_wave(rollout, now_ns)
            if lineup.wake(now_ns):
                self._notice(now_ns, Event.WINDOW_OPEN)
        if self._stop is not None:
            return _FOR_ANSWERS if self._in_flight else Done(self._stop)
        # Mostly nothing is in the way, and to see that must cost little.
        if (
            len(self._in_flight) >= self._concurrency
            or now_ns < self.hold_until_ns
            or self._paused
            or self._breaker.is_open
            or lineup.openings is not None
        ):
            obstacle = self._obstacle(now_ns)
            if obstacle is not None:
                return obstacle
        step = lineup.take(now_ns)
        return self._idle(now_ns) if step is None else self._send(step, now_ns)

    def _obstacle(self, now_ns: int) -> Instruction | None:  # noqa: PLR0911 - one return an obstacle
        """What keeps every device from being sent to now; None where nothing does."""
        openings, breaker = self._lineup.openings, self._breaker
        if not self._lineup:
            return self._all_sent()
        if self._paused:
            return Wait(None, WaitFor.CONTINUE)
        if len(self._in_flight) >= self._concurrency:
            return _FOR_CONCURRENCY
        if now_ns < self.hold_until_ns:
            return Wait(self.hold_until_ns, WaitFor.HOLD)
        if breaker.is_open and (now_ns < breaker.until_ns or self._in_flight):
            return Wait(breaker.until_ns if now_ns < breaker.until_ns else None, WaitFor.OUTAGE)
        if openings is not None and not openings.is_open(now_ns):
            return self._wait_for_window(openings, now_ns)
        return None

    def _all_sent(self) -> Instruction:
        if self._in_flight:
            return _FOR_ANSWERS
        return Wait(None, WaitFor.DEVICES) if self._watchlist else Done(StopReason.COMPLETE)

    def _idle(self, now_ns: int) -> Instruction:
        """Nothing can be sent to any device now: what comes next."""
        if not self._lineup:
            return self._all_sent()
        moment = self._lineup.next_moment()
        if moment is not None:
            return moment
        if self._in_flight or self._watchlist:
            return self._all_sent()
        assert self._lineup.openings is not None, "only a window keeps the last devices"  # noqa: S101 - an invariant
        return self._wait_for_window(self._lineup.openings, now_ns)

    def _wait_for_window(self, openings: Openings, now_ns: int) -> Instruction:
        start_ns = openings.next_start_ns(now_ns, self._lineup.shortest_need_ns())
        if start_ns is not None:
            return Wait(start_ns, WaitFor.WINDOW)
        if self._watchlist:
            # To look is not to send: that devices came back is found out also when the window has closed.
            return Wait(None, WaitFor.DEVICES)
        self._notice(now_ns, Event.WINDOW_CLOSED)
        self.stop(StopReason.WINDOW_CLOSED)
        return _FOR_ANSWERS if self._in_flight else Done(StopReason.WINDOW_CLOSED)

    def _judge_wave(self, rollout: Rollout, now_ns: int) -> None:
        verdict = rollout.judge(now_ns)
        if verdict is Verdict.PASSED:
            self._notice(now_ns, Event.GATE_PASSED, rollout.explain())
            self._notice(now_ns, Event.WAVE_STARTED, self._lineup.let_in_next_wave(rollout))
        elif verdict is not None:
            self._notice(now_ns, Event.GATE_FAILED, rollout.explain())
            if self._policy.on_gate_failed is OnGateFailed.ABORT:
                self.stop(StopReason.GATE_FAILED, rollout.explain())
            else:
                self._gate_failed = True
                self.pause(now_ns, rollout.explain())

    def _send(self, step: int, now_ns: int) -> Send:
        rate = self._rate
        if rate.per_s < rate.asked_per_s:
            rate.quiet(now_ns, self.hold_until_ns)
        self._in_flight[step] = now_ns
        trouble = self._troubles.get(step) if self._troubles else None
        return _new(Send, (step, 1 if trouble is None else trouble.sends + 1))

    def withdraw(self, step: int) -> None:
        """The send of `step` did not leave; it is ready again."""
        del self._in_flight[step]
        self._lineup.give_back(self._steps.device_of[step])

    def stop(self, reason: StopReason, detail: str = "") -> None:
        """Send nothing more; the first reason stands."""
        if self._stop is None:
            self._stop = reason
            self.detail = detail

    def pause(self, now_ns: int, detail: str = "") -> None:
        """Send nothing until `go_on`."""
        if not self._paused:
            self._paused = True
            self.detail = detail
            self._notice(now_ns, Event.PAUSED, detail)

    def go_on(self, now_ns: int) -> None:
        """End a pause; one that a wave's gate made lets the next wave in."""
        if self._paused:
            self._paused = False
            self.detail = ""
            self._notice(now_ns, Event.CONTINUED)
            rollout = self._lineup.rollout
            if rollout is not None and self._gate_failed:
                self._gate_failed = False
                self._notice(now_ns, Event.WAVE_STARTED, self._lineup.let_in_next_wave(rollout))

    def set_rate(self, per_s: float, now_ns: int) -> None:
        """Ask for another rate, in operations per second."""
        self._rate.ask(per_s)
        self._notice(now_ns, Event.RATE, f"{per_s:g}/s")

    def answer(self, step: int, reply: Reply, now_ns: int) -> list[Effect]:
        """What the result of the attempt in flight of `step` changes, at `now_ns`."""
        sent_ns = self._in_flight.pop(step)
        kind = reply.kind
        if kind is not _THROTTLED:
            self._throttled.since_ns = None
        if kind not in _NOT_ANSWERED:
            outage_ns = self._breaker.answered(now_ns)
            if outage_ns:
                self._outage_over(outage_ns, now_ns)
        if kind is _ACCEPTED:
            return self._accept(step, sent_ns, now_ns)
        device = self._device_of[step]
        self._lineup.landed(device, now_ns + self._settle_ns_of[step] if kind.may_have_run else 0, now_ns)
        trouble = self._troubles.get(step)
        if trouble is None:
            trouble = self._troubles[step] = Trouble(first_ns=sent_ns)
        trouble.sends += 1
        if kind is _THROTTLED:
            return self._hold(step, trouble, reply, now_ns)
        if kind in _STOPPING:
            self._lineup.again(device, now_ns)
            return self._stopped_by(_STOPPING[kind], reply)
        if reply.retry_after_s is None:
            return self._retry(step, trouble, reply, now_ns)
        # 503 with a Retry-After: the service says when it is back, whatever is to be done about this step.
        trouble.first_ns += self._held_until_ns(reply, now_ns) - now_ns
        return [*self._retry(step, trouble, reply, now_ns), Hold(self.hold_until_ns)]

    def _stopped_by(self, reason: StopReason, reply: Reply) -> list[Effect]:
        self.stop(reason, reply.detail)
        return [Stop(reason, reply.detail)]

    def _retry(self, step: int, trouble: Trouble, reply: Reply, now_ns: int) -> list[Effect]:
        """Send the step again where that may be and there is a try left, else end it."""
        device, kind = self._steps.device_of[step], reply.kind
        if kind.may_have_run:
            trouble.may_have_run = reply.reason
        # That a process of ours died with requests under way says nothing of the service.
        telling = kind in _NOT_ANSWERED and reply.reason is not Reason.CRASHED
        service_down = telling and self._blame_service(step, now_ns)
        given_up = self._stopped_by(StopReason.OUTAGE, reply) if self._breaker.gives_up(now_ns) else []
        if not self._repeatable(step, kind):
            return [*self._give_up(step, trouble, reply, now_ns), *given_up]
        if service_down:
            due_ns = max(now_ns, self._breaker.until_ns)
            self._lineup.again(device, due_ns)
            return [Retry(step, due_ns), *given_up]
        trouble.failures += 1
        delay_ns = self._retry_rule.delay_ns(step, trouble.failures, now_ns - trouble.first_ns)
        if delay_ns is None:
            return self._give_up(step, trouble, reply, now_ns)
        self._lineup.again(device, now_ns + delay_ns)
        return [Retry(step, now_ns + delay_ns)]

    def _repeatable(self, step: int, kind: ReplyKind) -> bool:
        if kind is ReplyKind.MAYBE:
            return self._policy.resend.allows(self._steps.operation(step))
        return kind is ReplyKind.NOT_REACHED

    def _outage_over(self, outage_ns: int, now_ns: int) -> None:
        """An outage that ends is not held against any step: the time it took is given back."""
        for trouble in self._troubles.values():
            trouble.first_ns += outage_ns
        self._notice(now_ns, Event.OUTAGE_OVER, f"after {outage_ns / NS_PER_S:.0f} s")

    def _blame_service(self, step: int, now_ns: int) -> bool:
        """Whether a failure is the service's and not the step's own."""
        was_open = self._breaker.is_open
        theirs = self._breaker.failed(step, now_ns)
        if theirs is None:
            return False
        if not was_open:
            self._notice(now_ns, Event.OUTAGE, f"{len(theirs) + 1} requests failed in a row")
        for earlier in theirs:
            trouble = self._troubles.get(earlier)
            if trouble is not None and trouble.failures:
                trouble.failures -= 1
        return True

    def _give_up(self, step: int, trouble: Trouble, reply: Reply, now_ns: int) -> list[Effect]:
        """Failed where it cannot have run, else unknown; a device that does not exist has run nothing."""
        may_have_run = trouble.may_have_run
        if may_have_run is None or reply.reason is Reason.NOT_FOUND:
            return self._finish(step, Outcome.FAILED, reply.reason, now_ns)
        return self._finish(step, Outcome.UNKNOWN, may_have_run, now_ns)

    def _hold(self, step: int, trouble: Trouble, reply: Reply, now_ns: int) -> list[Effect]:
        """429: the run holds, the rate falls, and the step's time does not run while it waits."""
        settings = self._policy.throttling
        self._rate.throttled(now_ns)
        until_ns = self._held_until_ns(reply, now_ns)
        trouble.first_ns += until_ns - now_ns
        self._lineup.again(self._steps.device_of[step], until_ns)
        if self._throttled.again_ns(now_ns) >= settings.give_up_ns:
            return [Hold(self.hold_until_ns), *self._stopped_by(StopReason.THROTTLED, reply)]
        return [Hold(self.hold_until_ns)]

    def _held_until_ns(self, reply: Reply, now_ns: int) -> int:
        """Hold the run for as long as the reply asks, within bounds; when that is over."""
        settings, asked_s = self._policy.throttling, reply.retry_after_s
        hold_ns = settings.hold_ns if asked_s is None else round(min(asked_s, 1e9) * NS_PER_S)
        until_ns = now_ns + min(max(hold_ns, _SHORTEST_HOLD_NS), settings.longest_hold_ns)
        self.hold_until_ns = max(self.hold_until_ns, until_ns)
        return until_ns

    def _accept(self, step: int, sent_ns: int, now_ns: int) -> list[Effect]:
        device, lineup = self._device_of[step], self._lineup
        if self._troubles:
            self._troubles.pop(step, None)
        watched = self._watches and self._watchlist.wants(self._steps.operation(step))
        effects = self._count(step, _OUTCOME_ACCEPTED, None, watched=watched)
        due_ns = now_ns + self._settle_ns_of[step]
        if watched:
            # The device keeps its place in its group until it has come back.
            self._watchlist.watch(Look(device, step, sent_ns), due_ns)
            return effects
        if lineup.caps_groups:
            lineup.landed(device, due_ns, now_ns)
        lineup.go_on(device, due_ns, now_ns)
        return effects

    def _finish(self, step: int, outcome: Outcome, reason: Reason | None, now_ns: int) -> list[Effect]:
        """A step failed or is unknown."""
        trouble = self._troubles.pop(step)
        device = self._steps.device_of[step]
        effects = self._count(step, outcome, reason)
        if self._policy.on_failure is OnFailure.SKIP_REST:
            self._skip_rest(device, _SKIP_REASON[outcome], effects, now_ns)
        else:
            settle_ns = 0 if trouble.may_have_run is None else self._steps.settle_ns_of[step]
            self._lineup.go_on(device, now_ns + settle_ns, now_ns)
        return effects

    def _count(self, step: int, outcome: Outcome, reason: Reason | None, *, watched: bool = False) -> list[Effect]:
        self.counts[outcome] += 1
        effects: list[Effect] = [_new(Finish, (step, outcome, reason))]
        rollout = self._lineup.rollout
        if rollout is not None:
            rollout.count(self._device_of[step], outcome)
        if self._budgets.budgets:
            self._budgets.record(self._steps.operation_of[step], outcome, watched=watched)
            self._mind_budgets(effects)
        return effects

    def _mind_budgets(self, effects: list[Effect]) -> None:
        spent = self._budgets.spent()
        if spent is not None and self._stop is None:
            self.stop(StopReason.BUDGET_SPENT, spent)
            effects.append(Stop(StopReason.BUDGET_SPENT, spent))

    def _skip_rest(self, device: int, reason: Reason, effects: list[Effect], now_ns: int) -> None:
        rest = self._lineup.drop_rest(device, now_ns)
        if rest:
            self.counts[Outcome.SKIPPED] += len(rest)
            effects.append(Skip(rest, reason))

    @property
    def next_look_ns(self) -> int | None:
        """When a device is to be looked for in the inventory; None where none is."""
        return None if self._stop is not None else self._watchlist.next_look_ns

    def looks(self, now_ns: int) -> list[Look]:
        """The devices to look for in the inventory now; `seen` is to be told of each."""
        return self._watchlist.due(now_ns)

    def seen(self, look: Look, *, up: bool | None, changed_ns: int | None, now_ns: int) -> list[Effect]:
        """What the inventory says of a device, and what that changes.

        Args:
            look: What was asked for.
            up: Whether the device is up; None where the inventory could not be read.
            changed_ns: When it last went up or down, None where that is not known.
            now_ns: The time now.
        """
        came_back = self._watchlist.seen(look, up=up, changed_ns=changed_ns, now_ns=now_ns)
        if came_back is None:
            return []
        self._lineup.landed(look.device, 0, now_ns)
        if came_back:
            self.counts[Outcome.ACCEPTED] -= 1
            self.counts[Outcome.CONFIRMED] += 1
            self._budgets.confirmed(self._steps.operation_of[look.step])
            self._lineup.go_on(look.device, now_ns, now_ns)
            return [Finish(look.step, Outcome.CONFIRMED)]
        effects: list[Effect] = [Finish(look.step, Outcome.ACCEPTED, Reason.NOT_CONFIRMED)]
        if self._lineup.rollout is not None:
            self._lineup.rollout.was_not_confirmed(look.device)
        if self._policy.on_failure is OnFailure.SKIP_REST:
            self._skip_rest(look.device, Reason.NOT_CONFIRMED, effects, now_ns)
        else:
            self._lineup.go_on(look.device, now_ns, now_ns)
        self._budgets.not_confirmed(self._steps.operation_of[look.step])
        self._mind_budgets(effects)
        return effects
