"""How far a run is: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import anyio

from fleetops.cli.diagnostics import printable
from fleetops.cli.errors import log, say
from fleetops.cli.log import logs_json
from fleetops.model import NS_PER_S, Outcome

if TYPE_CHECKING:
    from fleetops.runner import Runner
    from fleetops.runner.drive import Snapshot
    from fleetops.scheduler import Notice

_EVERY_S: Final = 5.0
_SELDOM_S: Final = 60.0
_LOGGED_EVERY_S: Final = 10.0
_WORKING_AFTER_S: Final = 0.5
_LOOK_S: Final = 0.25
_SHOWN: Final = (Outcome.ACCEPTED, Outcome.CONFIRMED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.SKIPPED)
_WAITS: Final = {
    "hold": "the service asked us to wait",
    "outage": "the service does not answer; it is tried again",
    "window": "the maintenance window is closed",
    "soak": "the wave that is done soaks",
    "continue": "paused",
}


def describe_outcomes(snapshot: Snapshot) -> str:
    """How many steps are done, and what became of them."""
    done = sum(snapshot.outcomes.values())
    counts = ", ".join(f"{snapshot.outcomes[one]:,} {one}" for one in _SHOWN if snapshot.outcomes[one])
    return f"{done:,} of {snapshot.steps:,} steps" + (f" ({counts})" if counts else "")


def describe_pace(snapshot: Snapshot) -> str:
    """How fast a run goes."""
    asked = f" of {snapshot.asked_per_s:.3g}/s" if snapshot.per_s < snapshot.asked_per_s else ""
    parts = [f"{snapshot.in_flight:,} in flight", f"{snapshot.waiting:,} waiting", f"{snapshot.per_s:.3g}/s{asked}"]
    wave, waves = snapshot.wave
    if waves > 1:
        parts.append(f"wave {wave} of {waves}")
    return ", ".join(parts)


def describe_wait(snapshot: Snapshot) -> str:
    """Why nothing is sent; empty while something is."""
    if snapshot.stopping is not None:
        return f"stopping: {snapshot.stopping.replace('_', ' ')}"
    if snapshot.waits_for not in _WAITS:
        return ""
    until = "" if snapshot.wait_ns is None else f" (for {_span(snapshot.wait_ns / NS_PER_S)})"
    return _WAITS[snapshot.waits_for] + until


def describe_notice(notice: Notice) -> str:
    """What happened to the run as a whole, in one line."""
    words = notice.event.replace("_", " ")
    return printable(f"{words}: {notice.detail}" if notice.detail else words)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _Pace:
    """How fast a run gets on, to say how much time is left."""

    def __init__(self) -> None:
        self._begun_s: float | None = None
        self._done_then = 0

    def left(self, snapshot: Snapshot) -> str:
        """What is left, in words; empty where nothing can be said yet."""
        done = sum(snapshot.outcomes.values())
        now_s = time.monotonic()
        if self._begun_s is None:
            self._begun_s, self._done_then = now_s, done
        new = done - self._done_then
        if not new or snapshot.stopping is not None or done >= snapshot.steps:
            return ""
        return f", about {_span((snapshot.steps - done) * (now_s - self._begun_s) / new)} left"


async def show_plainly(runner: Runner) -> None:
    """A line every few seconds while something happens, one a minute while not, and one for each event of the run."""
    pace, told, last, due_s = _Pace(), 0, "", time.monotonic() + _EVERY_S
    try:
        while True:
            await anyio.sleep(_LOOK_S)
            snapshot = runner.snapshot()
            told = _say_notices(snapshot, told)
            left = pace.left(snapshot)
            if time.monotonic() < due_s:
                continue
            outcomes = describe_outcomes(snapshot)
            waits = describe_wait(snapshot)
            pace_now = f"{describe_pace(snapshot)}{', ' if waits else ''}{waits}"
            say(f"{time.strftime('%H:%M:%S')} {outcomes}, {pace_now}{left}")
            due_s = time.monotonic() + (_EVERY_S if outcomes != last else _SELDOM_S)
            last = outcomes
    finally:
        _say_notices(runner.snapshot(), told)


def _say_notices(snapshot: Snapshot, told: int) -> int:
    """Say what has happened to the run since the first `told` notices; how many there are now."""
    for notice in snapshot.notices[told:]:
        say(f"{time.strftime('%H:%M:%S')} {describe_notice(notice)}")
    return len(snapshot.notices)


async def show_live(runner: Runner) -> None:
    """Lines that are redrawn, for a terminal: a bar, what became of the steps, how fast it goes."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)
    pace, told, begun_s = _Pace(), 0, time.monotonic()

    def drawn(snapshot: Snapshot) -> Group:
        done = sum(snapshot.outcomes.values())
        clock = f"{_span(time.monotonic() - begun_s)}{pace.left(snapshot)}"
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(1, snapshot.steps), done, width=min(60, console.width // 3))
        head.add_row(bar, f"{done / max(1, snapshot.steps):.0%}, {clock}")
        # The height stays the same, so that nothing jumps; what is too long for a line is cut.
        lines = (describe_outcomes(snapshot), describe_pace(snapshot), describe_wait(snapshot))
        return Group(head, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def print_notices(snapshot: Snapshot) -> int:
        for notice in snapshot.notices[told:]:
            console.print(describe_notice(notice), markup=False, highlight=False)
        return len(snapshot.notices)

    with Live(drawn(runner.snapshot()), console=console, transient=True, auto_refresh=False) as live:
        try:
            while True:
                snapshot = runner.snapshot()
                told = print_notices(snapshot)
                live.update(drawn(snapshot), refresh=True)
                await anyio.sleep(_LOOK_S)
        finally:
            print_notices(runner.snapshot())


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal, and nowhere else, that something is being done, where it takes a while."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or logs_json():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
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


async def log_progress(runner: Runner) -> None:
    """Log how far a run is, every few seconds until cancelled."""
    while True:
        await anyio.sleep(_LOGGED_EVERY_S)
        now = runner.snapshot()
        log(
            "info",
            "progress",
            {
                "steps": now.steps,
                "outcomes": {outcome: count for outcome, count in now.outcomes.items() if count},
                "in_flight": now.in_flight,
                "waiting": now.waiting,
                "sends": now.sends,
                "rate_per_s": now.per_s,
                "waits_for": now.waits_for,
            },
        )
