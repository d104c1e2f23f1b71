"""Drives a scheduler against the real world: one dispatcher behind the gate, and a fixed set of workers."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from fleetops.errors import JournalError
from fleetops.journal.views import Failure
from fleetops.model import NS_PER_S, Outcome, Reason, Reply, ReplyKind
from fleetops.runner.confirm import Confirmer
from fleetops.runner.gate import SHORTEST_SLEEP_S, Gate
from fleetops.scheduler import Finish, Send, Stop, StopReason, Wait, WaitFor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fleetops.control import ControlPlane, Inventory
    from fleetops.errors import FleetopsError
    from fleetops.journal import Journal, RunClock
    from fleetops.model import Steps
    from fleetops.policy import Policy
    from fleetops.runner.gate import Pacing
    from fleetops.scheduler import Effect, Instruction, Notice, Scheduler

    Pace = Callable[[], Awaitable[None]]

_LOOK_S: Final = 0.1
"""How often a send that waits for the bound looks whether it may still leave."""
_LONGEST_WAIT_S: Final = 30.0
"""The event loop's clock stands still while the host sleeps, the run's does not: so it is looked at now and then."""
_FULL: Final = Wait(None, WaitFor.CONCURRENCY)
_MOST_FAILURES: Final = 20
_WENT_WRONG: Final = frozenset({Outcome.FAILED, Outcome.UNKNOWN})
_CANCELLED: Final = Reply(ReplyKind.MAYBE, Reason.INTERRUPTED, detail="cancelled by the operator")
_CRASHED: Final = Reply(ReplyKind.MAYBE, Reason.CRASHED, detail="the process ended before an answer was recorded")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is.

    Attributes:
        outcomes: Steps by final outcome.
        steps: All steps.
        in_flight: Requests that are not answered.
        waiting: Devices that settle or back off.
        ready: Devices whose next step could be sent now.
        sends: Requests sent by this process.
        per_s: The rate in force, in operations per second.
        asked_per_s: The rate asked for.
        waits_for: What keeps the next send from leaving; None while sends leave.
        wait_ns: For how long at least; None where that is not known.
        wave: The wave that was let in last, from 1, and how many there are.
        detail: Why the run is stopped or paused, where that needs saying.
        stopping: Why nothing more is sent, or None.
        notices: What happened to the run as a whole, in this process.
        failures: The last steps that failed or may have run, in this process, newest first.
    """

    outcomes: dict[Outcome, int]
    steps: int
    in_flight: int
    waiting: int
    ready: int
    sends: int
    per_s: float
    asked_per_s: float
    waits_for: WaitFor | None
    wait_ns: int | None
    wave: tuple[int, int]
    detail: str
    stopping: StopReason | None
    notices: Sequence[Notice]
    failures: Sequence[Failure] = ()


