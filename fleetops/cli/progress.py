"""Shows how far a run is: lines that are drawn anew on a terminal, plain lines elsewhere, a log for programs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from fleetops.cli.diagnostics import printable
from fleetops.cli.drawing import describe_notice, drawing, plain_line, timed
from fleetops.cli.errors import print_lines, say
from fleetops.cli.log import log_line, logs_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from fleetops.cli.screen import Screen
    from fleetops.report.progress import Onlooker, Standing
    from fleetops.runner import Runner, Snapshot
    from fleetops.scheduler import Notice

_EVERY_S: Final = 5.0
_SELDOM_S: Final = 60.0
_LOGGED_EVERY_S: Final = 10.0
_WORKING_AFTER_S: Final = 0.5
_LOOK_S: Final = 0.25


class Teller:
    """Keeps the lines that a run tells, until somebody has the time to print them.

    The run must not wait for a terminal that is held up, or for a reader that is slow: its requests would go
    unanswered meanwhile. So those who tell only add a line, and the lines are printed in a thread of their own.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._notices = 0

    def tell(self, line: str) -> None:
        """Have a line printed soon."""
        self._lines.append(line)

    def hear(self, notices: Sequence[Notice]) -> None:
        """Have what happened to the run printed, as far as it is new."""
        for notice in notices[self._notices :]:
            self.tell(timed(notice.at_ns, describe_notice(notice)))
        self._notices = len(notices)

    def take(self) -> list[str]:
        """What is to be printed now."""
        lines, self._lines = self._lines, []
        return lines


class Display:
    """A run as its operator sees it: `show` until it is cancelled, then `close`.

    Args:
        onlooker: Looks at the run.
        teller: Has the lines that are to be printed besides.
        screen: The terminal; None for plain lines.
    """

    def __init__(self, onlooker: Onlooker, teller: Teller, screen: Screen | None) -> None:
        self._onlooker = onlooker
        self._teller = teller
        self._screen = screen
        self._runner: Runner | None = None
        self._due_s = time.monotonic() + _EVERY_S
        self._done = -1
        self._printing = threading.Lock()
        self._closed = False

    async def show(self, runner: Runner) -> None:
        """Show how far the run is."""
        self._runner = runner
        while True:
            now = self._look(runner)
            await anyio.to_thread.run_sync(self._show, now, abandon_on_cancel=True)
            await anyio.sleep(_LOOK_S)

    def close(self) -> None:
        """Show what is left to be told, and take the rest away."""
        if self._runner is not None:
            self._teller.hear(self._runner.snapshot().notices)
        with self._printing:
            self._closed = True
            lines = self._teller.take()
            if self._screen is not None:
                self._screen.clear(above=lines)
            elif lines:
                say("\n".join(lines))

    def _look(self, runner: Runner) -> Standing:
        snapshot = runner.snapshot()
        self._teller.hear(snapshot.notices)
        return self._onlooker.look(snapshot, time.time_ns(), time.monotonic())

    def _show(self, now: Standing) -> None:
        with self._printing:
            if self._closed:
                return
            lines = self._teller.take()
            if self._screen is not None:
                self._screen.draw(*drawing(now, self._screen.width), above=lines)
                return
            if time.monotonic() >= self._due_s:
                lines.append(plain_line(now))
                self._due_s = time.monotonic() + (_EVERY_S if now.done != self._done else _SELDOM_S)
                self._done = now.done
            if lines:
                say("\n".join(lines))


class LogLines:
    """A run as its log has it: `show` until it is cancelled, then `close`.

    Args:
        teller: Has the lines.
        progress: Whether to tell also how far it is, every few seconds.
    """

    def __init__(self, teller: Teller, *, progress: bool) -> None:
        self._teller = teller
        self._tells_progress = progress
        self._printing = threading.Lock()

    async def show(self, runner: Runner) -> None:
        """Print the lines soon after they are told."""
        due_s = time.monotonic() + _LOGGED_EVERY_S
        while True:
            await anyio.sleep(_LOOK_S)
            if self._tells_progress and time.monotonic() >= due_s:
                due_s += _LOGGED_EVERY_S
                self._teller.tell(log_line("info", "progress", _progress(runner.snapshot())))
            await anyio.to_thread.run_sync(self.close, abandon_on_cancel=True)

    def close(self) -> None:
        """Print what is left."""
        with self._printing:
            lines = self._teller.take()
            if lines:
                print_lines(lines)


def _progress(now: Snapshot) -> dict[str, Any]:
    return {
        "steps": now.steps,
        "outcomes": {outcome: count for outcome, count in now.outcomes.items() if count},
        "in_flight": now.in_flight,
        "waiting": now.waiting,
        "sends": now.sends,
        "rate_per_s": now.per_s,
        "waits_for": now.waits_for,
    }


def terminal(stream: TextIO) -> Screen | None:
    """A terminal to draw on; None where the stream is none, or none that can be drawn on."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console

    from fleetops.cli.screen import Screen

    return Screen(Console(file=stream))


@contextmanager
def working(what: str, how_far: Callable[[], str] = str) -> Iterator[None]:
    """Show on a terminal, and nowhere else, that something is being done, where it takes a while.

    Args:
        what: What is being done.
        how_far: Says how far it is, a few times a second, on a thread of its own; may be empty.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or logs_json():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class HowFar(ProgressColumn):
        def render(self, task: Task) -> Text:  # noqa: ARG002 - the seam's shape
            return Text(how_far())

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), HowFar(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    progress.add_task(printable(what), total=None)
    # What is done at once shows nothing: a line that flashes up is only a distraction.
    soon = threading.Timer(_WORKING_AFTER_S, progress.start)
    soon.start()
    try:
        yield
    finally:
        soon.cancel()
        soon.join()
        progress.stop()


def reading(manifest: str) -> AbstractContextManager[None]:
    """`working`, while a manifest is read; not while somebody may be typing it."""
    return nullcontext() if manifest == "-" else working(f"reading {manifest}")
