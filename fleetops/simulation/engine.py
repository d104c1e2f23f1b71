"""A run on a virtual clock: the real scheduler and the real pacing rules, driven by a heap of events.

The order of things is the runner's: the scheduler says what to send, the gate when to take it up, the journal
makes the intent durable, the bound of the rate lets it leave, the world answers, the scheduler is told. Nothing
waits, so an hour of a run takes as long as its events do.
"""

from __future__ import annotations

from enum import StrEnum
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from fleetops.model import Outcome, Reason, Reply, ReplyKind
from fleetops.scheduler import Done, Finish, Hold, Scheduler, Send, Skip, Stop, StopReason, Wait
from fleetops.simulation.journal import Answer
from fleetops.simulation.pace import VirtualGate
from fleetops.simulation.trace import KIND_CODE, OUTCOME_CODE, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetops.model import Steps
    from fleetops.policy import Policy
    from fleetops.scheduler import Effect, Look, Progress
    from fleetops.simulation.journal import ModelJournal
    from fleetops.simulation.world import Seen, World

_NEVER: Final = 1 << 62
_LOOK_NS: Final = 100_000_000
"""How soon a send that waits for the bound notices that it may not leave any more; the runner's own figure."""
# The kinds of events. Plain numbers, since every event of a run of millions is looked at by its kind.
_ANSWER: Final = 0
_BOUND: Final = 1
_COMMITTED: Final = 2
_ORDER: Final = 3
_LOOK: Final = 4
_SEEN: Final = 5
_CANCELLED: Final = Reply(ReplyKind.MAYBE, Reason.INTERRUPTED, detail="cancelled by the operator")
_CRASHED: Final = Reply(ReplyKind.MAYBE, Reason.CRASHED, detail="the process ended before an answer was recorded")


class StuckError(Exception):
    """A simulated run does not end: nothing will ever happen again, or far too much has."""


class Order(StrEnum):
    """What an operator tells a run.

    `STOP` is the first ctrl-C: nothing more is sent. `CANCEL` is the second: what is in flight is given up.
    """

    STOP = "stop"
    CANCEL = "cancel"
    PAUSE = "pause"
    CONTINUE = "continue"


