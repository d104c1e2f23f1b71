"""How far a run is, in words: for a terminal, which is drawn anew, and as plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from fleetops.cli.diagnostics import printable
from fleetops.model import NS_PER_S, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rich.console import Group, RenderableType
    from rich.text import Text

    from fleetops.journal.views import Failure
    from fleetops.report.progress import Standing
    from fleetops.scheduler import Notice

_SHOWN: Final = (Outcome.ACCEPTED, Outcome.CONFIRMED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.SKIPPED)
_STYLES: Final = {
    Outcome.ACCEPTED: "green",
    Outcome.CONFIRMED: "bold green",
    Outcome.FAILED: "bold red",
    Outcome.UNKNOWN: "bold yellow",
    Outcome.SKIPPED: "cyan",
}
_GOOD: Final = frozenset({Outcome.ACCEPTED, Outcome.CONFIRMED})
_WAITS: Final = {
    "hold": "the service asked us to wait",
    "outage": "the service does not answer; it is tried again",
    "window": "the maintenance window is closed",
    "soak": "the wave that is done soaks",
    "continue": "paused",
}
_MOST_FAILURES: Final = 8
_WIDEST: Final = 100
_NARROW: Final = 60


def describe_outcomes(now: Standing) -> str:
    """How many steps are done, and what became of them."""
    counts = ", ".join(f"{now.outcomes[one]:,} {one}" for one in _SHOWN if now.outcomes.get(one))
    return f"{now.done:,} of {now.steps:,} steps" + (f" ({counts})" if counts else "")


def describe_pace(now: Standing) -> str:
    """How fast a run goes."""
    parts = [f"{now.in_flight:,} in flight", f"{now.waiting:,} waiting", describe_rate(now)]
    wave, waves = now.wave
    if waves > 1:
        parts.append(f"wave {wave} of {waves}")
    return ", ".join(parts)


def describe_rate(now: Standing) -> str:
    """How fast requests leave, against the rate that is asked for and the one in force."""
    lowered = now.per_s is not None and now.per_s < now.asked_per_s
    held = f", lowered to {now.per_s:.3g}/s" if lowered else ""
    return f"{now.sent_per_s:.3g}/s sent of {now.asked_per_s:.3g}/s asked{held}"


def describe_wait(now: Standing) -> str:
    """Why nothing is sent; empty while something is."""
    if now.stopping is not None:
        return f"stopping: {now.stopping.replace('_', ' ')}"
    if now.waits_for not in _WAITS:
        return ""
    until = "" if now.wait_s is None else f" (for {span(now.wait_s)})"
    return _WAITS[now.waits_for] + until


def describe_left(now: Standing) -> str:
    """How much time is left, and beside it what the plan says; empty where nothing can be said."""
    parts = [] if now.left_s is None else [f"about {span(now.left_s)} left"]
    if now.planned_s is not None:
        over_s = now.elapsed_s - now.planned_s
        parts.append(f"{span(over_s)} over the plan" if over_s > 0 else f"{span(-over_s)} left by the plan")
    return ", ".join(parts)


def describe_devices(now: Standing) -> str:
    """What the devices do that are not done."""
    resting = f"{now.waiting:,} settling or backing off" if now.ready is not None else f"{now.waiting:,} settling"
    ready = "" if now.ready is None else f", {now.ready:,} queued"
    return f"{now.in_flight:,} in flight, {resting}{ready}"


def describe_window(now: Standing) -> str:
    """Where the maintenance window stands; empty without one."""
    from fleetops.policy.window import ALWAYS

    window = now.window
    if window is None or window == ALWAYS:
        return ""
    if window.start_ns > now.now_ns:
        return f"closed, opens {_day_and_time(window.start_ns)}, in {_until(now, window.start_ns)}"
    if window.end_ns == ALWAYS.end_ns:
        return "open"
    return f"open until {_day_and_time(window.end_ns)}, {_until(now, window.end_ns)} left"


def describe_failure(failure: Failure, *, when: bool = True) -> str:
    """A step that went wrong, in one line."""
    why = f", {failure.reason}" if failure.reason else ""
    at = f"{_clock(failure.at_ns)} " if when else ""
    return printable(f"{at}{failure.serial} {failure.operation}: {failure.outcome}{why}")


def describe_notice(notice: Notice) -> str:
    """What happened to the run as a whole, in one line."""
    words = notice.event.replace("_", " ")
    return printable(f"{words}: {notice.detail}" if notice.detail else words)


def plain_line(now: Standing) -> str:
    """All of it in one line, for logs."""
    parts = (describe_outcomes(now), describe_pace(now), describe_wait(now), describe_left(now))
    return timed(now.now_ns, ", ".join(part for part in parts if part))


def timed(at_ns: int, words: str) -> str:
    """A line of what happened at a moment, in nanoseconds since the epoch."""
    return f"{_clock(at_ns)} {words}"


def told(event: str, fields: Mapping[str, Any], *, everything: bool) -> str | None:
    """What a run tells of its steps, in words; None for what is no news.

    Args:
        event: As `fleetops.journal.told` names it.
        fields: What it says of it.
        everything: Whether to tell also what went well.
    """
    match event:
        case "attempt" if everything:
            status = f" {fields['http_status']}" if "http_status" in fields else ""
            why = f", {fields['reason']}" if "reason" in fields else ""
            took = f" in {fields['duration_s'] * 1000:.0f} ms" if "duration_s" in fields else ""
            words = f"{_step(fields)}, attempt {fields['attempt']}: {fields['result']}{status}{why}{took}"
        case "outcome" if everything or fields["outcome"] not in _GOOD:
            why = f", {fields['reason']}" if "reason" in fields else ""
            words = f"{_step(fields)}: {fields['outcome']}{why}"
        case "retry":
            words = f"{_step(fields)}: tried again in {span(fields['wait_s'])}"
        case "hold":
            words = f"the service asked us to wait for {span(fields['wait_s'])}"
        case _:
            return None
    return printable(words)


def _step(fields: Mapping[str, Any]) -> str:
    return f"{fields['serial']} {fields['operation']}"


def drawing(now: Standing, width: int) -> tuple[RenderableType, list[Text]]:
    """How a run stands, for a terminal: what is always shown, and the failures, of which there may be no room for all.

    Args:
        now: How it stands.
        width: Of the terminal, in cells.
    """
    from rich.console import Group
    from rich.text import Text

    title = f"Run {now.run_id}" + (f" ({now.campaign})" if now.campaign else "")
    heading = Text(printable(title), style="bold", no_wrap=True, overflow="ellipsis")
    when = width >= _NARROW
    failures = [
        Text(describe_failure(one, when=when), style=_STYLES[one.outcome]) for one in now.failures[:_MOST_FAILURES]
    ]
    if failures:
        failures.insert(0, Text("last failures", style="dim"))
    return Group(heading, _bar(now, min(width, _WIDEST)), _facts(now)), failures


def _bar(now: Standing, width: int) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    share = f"{int(100 * now.done / max(1, now.steps))} %"
    line = Table.grid(padding=(0, 1))
    room = max(10, width - len(share) - 1)
    line.add_row(ProgressBar(max(1, now.steps), now.done, width=room, complete_style="green"), share)
    counts = Text(f"{now.done:,} of {now.steps:,} steps")
    for outcome in _SHOWN:
        if now.outcomes.get(outcome):
            counts.append(", " if outcome is not _first(now) else ": ")
            counts.append(f"{now.outcomes[outcome]:,} {outcome}", style=_STYLES[outcome])
    return Group(line, counts)


def _first(now: Standing) -> Outcome | None:
    return next((outcome for outcome in _SHOWN if now.outcomes.get(outcome)), None)


def _facts(now: Standing) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 1))
    for label, words, style in _said(now):
        if words:
            facts.add_row(Text(label, style="dim"), Text(words, style=style))
    return facts


def _said(now: Standing) -> Iterator[tuple[str, str, str]]:
    left = describe_left(now)
    wave, waves = now.wave
    yield "time", f"{span(now.elapsed_s)}{', ' if left else ''}{left}", ""
    yield "rate", describe_rate(now), ""
    yield "devices", describe_devices(now), ""
    yield "wave", f"{wave} of {waves}" if waves > 1 else "", ""
    yield "window", describe_window(now), ""
    yield "waiting", describe_wait(now), "yellow"


def _clock(at_ns: int) -> str:
    """A time of day by the clock of this host."""
    return time.strftime("%H:%M:%S", time.localtime(at_ns // NS_PER_S))


def _day_and_time(at_ns: int) -> str:
    return time.strftime("%a %H:%M", time.localtime(at_ns // NS_PER_S))


def _until(now: Standing, at_ns: int) -> str:
    return span((at_ns - now.now_ns) / NS_PER_S)


def span(seconds: float) -> str:
    """A span of time for people, to the second."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
