"""What a live run does now, and what it waits for, as far as its journal tells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleetops.journal.views import RATE_OVER_S, RunState
from fleetops.model import NS_PER_S
from fleetops.policy import parse_rate
from fleetops.policy.window import Calendar
from fleetops.scheduler import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetops.journal.views import RunView


def standing(view: RunView) -> tuple[str, ...]:
    """A line for each thing that holds a live run up, and its rate; none where no process drives it.

    Raises:
        JournalError: The journal is damaged.
    """
    return tuple(_lines(view)) if view.state is RunState.RUNNING else ()


def _lines(view: RunView) -> Iterator[str]:
    last = {notice.event: index for index, notice in enumerate(view.happenings)}

    def newer(event: Event, than: Event) -> bool:
        return last.get(event, -1) > last.get(than, -1)

    if newer(Event.PAUSED, Event.CONTINUED):
        why = view.happenings[last[Event.PAUSED]].detail
        yield f"paused: {why}; `fleetops continue {view.facts.run_id}` lets it go on"
    if newer(Event.OUTAGE, Event.OUTAGE_OVER):
        yield f"the service does not answer since {_moment(view.happenings[last[Event.OUTAGE]].at_ns)}"
    if view.policy.window and Event.WINDOW_IGNORED in last:
        yield "its maintenance windows are ignored (--now)"
    elif view.policy.window:
        yield from _of_the_window(view)
    if Event.WAVE_STARTED in last:
        yield view.happenings[last[Event.WAVE_STARTED]].detail
    yield _of_the_rate(view, last.get(Event.RATE))


def _of_the_window(view: RunView) -> Iterator[str]:
    now_ns = view.now_ns
    if now_ns is None:
        return
    calendar = Calendar(view.policy.window, view.policy.blackout)
    opening, upcoming = calendar.opening(now_ns), calendar.next_opening(now_ns)
    if opening is not None:
        yield f"in the maintenance window, which closes at {_moment(opening.end_ns)}"
    elif upcoming is not None:
        yield f"outside the maintenance window, which opens at {_moment(upcoming.start_ns)}"


def _of_the_rate(view: RunView, changed: int | None) -> str:
    asked = view.policy.rate if changed is None else parse_rate(view.happenings[changed].detail)
    throttled = view.recent_throttled()
    why = f", {throttled:,} answers were 429" if throttled else ""
    return f"{view.recent_rate_per_s():.3g}/s over the last {RATE_OVER_S} s{why}; {asked} asked for"


def _moment(moment_ns: int) -> str:
    return datetime.fromtimestamp(moment_ns // NS_PER_S, tz=UTC).isoformat().replace("+00:00", "Z")
