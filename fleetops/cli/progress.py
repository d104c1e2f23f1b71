"""How far a run is: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio

from fleetops.cli.diagnostics import printable
from fleetops.cli.errors import say
from fleetops.model import NS_PER_S, Outcome

if TYPE_CHECKING:
    from fleetops.runner import Runner
    from fleetops.runner.drive import Snapshot
    from fleetops.scheduler import Notice

_EVERY_S: Final = 5.0
_LOOK_S: Final = 0.25
_SHOWN: Final = (Outcome.ACCEPTED, Outcome.CONFIRMED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.SKIPPED)
_WAITS: Final = {
    "hold": "the service asked us to wait",
    "outage": "the service does not answer; it is tried again",
    "window": "the maintenance window is closed",
    "soak": "the wave that is done soaks",
    "continue": "paused",
}


def describe(snapshot: Snapshot) -> str:
    """A run's progress in one line."""
    done = sum(snapshot.outcomes.values())
    counts = ", ".join(f"{snapshot.outcomes[one]:,} {one}" for one in _SHOWN if snapshot.outcomes[one])
    parts = [
        f"{done:,} of {snapshot.steps:,} steps" + (f" ({counts})" if counts else ""),
        f"{snapshot.in_flight:,} in flight",
        f"{snapshot.waiting:,} waiting",
        f"{snapshot.per_s:.3g}/s"
        + (f" of {snapshot.asked_per_s:.3g}/s" if snapshot.per_s < snapshot.asked_per_s else ""),
    ]
    wave, waves = snapshot.wave
    if waves > 1:
        parts.append(f"wave {wave} of {waves}")
    if snapshot.stopping is not None:
        parts.append(f"stopping: {snapshot.stopping}")
    elif snapshot.waits_for in _WAITS:
        until = "" if snapshot.wait_ns is None else f" (for {_span(snapshot.wait_ns / NS_PER_S)})"
        parts.append(_WAITS[snapshot.waits_for] + until)
    return ", ".join(parts)


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
    """A line every few seconds, and one for whatever happens to the run as a whole."""
    pace, told, last_line, due_s = _Pace(), 0, "", time.monotonic() + _EVERY_S
    try:
        while True:
            await anyio.sleep(_LOOK_S)
            snapshot = runner.snapshot()
            for notice in snapshot.notices[told:]:
                say(f"{time.strftime('%H:%M:%S')} {describe_notice(notice)}")
            told = len(snapshot.notices)
            left = pace.left(snapshot)
            if time.monotonic() >= due_s:
                due_s += _EVERY_S
                line = describe(snapshot)
                if line != last_line:
                    say(f"{time.strftime('%H:%M:%S')} {line}{left}")
                last_line = line
    finally:
        for notice in runner.snapshot().notices[told:]:
            say(f"{time.strftime('%H:%M:%S')} {describe_notice(notice)}")


async def show_live(runner: Runner) -> None:
    """A bar that moves, for a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    pace, told = _Pace(), 0
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("starting", total=runner.snapshot().steps)
        try:
            while True:
                snapshot = runner.snapshot()
                for notice in snapshot.notices[told:]:
                    progress.console.print(describe_notice(notice), markup=False, highlight=False)
                told = len(snapshot.notices)
                done = sum(snapshot.outcomes.values())
                progress.update(bar, completed=done, description=describe(snapshot) + pace.left(snapshot))
                await anyio.sleep(_LOOK_S)
        finally:
            for notice in runner.snapshot().notices[told:]:
                progress.console.print(describe_notice(notice), markup=False, highlight=False)
