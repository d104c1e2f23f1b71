"""One process's hold on a run: starting a new one or taking up an old one, driving it, and letting go."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import anyio.to_thread

from fleetops.errors import UsageError
from fleetops.journal import Action, Inbox, Loaded, RunClock, RunStore, claim_devices, create_journal
from fleetops.journal.store import no_such_run
from fleetops.journal.told import ToldJournal
from fleetops.model import OUTCOMES, Outcome
from fleetops.policy import parse_rate
from fleetops.runner.drive import Runner
from fleetops.scheduler import Event, Notice, Progress, Scheduler, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from anyio.abc import TaskStatus

    from fleetops.control import ControlPlane, Inventory
    from fleetops.journal import Journal, NewRun, StateDir
    from fleetops.journal.told import Tell
    from fleetops.model import Steps
    from fleetops.policy import Policy
    from fleetops.runner.drive import Pace

    Watch = Callable[[Runner], Coroutine[Any, Any, None]]

_LOOK_FOR_COMMANDS_S: Final = 0.5
"""How often, in seconds, it is looked whether an operator has asked for something."""


def new_run_id() -> str:
    """A name for a run that sorts by time: date, time (UTC), and four hex digits to tell two of a second apart."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How one process's drive of a run ended.

    Attributes:
        reason: Why it ended.
        detail: In the service's or the host's words; empty where nothing needs saying.
    """

    reason: StopReason
    detail: str


class Session:
    """A run that this process holds: no other can drive it, or touch its devices, until it is closed.

    Attributes:
        loaded: The run, with what was done before.
    """

    def __init__(self, store: RunStore, clock: RunClock, loaded: Loaded) -> None:
        self._store = store
        self._clock = clock
        self.loaded = loaded

    @classmethod
    @contextmanager
    def start(cls, state: StateDir, new: NewRun, *, alongside: bool = False) -> Iterator[Self]:
        """Make a new run and hold it.

        Args:
            state: Where the runs are.
            new: The run.
            alongside: Whether other runs may be live on the same control plane.

        Raises:
            RunBusyError: A live run holds some of the devices, or is there at all.
            HostError: The journal cannot be written.
        """
        state.prepare()
        run_id = new.facts.run_id
        with ExitStack() as held:
            clock = RunClock()
            with state.claiming():
                now_ns = clock.now_ns()
                settling = claim_devices(
                    state,
                    run_id,
                    new.facts.base_url,
                    cache(lambda: _wanted_devices(new)),
                    clock,
                    now_ns=now_ns,
                    alongside=alongside,
                )
                lock = state.lock_run(run_id)
                try:
                    create_journal(state.journal_path(run_id), new)
                except BaseException:
                    lock.release()
                    lock.path.unlink(missing_ok=True)
                    raise
            with ExitStack() as failed:
                failed.callback(lock.release)
                store = RunStore.open(state.journal_path(run_id), lock, clock)
                failed.pop_all()
            held.callback(store.close)
            yield cls(store, clock, _settling_also(_just_made(new), settling))

    @classmethod
    @contextmanager
    def resume(
        cls,
        state: StateDir,
        run_id: str,
        *,
        base_url: str | None,
        change_policy: Callable[[Policy], Policy],
        alongside: bool = False,
    ) -> Iterator[Self]:
        """Take up a run that another process left.

        Args:
            state: Where the runs are.
            run_id: The run.
            base_url: The control plane, where it is another one now.
            change_policy: Gives the policy to go on with from the one that the run had.
            alongside: Whether other runs may be live on the same control plane.

        Raises:
            RunBusyError: A live process drives it, or another live run stands in its way.
            JournalError: The journal is damaged.
            UsageError: There is no such run.
        """
        path = state.journal_path(run_id)
        with ExitStack() as held:
            clock = RunClock()
            if not path.exists():
                raise no_such_run(run_id)
            with state.claiming():
                lock = state.lock_run(run_id)
                with ExitStack() as failed:
                    failed.callback(lock.release)
                    store = RunStore.open(path, lock, clock)
                    failed.pop_all()
                held.callback(store.close)
                with store.changing(base_url, change_policy):
                    loaded = store.load(now_ns=clock.now_ns())
                    settling = claim_devices(
                        state,
                        run_id,
                        loaded.facts.base_url,
                        cache(lambda: _unfinished_devices(loaded)),
                        clock,
                        now_ns=clock.now_ns(),
                        alongside=alongside,
                    )
            yield cls(store, clock, _settling_also(loaded, settling))

    async def drive(
        self,
        control: ControlPlane,
        watch: Watch | None = None,
        *,
        inventory: Callable[[Pace], Inventory] | None = None,
        heed_window: bool = True,
        tell: Tell | None = None,
    ) -> Ended:
        """Run until nothing is left or the run is stopped, by SIGINT and SIGTERM among others.

        The first signal stops sends and lets what is in flight finish; the second cancels that too.

        Args:
            control: The control plane.
            watch: Called at the start, with the runner to look at; cancelled at the end.
            inventory: Makes the inventory in which devices are confirmed, from what paces its reads.
            heed_window: Whether the policy's maintenance windows count.
            tell: Is told of attempts and of what they lead to, as they happen.

        Raises:
            JournalError: The end of the run could not be recorded.
            UsageError: The policy has devices confirmed, and there is no inventory.
        """
        loaded, clock = self.loaded, self._clock
        if loaded.policy.confirm.enabled and inventory is None:
            raise UsageError("the policy has devices confirmed, which takes an inventory to look in")
        before = self._store.last_end()
        journal: Journal = self._store.begin(loaded.policy, now_ns=clock.now_ns())
        if tell is not None:
            journal = ToldJournal(journal, loaded.steps, tell)
        if before is not None:
            # Whoever resumes after a stop has looked at why, and lets the run go on: that is on record.
            journal.happened([Notice(clock.now_ns(), Event.RESUMED, f"after {before.replace('_', ' ')}")])
        if loaded.policy.window and not heed_window:
            windows = ", ".join(map(str, loaded.policy.window))
            journal.happened([Notice(clock.now_ns(), Event.WINDOW_IGNORED, windows)])
        scheduler = Scheduler(
            loaded.steps,
            loaded.policy,
            loaded.facts.run_id.encode(),
            loaded.progress,
            wave_seed=loaded.facts.digest,
            heed_window=heed_window,
        )
        runner = Runner(
            scheduler, journal, control, clock, steps=loaded.steps, policy=loaded.policy, inventory=inventory
        )
        reason = StopReason.HOST_FAILED
        try:
            with closing(Inbox(self._store.path, self._store.asked_before)) as inbox:
                reason = await self._drive(runner, inbox, watch)
        except anyio.get_cancelled_exc_class():
            reason = StopReason.INTERRUPTED
            raise
        except BaseExceptionGroup as group:
            raise _first_of(group) from group
        finally:
            await journal.close(now_ns=clock.now_ns(), reason=reason, detail=scheduler.detail)
        return Ended(reason, scheduler.detail)

    async def _drive(self, runner: Runner, inbox: Inbox, watch: Watch | None) -> StopReason:
        progress = self.loaded.progress
        lost = [(step, progress.troubles[step].sends + 1) for step in progress.lost]
        reason = StopReason.INTERRUPTED
        async with anyio.create_task_group() as beside:
            with anyio.CancelScope() as driving:
                if threading.current_thread() is threading.main_thread():
                    await beside.start(_obey_signals, runner, driving)
                beside.start_soon(_obey_commands, runner, inbox)
                if watch is not None:
                    beside.start_soon(_show, watch, runner)
                reason = await runner.drive(lost)
            beside.cancel_scope.cancel()
        return reason


async def _obey_signals(
    runner: Runner, driving: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    # Whoever had the run ignore hang-ups (nohup) wants it to outlive the terminal.
    hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *hang_up) as signals:
        task_status.started()
        stopping = False
        async for _ in signals:
            if stopping:
                driving.cancel()
            stopping = True
            runner.stop(StopReason.INTERRUPTED)


async def _obey_commands(runner: Runner, inbox: Inbox) -> None:
    while True:
        await anyio.sleep(_LOOK_FOR_COMMANDS_S)
        for command in await anyio.to_thread.run_sync(inbox.new):
            match command.action:
                case Action.PAUSE:
                    runner.pause()
                case Action.CONTINUE:
                    runner.go_on()
                case Action.ABORT:
                    runner.stop(StopReason.ABORTED, "by the operator")
                case Action.RATE:
                    # What is no rate was not put there by `ask`, and is no reason to let a run die.
                    with suppress(ValueError):
                        runner.set_rate(parse_rate(command.argument).per_s)


async def _show(watch: Watch, runner: Runner) -> None:
    """Have the run watched for as long as that works."""
    try:
        await watch(runner)
    except OSError:
        # The terminal or the pipe has gone; the run is in the journal all the same.
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the run has to end in good order
        runner.stop(StopReason.HOST_FAILED, f"the display of progress failed: {type(error).__name__}: {error}")


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _just_made(new: NewRun) -> Loaded:
    """What the journal of a new run says, without reading all of it back."""
    outcomes = bytearray(len(new.steps))
    if new.skipped:
        skipped = OUTCOMES.index(Outcome.SKIPPED) + 1
        for step, device in enumerate(new.steps.device_of):
            outcomes[step] = skipped if device in new.skipped else 0
    return Loaded(new.facts, new.policy, new.steps, Progress(outcomes=outcomes))


def _settling_also(loaded: Loaded, settling: Mapping[int, int]) -> Loaded:
    """The run, with the settle times that other runs left behind."""
    progress: Progress = loaded.progress
    rest, disturbed = dict(progress.not_before_ns), dict(progress.disturbed_until_ns)
    for device, due_ns in settling.items():
        rest[device] = max(rest.get(device, 0), due_ns)
        disturbed[device] = max(disturbed.get(device, 0), due_ns)
    return replace(loaded, progress=replace(progress, not_before_ns=rest, disturbed_until_ns=disturbed))


def _wanted_devices(new: NewRun) -> dict[str, int]:
    return {serial: device for device, serial in enumerate(new.steps.serials) if device not in new.skipped}


def _unfinished_devices(loaded: Loaded) -> dict[str, int]:
    steps: Steps = loaded.steps
    outcomes = loaded.progress.outcomes
    unfinished = {device for step, device in enumerate(steps.device_of) if not outcomes[step]}
    return {steps.serials[device]: device for device in unfinished}
