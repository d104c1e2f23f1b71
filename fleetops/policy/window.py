"""Maintenance windows: when operations may be started, by the wall clock of a time zone.

One rule decides every case: a moment is inside a window where a clock on a wall in the window's zone shows a
time from the start (included) to the end (excluded), on a day that the window starts. What follows from it on
the days when the clocks change, for 02:00-05:00 in Madrid: three real hours become two in spring, when 02:00
to 03:00 does not exist, and four in autumn, when it happens twice. A window that lies wholly in the hour that
does not exist is empty that day. 01:30-02:30 in autumn is two intervals: the clock shows 02:15 twice, with
02:45 in between. So nothing ever starts at a time that somebody reading a clock would call outside.

Moments are nanoseconds since 1970 in UTC, and always passed in.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

DAY_NAMES: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY: Final = frozenset(range(7))
"""The days of the week as `date.weekday` numbers them: Monday is 0."""

HORIZON_DAYS: Final = 400
"""How far ahead an opening is looked for: more than a year, so that what holds so long holds for good."""

_DAY_MINUTES: Final = 24 * 60
_DAY_S: Final = 24 * 3600
_HORIZON_S: Final = HORIZON_DAYS * _DAY_S
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_EPOCH_WEEKDAY: Final = date(1970, 1, 1).weekday()

_SHAPE: Final = re.compile(
    r"(?:(?P<days>[a-z][a-z,\s-]*?)\s+)?"
    r"(?P<start>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2})"
    r"(?:\s+(?P<zone>\S.*))?",
    re.IGNORECASE,
)
_EXAMPLE: Final = "write 02:00-05:00 Europe/Madrid, or with days sat,sun 22:00-04:00 Europe/Madrid"


class Interval(NamedTuple):
    """A stretch of time, the end excluded.

    Attributes:
        start_ns: First moment inside, in epoch nanoseconds.
        end_ns: First moment after it, in epoch nanoseconds.
    """

    start_ns: int
    end_ns: int


ALWAYS: Final = Interval(0, 2**63 - 1)
"""From 1970 to as far as 64 bits go; its ends stand for "has no beginning" and "does not end"."""


def fits(interval: Interval, now_ns: int, needed_ns: int) -> bool:
    """Whether what starts now and takes `needed_ns` both starts and finishes inside `interval`."""
    return interval.start_ns <= now_ns < interval.end_ns and now_ns + needed_ns <= interval.end_ns


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window that opens on some days of the week.

    Attributes:
        start_minute: Wall time at which it opens, in minutes after midnight, 0 to 1439.
        end_minute: Wall time at which it closes, 1 to 1440. Where that is before the start, it is on the next
            day, and the window belongs to the day on which it starts.
        zone: IANA name of the time zone.
        days: Days of the week on which it starts; Monday is 0.
    """

    start_minute: int
    end_minute: int
    zone: str
    days: frozenset[int] = EVERY_DAY

    def __post_init__(self) -> None:
        if self.start_minute == self.end_minute:
            raise ValueError("a window that closes when it opens is empty: for the whole day write 00:00-24:00")
        if not (0 <= self.start_minute < _DAY_MINUTES and 0 < self.end_minute <= _DAY_MINUTES):
            raise ValueError("a window opens from 00:00 to 23:59 and closes from 00:01 to 24:00")
        if not self.days or not self.days <= EVERY_DAY:
            raise ValueError(f"a window starts on at least one day of {', '.join(DAY_NAMES)}")
        _zone(self.zone)

    def __str__(self) -> str:
        days = "" if self.days == EVERY_DAY else f"{_format_days(self.days)} "
        return f"{days}{_format_minute(self.start_minute)}-{_format_minute(self.end_minute)} {self.zone}"

    def spans_s(self, day: int) -> Iterator[tuple[int, int]]:
        """The stretches, in epoch seconds, of the window that starts on local date `day` (days since 1970).

        There is none where it lies in an hour that does not exist, and two where the clock shows its end twice.
        """
        wall_start_s = day * _DAY_S + self.start_minute * 60
        wall_end_s = day * _DAY_S + self.end_minute * 60
        if self.end_minute < self.start_minute:
            wall_end_s += _DAY_S
        # No offset is as much as a day, so the window is inside these bounds whatever the offset.
        for from_s, until_s, offset_s in _offsets(_zone(self.zone), wall_start_s - _DAY_S, wall_end_s + _DAY_S):
            start_s = max(wall_start_s - offset_s, from_s)
            end_s = min(wall_end_s - offset_s, until_s)
            if start_s < end_s:
                yield start_s, end_s


