"""What a run tells a program, as it happens."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

import anyio

from fleetops.model import NS_PER_S
from fleetops.scheduler import StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from fleetops.journal.told import Tell
    from fleetops.model import Operation, Outcome, Reason, ReplyKind
    from fleetops.runner import Runner

    Result = TypeVar("Result")

_PROGRESS_EVERY_S: Final = 10.0
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run. What does not apply to it is None.

    Attributes:
        run_id: The run.
        event: What happened: `run_started`, `attempt` (a request was answered, or its reply was lost), `outcome` (a
            step has one), `retry` (it is sent again), `hold` (the service asked us to wait), `stop` (nothing more is
            sent), `progress` (every ten seconds), `run_ended`, or what happened to the run as a whole: `resumed`,
            `wave_started`, `gate_passed`, `gate_failed`, `paused`, `continued`, `outage`, `outage_over`, `rate`,
            `window_open`, `window_closed`.
        level: `info`, `warning` or `error`.
        at: When, in UTC.
        row: The step's row in the manifest, from 1.
        serial: Its device.
        operation: Its operation.
        attempt: Which send of it, from 1.
        result: What came of the attempt.
        outcome: What became of the step.
        reason: Why; for `stop` and `run_ended` why the run ends.
        http_status: The service's answer.
        operation_id: What the service calls the operation.
        duration_s: From the send to the answer, in seconds.
        wait_s: For how long is waited, in seconds.
        detail: In figures, or in the words of the service or the connection.
        done: How many steps have their outcome.
        steps: How many steps there are.
    """

    run_id: str
    event: str
    level: str
    at: datetime
    row: int | None = None
    serial: str | None = None
    operation: Operation | None = None
    attempt: int | None = None
    result: ReplyKind | None = None
    outcome: Outcome | None = None
    reason: Reason | StopReason | None = None
    http_status: int | None = None
    operation_id: str | None = None
    duration_s: float | None = None
    wait_s: float | None = None
    detail: str | None = None
    done: int | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far a run on workers is.

    Attributes:
        ended: Whether it is over.
        steps: All steps.
        outcomes: Steps by outcome.
        paused: Whether it waits for the operator.
        stopping: Why nothing more is sent, or None.
        scheduled: Whether it waits for its window to open.
        wave: The wave that was let in last, from 1, and how many there are.
        per_s: The rate in force, in operations per second.
        workers: Workers of its queue that are there.
        chunks: Chunks that are done, and all.
    """

    ended: bool
    steps: int
    outcomes: dict[Outcome, int]
    paused: bool
    stopping: str | None
    scheduled: bool
    wave: tuple[int, int]
    per_s: float
    workers: int
    chunks: tuple[int, int]

    def text(self) -> str:
        """It in a line."""
        done = sum(self.outcomes.values())
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in self.outcomes.items() if count)
        parts = [f"{done:,} of {self.steps:,} steps" + (f" ({counts})" if counts else "")]
        parts += [f"{self.chunks[0]:,} of {self.chunks[1]:,} chunks", f"{self.per_s:.3g}/s"]
        parts.append(f"{self.workers} worker{'' if self.workers == 1 else 's'}")
        if self.wave[1] > 1:
            parts.append(f"wave {self.wave[0]} of {self.wave[1]}")
        if self.stopping is not None:
            parts.append(f"stopping: {self.stopping.replace('_', ' ')}")
        elif self.paused:
            parts.append("paused")
        elif self.scheduled:
            parts.append("the maintenance window is closed")
        elif not self.workers:
            parts.append("no worker is there: start one with `fleetops worker`")
        return ", ".join(parts)


class Listener:
    """Passes on what a run tells to a callback, and stops the run where the callback fails.

    Args:
        on_event: The callback; None where nobody listens, which costs the run nothing.

    Attributes:
        error: What the callback raised first.
    """

    def __init__(self, on_event: Callable[[RunEvent], object] | None) -> None:
        self._on_event = on_event
        self._run_id = ""
        self._runner: Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.error: Exception | None = None

    @property
    def tell(self) -> Tell | None:
        """What the run's journal tells; None where nobody listens."""
        return None if self._on_event is None else self._tell

    def started(self, run_id: str) -> None:
        """The run has this id, and is in the journal."""
        self._run_id = run_id
        self._tell("info", "run_started", time_ns(), {})

    def ended(self, reason: StopReason | None, detail: str) -> None:
        """The run has ended."""
        level = "info" if reason in {None, StopReason.COMPLETE} else "error"
        self._tell(level, "run_ended", time_ns(), {"reason": reason, "detail": detail or None})

    def interrupt(self) -> None:
        """Stop the run from another thread; what is in flight finishes."""
        if self._runner is not None and self._loop is not None:
            # A loop that is closed has nothing left to stop.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._runner.stop, StopReason.INTERRUPTED)

    async def watch(self, runner: Runner) -> None:
        """Tell now and then how far the run is, until cancelled."""
        self._runner, self._loop = runner, asyncio.get_running_loop()
        if self.error is not None:
            self._stop()
        while True:
            await anyio.sleep(_PROGRESS_EVERY_S)
            now = runner.snapshot()
            self._tell("info", "progress", time_ns(), {"done": sum(now.outcomes.values()), "steps": now.steps})

    def _tell(self, level: str, event: str, at_ns: int, fields: Mapping[str, Any]) -> None:
        if self._on_event is None or self.error is not None:
            return
        at = datetime.fromtimestamp(at_ns / NS_PER_S, tz=UTC)
        try:
            self._on_event(RunEvent(run_id=self._run_id, event=event, level=level, at=at, **fields))
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has to end in good order first
            self.error = error
            self._stop()

    def _stop(self) -> None:
        if self._runner is not None:
            self._runner.stop(StopReason.ABORTED, f"the event callback failed: {type(self.error).__name__}")


def outside_of_loops(work: Callable[[], Result], interrupt: Callable[[], None]) -> Result:
    """Do work that runs an event loop, in a thread of its own where one runs in this thread already.

    Args:
        work: What to do.
        interrupt: Called for each interrupt (ctrl-C) meanwhile; the work goes on to its end.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1, thread_name_prefix="fleetops") as pool:
        done = pool.submit(work)
        while not done.done():
            try:
                # An interrupt that another thread was given is seen by this one only when it wakes up.
                wait([done], timeout=_LOOK_S)
            except KeyboardInterrupt:
                interrupt()
        return done.result()