class Engine:
    """One process's drive of a run.

    Args:
        scheduler: Decides; fresh, or with the progress of earlier processes.
        policy: What the scheduler goes by.
        world: Where requests go.
        trace: Where what happens is written.
        journal: What makes intents durable; without one they are at once.
        commit_ns: How long a commit takes.
        patience_ns: How long the operator lets a paused run wait; None for ever.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        policy: Policy,
        world: World,
        trace: Trace,
        journal: ModelJournal | None = None,
        *,
        commit_ns: int = 0,
        patience_ns: int | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._world = world
        self._trace = trace
        self._journal = journal
        self._commit_ns = commit_ns
        self._patience_ns = patience_ns
        self._confirms = policy.confirm.enabled
        self._look_ns = _NEVER
        self._columns = trace.appenders()
        self._gate = VirtualGate(policy)
        self._bound = self._gate.bound
        self._heap: list[tuple[int, int, int, int, Any]] = []
        self._numbered = 0
        self._now_ns = trace.start_ns
        self._act_ns = trace.start_ns
        self._slot_for: Send | None = None
        self._intending: dict[int, Send] = {}
        self._at_bound: dict[int, tuple[Send, int]] = {}
        self._on_wire: dict[int, int] = {}
        self._done: StopReason | None = None

    def order(self, at_ns: int, order: Order) -> None:
        """The operator will give an order."""
        self._push(at_ns, _ORDER, 0, order)

    def take_up(self) -> None:
        """Look for the devices that an earlier process was looking for."""
        if self._confirms:
            self._plan_look()

    def account_for(self, lost: Sequence[tuple[int, int]]) -> None:
        """Tell the scheduler of attempts that an earlier process left without an answer."""
        for step, attempt in lost:
            effects = self._scheduler.answer(step, _CRASHED, self._now_ns)
            self._note(Answer(step, attempt, None, self._now_ns, _CRASHED), effects)
            self._take_all(effects)

    def run(self, crash_at: int, most_events: int) -> None:
        """Go on until the run is done, or dies after `crash_at` events.

        Raises:
            StuckError: It does neither.
        """
        heap, trace = self._heap, self._trace
        events = 0
        last_event = min(crash_at, most_events)
        while self._done is None or not self._is_written():
            if events >= last_event:
                if events >= crash_at:
                    break
                raise StuckError(f"not done after {most_events} events")
            events += 1
            if heap and heap[0][0] <= self._act_ns:
                self._now_ns, _, kind, step, what = heappop(heap)
                if kind == _ANSWER:
                    self._answer(step, what)
                else:
                    self._happen(kind, step, what)
            elif self._act_ns < _NEVER:
                if self._act_ns > self._now_ns:  # noqa: PLR1730 - as in `_pass_or_wait`
                    self._now_ns = self._act_ns
                self._dispatch()
            elif self._patience_ns is not None and self._scheduler.paused:
                self.order(self._now_ns + self._patience_ns, Order.CONTINUE)
            else:
                raise StuckError("nothing is under way, and the run is not done")
        else:
            trace.ended = self._done
        trace.end_ns = self._now_ns
        trace.events = events

    def _happen(self, kind: int, step: int, what: Any) -> None:
        if kind == _BOUND:
            self._pass_bound(step)
        elif kind == _COMMITTED:
            self._committed()
        elif kind == _LOOK:
            self._look()
        elif kind == _SEEN:
            self._seen(*what)
        else:
            self._obey(what)

    def _is_written(self) -> bool:
        journal = self._journal
        return journal is None or not (journal.is_writing or journal.has_notes)

    def _push(self, at_ns: int, kind: int, step: int, what: Any = None) -> None:
        self._numbered += 1
        heappush(self._heap, (at_ns, self._numbered, kind, step, what))

    def _dispatch(self) -> None:
        """What the runner's dispatcher does until it has to wait."""
        scheduler, now_ns = self._scheduler, self._now_ns
        send = self._slot_for
        if send is not None:
            self._slot_for = None
            if not scheduler.may_send(send.step, now_ns):
                scheduler.withdraw(send.step)
            elif self._journal is None:
                self._pass_or_wait(send, now_ns)
            else:
                self._intend(send, self._journal)
        instruction = scheduler.next(now_ns)
        if type(instruction) is Send:
            self._slot_for = instruction
            self._act_ns = self._gate.slot_ns(now_ns, scheduler.per_s)
        elif type(instruction) is Wait:
            self._act_ns = _NEVER if instruction.until_ns is None else instruction.until_ns
        else:
            assert isinstance(instruction, Done)  # noqa: S101 - the only instruction left
            self._end(instruction.reason)

    def _end(self, reason: StopReason) -> None:
        self._done = reason
        self._act_ns = _NEVER
        self._commit()

    def _changed(self) -> None:
        """The dispatcher looks again, unless it waits for a slot."""
        if self._slot_for is None and self._done is None:
            self._act_ns = self._now_ns

    def _intend(self, send: Send, journal: ModelJournal) -> None:
        """Make an intent durable; the send goes to the bound then."""
        self._intending[send.step] = send
        journal.intend(send.step, send.attempt, self._now_ns)
        self._commit()

    def _commit(self) -> None:
        """Write what is noted, unless a commit runs."""
        journal = self._journal
        if journal is not None and journal.has_notes and not journal.is_writing:
            journal.start_commit()
            self._push(self._now_ns + self._commit_ns, _COMMITTED, 0)

    def _committed(self) -> None:
        assert self._journal is not None  # noqa: S101 - only a journal commits
        for step, attempt, intent_ns in self._journal.end_commit(self._now_ns):
            send = self._intending.pop(step, None)
            if send is not None:
                assert send.attempt == attempt  # noqa: S101 - one attempt of a step at a time
                self._leave_or_wait(send, intent_ns)
        self._commit()

    def _pass_bound(self, step: int) -> None:
        waiting = self._at_bound.pop(step, None)
        if waiting is not None:
            self._leave_or_wait(*waiting)

    def _leave_or_wait(self, send: Send, intent_ns: int) -> None:
        """Send what keeps the bound now, withdraw what may not leave any more, and have the rest wait."""
        if self._scheduler.may_send(send.step, self._now_ns):
            self._pass_or_wait(send, intent_ns)
        else:
            self._withdraw(send)

    def _pass_or_wait(self, send: Send, intent_ns: int) -> None:
        now_ns = self._now_ns
        step, attempt = send
        bound = self._bound
        free_ns = bound.free_at_ns()
        if free_ns > now_ns:
            self._at_bound[step] = (send, intent_ns)
            self._push(free_ns, _BOUND, step)
            return
        bound.sent(now_ns)
        on_wire, trace = self._on_wire, self._trace
        on_wire[step] = len(trace.step)
        if len(on_wire) > trace.most_in_flight:  # noqa: PLR1730 - a call of `max` for every send is dear
            trace.most_in_flight = len(on_wire)
        add_step, add_attempt, add_intent, add_sent, add_answered, add_kind = self._columns
        add_step(step)
        add_attempt(attempt)
        add_intent(intent_ns)
        add_sent(now_ns)
        add_answered(0)
        add_kind(0)
        answered_ns, reply = self._world.attempt(step, attempt, now_ns)
        self._numbered += 1
        heappush(self._heap, (answered_ns, self._numbered, _ANSWER, step, reply))

    def _withdraw(self, send: Send) -> None:
        self._scheduler.withdraw(send.step)
        if self._journal is not None:
            self._journal.withdrawn(send.step, send.attempt)
            self._commit()
        self._changed()

    def _answer(self, step: int, reply: Reply) -> None:
        index = self._on_wire.pop(step, None)
        if index is None:
            return
        now_ns, trace = self._now_ns, self._trace
        trace.answered_ns[index] = now_ns
        trace.kind[index] = KIND_CODE[reply.kind]
        effects = self._scheduler.answer(step, reply, now_ns)
        if self._journal is not None:
            self._note(Answer(step, trace.attempt[index], trace.sent_ns[index], now_ns, reply), effects)
        self._take_all(effects)

    def _note(self, answer: Answer, effects: Sequence[Effect]) -> None:
        if self._journal is not None:
            self._journal.answered(answer, effects)
            self._commit()

    def _take_all(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if type(effect) is Finish:
                self._trace.outcomes[effect.step] = OUTCOME_CODE[effect.outcome]
            else:
                self._take(effect)
        if self._confirms:
            self._plan_look()
        if self._slot_for is None and self._done is None:
            self._act_ns = self._now_ns

    def _plan_look(self) -> None:
        """See that the inventory is read when a device is to be looked for."""
        look_ns = self._scheduler.next_look_ns
        if look_ns is not None and look_ns < self._look_ns:
            self._look_ns = max(look_ns, self._now_ns)
            self._push(self._look_ns, _LOOK, 0)

    def _look(self) -> None:
        if self._now_ns < self._look_ns or self._done is not None:
            return
        self._look_ns = _NEVER
        if self._scheduler.next_look_ns is not None:
            for look in self._scheduler.looks(self._now_ns):
                at_ns, seen = self._world.look(look.device, self._now_ns)
                self._push(at_ns, _SEEN, look.step, (look, seen))
        self._plan_look()

    def _seen(self, look: Look, seen: Seen) -> None:
        if self._done is not None:
            return
        effects = self._scheduler.seen(look, up=seen.up, changed_ns=seen.changed_ns, now_ns=self._now_ns)
        if self._journal is not None:
            self._journal.confirmed(effects, self._now_ns)
            self._commit()
        self._take_all(effects)

    def _take(self, effect: Effect) -> None:
        trace = self._trace
        if type(effect) is Skip:
            for step in effect.steps:
                trace.outcomes[step] = OUTCOME_CODE[Outcome.SKIPPED]
        elif type(effect) is Hold:
            trace.holds.append((self._now_ns, effect.until_ns))
            self._look_at_bound()
        elif type(effect) is Stop:
            self._stop(effect.reason)

    def _stop(self, reason: StopReason) -> None:
        self._scheduler.stop(reason)
        if self._trace.stopped_ns is None:
            self._trace.stopped_ns = self._now_ns
        self._look_at_bound()
        if self._done is None:
            self._act_ns = self._now_ns

    def _look_at_bound(self) -> None:
        """Those that wait for the bound look whether they may still leave."""
        for step in self._at_bound:
            self._push(self._now_ns + _LOOK_NS, _BOUND, step)

    def _obey(self, order: object) -> None:
        if self._done is not None:
            return
        if order is Order.PAUSE:
            self._scheduler.pause(self._now_ns)
            self._look_at_bound()
        elif order is Order.CONTINUE:
            self._scheduler.go_on(self._now_ns)
        else:
            self._stop(StopReason.INTERRUPTED)
        if order is Order.CANCEL:
            self._cancel()
        self._changed()

    def _cancel(self) -> None:
        """Give up what is in flight: what left may have run, what did not is withdrawn."""
        if self._slot_for is not None:
            self._scheduler.withdraw(self._slot_for.step)
            self._slot_for = None
        waiting = [send for send, _ in self._at_bound.values()]
        for send in (*self._intending.values(), *waiting):
            self._withdraw(send)
        self._intending.clear()
        self._at_bound.clear()
        for step in list(self._on_wire):
            self._answer(step, _CANCELLED)


def simulate(
    steps: Steps,
    policy: Policy,
    run_key: bytes,
    world: World,
    start_ns: int,
    *,
    progress: Progress | None = None,
    journal: ModelJournal | None = None,
    commit_ns: int = 0,
    patience_ns: int | None = None,
    wave_seed: str = "",
    heed_window: bool = True,
    orders: Sequence[tuple[int, Order]] = (),
    crash_at: int | None = None,
    most_events: int = _NEVER,
    watch: Callable[[Trace], object] | None = None,
) -> Trace:
    """Drive a run, or take one up, on a virtual clock.

    Args:
        steps: What it is to do.
        policy: How.
        run_key: What its jitter is drawn from; a run's id.
        world: The service.
        start_ns: When it begins.
        progress: What earlier processes left; None for a new run.
        journal: The run's journal; a plan needs none.
        commit_ns: How long each of its commits takes.
        patience_ns: After how long a paused run is told to go on; None where it is not.
        wave_seed: What decides which devices are in which wave.
        heed_window: Whether the policy's maintenance windows count.
        orders: What the operator tells it, and when.
        crash_at: After how many events the process dies; None for never.
        most_events: After how many events it is taken to be stuck.
        watch: Is given the trace before anything is in it: another thread may look how far it is.

    Returns:
        What happened.

    Raises:
        StuckError: The run does not end.
    """
    outcomes = bytearray(progress.outcomes) if progress is not None and progress.outcomes else bytearray(len(steps))
    trace = Trace(start_ns, outcomes)
    if watch is not None:
        watch(trace)
    scheduler = Scheduler(steps, policy, run_key, progress, wave_seed=wave_seed, heed_window=heed_window)
    engine = Engine(scheduler, policy, world, trace, journal, commit_ns=commit_ns, patience_ns=patience_ns)
    if journal is not None:
        journal.begin(policy, start_ns)
    for at_ns, order in orders:
        engine.order(at_ns, order)
    if progress is not None:
        engine.take_up()
        engine.account_for([(step, progress.troubles[step].sends + 1) for step in progress.lost])
    engine.run(_NEVER if crash_at is None else crash_at, most_events)
    trace.notices = scheduler.take_notices()
    trace.detail = scheduler.detail
    if journal is not None and trace.ended is not None:
        journal.close(trace.end_ns, trace.ended)
    return trace