def parse_window(text: str) -> Window:
    """Read a window such as `02:00-05:00 Europe/Madrid` or `mon-fri,sun 22:00-04:00 UTC`.

    Raises:
        ValueError: It is not a window, or its zone is not known; the message says what to write.
    """
    shown = repr(text[:60])
    found = _SHAPE.fullmatch(text.replace("–", "-").strip())  # noqa: RUF001 - the dash that word processors put
    if found is None:
        raise ValueError(f"{shown} is not a maintenance window: {_EXAMPLE}")
    if found["zone"] is None:
        raise ValueError(f"{shown} does not say its time zone: {_EXAMPLE}")
    start_minute, end_minute = _parse_minute(found["start"]), _parse_minute(found["end"])
    return Window(
        start_minute=start_minute,
        end_minute=_DAY_MINUTES if start_minute and not end_minute else end_minute,
        zone=found["zone"],
        days=_parse_days(found["days"]) if found["days"] else EVERY_DAY,
    )


class Calendar:
    """When operations may be started: the union of some windows, without the dates that are blacked out.

    Windows that overlap or touch are one opening. A calendar without windows is always open. Answers depend
    on the arguments alone; what was worked out for the weeks around one question is kept for the next.

    Attributes:
        windows: The windows.
        blackout: Dates on which no window starts, each window's by the calendar of its own zone. A window
            that started the evening before runs to its end.
    """

    __slots__ = ("_blackout_days", "_known", "blackout", "windows")

    def __init__(self, windows: Sequence[Window], blackout: Collection[date] = ()) -> None:
        if blackout and not windows:
            raise ValueError("blackout dates need a window, whose time zone says when such a date begins")
        self.windows = tuple(windows)
        self.blackout = frozenset(blackout)
        days = {day.toordinal() - _EPOCH_ORDINAL for day in self.blackout}
        self._blackout_days = frozenset(day for day in days if 0 <= day <= ALWAYS.end_ns // (_DAY_S * NS_PER_S))
        self._known = _Known(0, 0, []) if windows else _Known(ALWAYS.start_ns, ALWAYS.end_ns, [ALWAYS])

    def opening(self, now_ns: int) -> Interval | None:
        """The opening that `now_ns` is in, as long as it can be made; None where it is closed.

        One that goes on without a break for more than `HORIZON_DAYS` counts as endless (see `ALWAYS`).
        """
        interval = self._current_or_next(now_ns)
        return interval if interval is not None and interval.start_ns <= now_ns else None

    def next_opening(self, now_ns: int) -> Interval | None:
        """The opening that `now_ns` is in, else the next; None where none begins within `HORIZON_DAYS`."""
        interval = self._current_or_next(now_ns)
        if interval is None or interval.start_ns - now_ns > _HORIZON_S * NS_PER_S:
            return None
        return interval

    def _current_or_next(self, now_ns: int) -> Interval | None:
        known = self._known
        if not known.from_ns <= now_ns < known.until_ns:
            known = self._known = self._look_around(now_ns)
        at = bisect_right(known.ends_ns, now_ns)
        return known.intervals[at] if at < len(known.intervals) else None

    def _look_around(self, now_ns: int) -> _Known:
        """Work out the openings around `now_ns`, as far as it takes to know the one it is in or before."""
        today = now_ns // (_DAY_S * NS_PER_S)
        earliest = min((today, *self._blackout_days)) - 3 * HORIZON_DAYS
        latest = max((today, *self._blackout_days)) + 3 * HORIZON_DAYS
        reach = 16
        while True:
            first, last = max(today - reach, earliest), min(today + reach, latest)
            known = self._survey(first, last, from_earliest=first == earliest, to_latest=last == latest)
            if known.from_ns <= now_ns < known.until_ns:
                return known
            reach *= 2

    def _survey(self, first: int, last: int, *, from_earliest: bool, to_latest: bool) -> _Known:
        """The openings made by the windows that start on local dates `first` to `last` (days since 1970).

        Near the borders, windows of dates outside take part; an opening that reaches there is dropped as not
        known in full, unless it is so long, and the survey as wide as it may get, that it counts as endless.
        """
        # A window of the date before `first` ends within two days of it, in any zone; one of the date after
        # `last` starts at most a day before that date does in UTC.
        from_s, until_s = (first + 2) * _DAY_S, last * _DAY_S
        openings = [span for span in self._merged_spans(first, last) if span[1] > from_s and span[0] < until_s]
        start_ns, end_ns = from_s * NS_PER_S, until_s * NS_PER_S
        intervals = [Interval(start * NS_PER_S, end * NS_PER_S) for start, end in openings]
        endless_ns = _HORIZON_S * NS_PER_S
        if intervals and intervals[0].start_ns <= start_ns:
            if from_earliest and intervals[0].end_ns - start_ns >= endless_ns:
                start_ns = ALWAYS.start_ns
                intervals[0] = Interval(start_ns, intervals[0].end_ns)
            else:
                start_ns = intervals.pop(0).end_ns
        if intervals and intervals[-1].end_ns >= end_ns:
            if to_latest and end_ns - intervals[-1].start_ns >= endless_ns:
                intervals[-1] = Interval(intervals[-1].start_ns, ALWAYS.end_ns)
            else:
                intervals.pop()
        known_until_ns = intervals[-1].end_ns if intervals else start_ns
        if to_latest:
            # Whatever was dropped begins more than a horizon after this moment, as does what lies beyond.
            known_until_ns = max(known_until_ns, end_ns - 2 * endless_ns)
        return _Known(start_ns, known_until_ns, intervals)

    def _merged_spans(self, first: int, last: int) -> list[tuple[int, int]]:
        spans = sorted(
            span
            for day in range(first, last + 1)
            if day not in self._blackout_days
            for window in self.windows
            if (day + _EPOCH_WEEKDAY) % 7 in window.days
            for span in window.spans_s(day)
        )
        merged: list[tuple[int, int]] = []
        for start_s, end_s in spans:
            if merged and start_s <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
            else:
                merged.append((start_s, end_s))
        return merged


class _Known:
    """Every opening that is current or next at some moment from `from_ns` to before `until_ns`, in order."""

    __slots__ = ("ends_ns", "from_ns", "intervals", "until_ns")

    def __init__(self, from_ns: int, until_ns: int, intervals: list[Interval]) -> None:
        self.from_ns = from_ns
        self.until_ns = until_ns
        self.intervals = intervals
        self.ends_ns = [interval.end_ns for interval in intervals]


def _offset_s(zone: ZoneInfo, moment_s: int) -> int:
    offset = datetime.fromtimestamp(moment_s, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _offsets(zone: ZoneInfo, from_s: int, until_s: int) -> Iterator[tuple[int, int, int]]:
    """The stretches (from, until, offset from UTC) of a few days, all in seconds.

    No zone has changed its offset twice within six days in this century, so one change at most is looked for.
    """
    before_s, after_s = _offset_s(zone, from_s), _offset_s(zone, until_s)
    if before_s == after_s:
        yield from_s, until_s, before_s
        return
    change_s = from_s + bisect_right(
        range(from_s, until_s), 0, key=lambda moment_s: _offset_s(zone, moment_s) != before_s
    )
    yield from_s, change_s, before_s
    yield change_s, until_s, after_s


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        nearest = _nearest_zone(name)
        hint = f"did you mean {nearest}?" if nearest else "write an IANA name such as Europe/Madrid or UTC"
        raise ValueError(f"no time zone is called {name[:40]!r}: {hint}") from None


def _nearest_zone(name: str) -> str | None:
    """The zone that `name` most likely means: the same but for case and spaces, or with a city much like it.

    Short names have to be a city's own: `EST` looks like `CEST`, and is six hours off.
    """
    wanted = "_".join(name.casefold().split())
    by_name = {zone.casefold(): zone for zone in available_timezones()}
    by_city = {folded.rpartition("/")[2]: by_name[folded] for folded in sorted(by_name) if "/" in folded}
    city = wanted.rpartition("/")[2]
    close = get_close_matches(city, by_city, n=1, cutoff=0.75 if len(city) > len("CEST") else 1)
    return by_name.get(wanted) or (by_city[close[0]] if close else None)


def _parse_minute(text: str) -> int:
    hour, minute = (int(part) for part in text.split(":"))
    if minute >= 60 or hour * 60 + minute > _DAY_MINUTES:  # noqa: PLR2004 - minutes in an hour
        raise ValueError(f"{text} is not a time of day: from 00:00 to 24:00")
    return hour * 60 + minute


def _format_minute(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _parse_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start = _parse_day(first)
        length = (_parse_day(last) - start) % 7 if dash else 0
        days.update((start + step) % 7 for step in range(length + 1))
    return frozenset(days)


def _parse_day(text: str) -> int:
    name = text.strip().lower()
    for day, full in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")):
        if len(name) >= len(DAY_NAMES[day]) and full.startswith(name):
            return day
    raise ValueError(f"{text.strip()[:20]!r} is not a day of the week: use {', '.join(DAY_NAMES)}")


def _format_days(days: frozenset[int]) -> str:
    """Days in order; three or more that follow one another as a range."""
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    long_run = 3
    return ",".join(
        f"{DAY_NAMES[run[0]]}-{DAY_NAMES[run[-1]]}" if len(run) >= long_run else ",".join(DAY_NAMES[day] for day in run)
        for run in runs
    )