class _Handover:
    """Hands sends to idle workers; there is one for each, since the scheduler caps what is in flight."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._sends: deque[Send] = deque()
        self._idle: list[asyncio.Future[None]] = []

    def put(self, send: Send) -> None:
        self._sends.append(send)
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return

    async def take(self) -> Send:
        while not self._sends:
            # Bare futures: an event for each costs more than all else that a worker does between two sends.
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle
        return self._sends.popleft()


class Runner:
    """One process's drive of a run, from its first send to its last answer.

    Args:
        scheduler: Decides.
        journal: Keeps what happens.
        control: Where the steps are sent.
        clock: The run's clock.
        steps: The scheduler's steps.
        policy: The scheduler's policy.
        inventory: Makes the inventory in which devices are confirmed, from what paces its reads.
        gate: When sends may leave; None for a gate of the process's own.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        journal: Journal,
        control: ControlPlane,
        clock: RunClock,
        *,
        steps: Steps,
        policy: Policy,
        inventory: Callable[[Pace], Inventory] | None = None,
        gate: Pacing | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._control = control
        self._clock = clock
        self._steps = steps
        self._policy = policy
        self._gate: Pacing = Gate(policy) if gate is None else gate
        self._handover = _Handover()
        self._changed = anyio.Event()
        self._slot_scope: anyio.CancelScope | None = None
        self._sends = 0
        self._waiting: Wait | None = None
        self._without_slot: Send | None = None
        self._notices: list[Notice] = []
        self._failures: deque[Failure] = deque(maxlen=_MOST_FAILURES)
        self._confirmer: Confirmer | None = None
        if inventory is not None and policy.confirm.enabled:
            self._confirmer = Confirmer(
                scheduler, journal, inventory(self._pace_read), clock, steps, self._seen, self._cannot_confirm
            )

    async def drive(self, lost: Sequence[tuple[int, int]] = ()) -> StopReason:
        """Send until nothing is left or the run is stopped, and everything in flight is answered.

        Args:
            lost: Steps with an attempt that an earlier process left without an answer, and that attempt.

        Returns:
            Why it ended.
        """
        self._account_for(lost)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._journal.serve)
            for _ in range(self._policy.concurrency):
                tasks.start_soon(self._work)
            if self._confirmer is not None:
                tasks.start_soon(self._confirmer.watch)
            reason = await self._dispatch()
            tasks.cancel_scope.cancel()
        return reason

    def stop(self, reason: StopReason, detail: str = "") -> None:
        """Send nothing more; what is in flight finishes."""
        self._scheduler.stop(reason, detail)
        self.look_again()

    def pause(self) -> None:
        """Send nothing until `go_on`; what is in flight finishes."""
        self._scheduler.pause(self._clock.now_ns(), "by the operator")
        self.look_again()

    def go_on(self) -> None:
        """End a pause, whoever made it."""
        self._scheduler.go_on(self._clock.now_ns())
        self.look_again()

    def set_rate(self, per_s: float) -> None:
        """Send at another rate from now on, in operations per second."""
        self._scheduler.set_rate(per_s, self._clock.now_ns())
        self._gate.ask(per_s)
        self.look_again()

    def _seen(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Stop):
                self.stop(effect.reason, effect.detail)
        self._changed.set()

    def _cannot_confirm(self, error: FleetopsError) -> None:
        self.stop(StopReason.ABORTED, f"devices cannot be confirmed: {error.message}")

    async def _pace_read(self) -> None:
        """Wait until the inventory may be read: a read takes a slot as a send does, in its turn."""
        scheduler, clock = self._scheduler, self._clock
        await self._gate.slot(scheduler.per_s)
        while (wait_ns := max(self._gate.free_at_ns(), scheduler.hold_until_ns) - clock.now_ns()) > 0:  # noqa: ASYNC110 - time passes, nothing happens
            await anyio.sleep(wait_ns / NS_PER_S)
        self._gate.sent(clock.now_ns())

    def look_again(self) -> None:
        """Let the dispatcher see that something has changed, also where it waits for a slot."""
        if self._slot_scope is not None:
            self._slot_scope.cancel()
        self._changed.set()

    def snapshot(self) -> Snapshot:
        """How far the run is now."""
        scheduler, wait = self._scheduler, self._waiting
        return Snapshot(
            outcomes=dict(scheduler.counts),
            steps=len(self._steps),
            in_flight=scheduler.in_flight,
            waiting=scheduler.waiting,
            ready=scheduler.ready,
            sends=self._sends,
            per_s=scheduler.per_s,
            asked_per_s=scheduler.asked_per_s,
            waits_for=None if wait is None else wait.what_for,
            wait_ns=None if wait is None or wait.until_ns is None else max(0, wait.until_ns - self._clock.now_ns()),
            wave=scheduler.wave,
            detail=scheduler.detail,
            stopping=scheduler.stopping,
            notices=self._notices,
            failures=tuple(reversed(self._failures)),
        )

    def _account_for(self, lost: Sequence[tuple[int, int]]) -> None:
        now_ns = self._clock.now_ns()
        for step, attempt in lost:
            effects = self._scheduler.answer(step, _CRASHED, now_ns)
            self._journal.answered(step, attempt, sent_ns=None, answered_ns=now_ns, reply=_CRASHED, effects=effects)

    async def _dispatch(self) -> StopReason:
        while True:
            instruction = self._send_all()
            if isinstance(instruction, Send):
                await self._admit(instruction)
            elif isinstance(instruction, Wait):
                await self._wait(instruction)
            else:
                return instruction.reason

    def _send_all(self) -> Instruction:
        """Hand out what may be sent and has a slot; what comes then: to wait, to be done, or a send without a slot."""
        send, self._without_slot = self._without_slot, None
        if send is not None:
            return send
        scheduler, concurrency = self._scheduler, self._policy.concurrency
        while True:
            instruction = scheduler.next(self._clock.now_ns())
            if not isinstance(instruction, Send):
                break
            self._waiting = None
            if not self._gate.take_slot(scheduler.per_s):
                break
            self._handover.put(instruction)
            if scheduler.in_flight >= concurrency:
                instruction = _FULL
                break
        self._pass_on_notices()
        return instruction

    def _send_next(self) -> None:
        """Do the dispatcher's work where it waits for an answer: it is woken only for what takes more waiting."""
        waiting = self._waiting
        if waiting is None or self._without_slot is not None:
            self._changed.set()
            return
        instruction = self._send_all()
        if isinstance(instruction, Send):
            self._without_slot = instruction
        elif isinstance(instruction, Wait):
            self._waiting = instruction
            if instruction.until_ns is None or (
                waiting.until_ns is not None and instruction.until_ns >= waiting.until_ns
            ):
                return
        self._changed.set()

    def _pass_on_notices(self) -> None:
        notices = self._scheduler.take_notices()
        if notices:
            self._notices += notices
            self._journal.happened(notices)

    async def _admit(self, send: Send) -> None:
        """Hand `send` to a worker once the gate has a slot; the operator does not wait for the slot."""
        has_slot = False
        with anyio.CancelScope() as self._slot_scope:
            await self._gate.slot(self._scheduler.per_s)
            has_slot = True
        self._slot_scope = None
        if has_slot and self._scheduler.may_send(send.step, self._clock.now_ns()):
            self._handover.put(send)
        else:
            self._scheduler.withdraw(send.step)

    async def _wait(self, wait: Wait) -> None:
        self._waiting = wait
        if wait.until_ns is None:
            await self._changed.wait()
        else:
            wait_s = max(0, wait.until_ns - self._clock.now_ns()) / NS_PER_S
            with anyio.move_on_after(min(wait_s, _LONGEST_WAIT_S)):
                await self._changed.wait()
        self._changed = anyio.Event()

    async def _work(self) -> None:
        while True:
            send = await self._handover.take()
            try:
                await self._attempt(send)
            except BaseException:
                self._changed.set()
                raise
            self._send_next()

    async def _attempt(self, send: Send) -> None:
        step, attempt = send
        try:
            await self._journal.intend(step, attempt, self._clock.now_ns())
        except JournalError as error:
            self._withdraw(send)
            self.stop(StopReason.HOST_FAILED, error.message)
            return
        except anyio.get_cancelled_exc_class():
            self._withdraw(send)
            raise
        sent_ns = self._clock.now_ns()
        if not (self._scheduler.may_send(step, sent_ns) and self._gate.is_free(sent_ns)):
            if not await self._pass_bound(send):
                return
            sent_ns = self._clock.now_ns()
        self._gate.sent(sent_ns)
        self._sends += 1
        try:
            reply = await self._control.execute(self._steps.serial(step), self._steps.operation(step))
        except anyio.get_cancelled_exc_class():
            self._note(send, sent_ns, _CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has to end in good order
            # Its own words are left out: they may quote the request, and the token with it.
            broken = f"the control plane's client failed: {type(error).__name__}"
            self.stop(StopReason.HOST_FAILED, broken)
            reply = Reply(ReplyKind.MAYBE, Reason.CRASHED, detail=broken)
        self._note(send, sent_ns, reply)

    async def _pass_bound(self, send: Send) -> bool:
        """Wait for the exact bound of the rate; a send that may not leave any more is withdrawn."""
        try:
            while self._scheduler.may_send(send.step, now_ns := self._clock.now_ns()):
                if self._gate.is_free(now_ns):
                    return True
                wait_s = (self._gate.free_at_ns() - now_ns) / NS_PER_S
                await anyio.sleep(min(max(wait_s, SHORTEST_SLEEP_S), _LOOK_S))
        except anyio.get_cancelled_exc_class():
            self._withdraw(send)
            raise
        self._withdraw(send)
        return False

    def _withdraw(self, send: Send) -> None:
        self._scheduler.withdraw(send.step)
        self._journal.withdrawn(send.step, send.attempt)

    def _note(self, send: Send, sent_ns: int, reply: Reply) -> None:
        answered_ns = self._clock.now_ns()
        step, attempt = send
        effects = self._scheduler.answer(step, reply, answered_ns)
        self._journal.answered(step, attempt, sent_ns=sent_ns, answered_ns=answered_ns, reply=reply, effects=effects)
        for effect in effects:
            if isinstance(effect, Finish):
                if effect.outcome in _WENT_WRONG:
                    self._failures.append(self._failure(effect, answered_ns))
            elif isinstance(effect, Stop):
                self.stop(effect.reason, effect.detail)

    def _failure(self, finish: Finish, at_ns: int) -> Failure:
        steps, step = self._steps, finish.step
        return Failure(step, steps.serial(step), steps.operation(step), finish.outcome, finish.reason, at_ns)
