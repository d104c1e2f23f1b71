from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import groupby
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.policy.window import (
    ALWAYS,
    EVERY_DAY,
    HORIZON_DAYS,
    Calendar,
    Interval,
    Window,
    fits,
    parse_window,
)

S = 1_000_000_000
MINUTE = 60 * S
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def ns(text: str) -> int:
    """Epoch nanoseconds of `2026-03-29 01:30`, in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


def shown(interval: Interval | None) -> str | None:
    if interval is None:
        return None
    start, end = (datetime.fromtimestamp(at / S, UTC) for at in (interval.start_ns, interval.end_ns))
    return f"{start:%m-%d %H:%M}..{end:%m-%d %H:%M}"


def calendar(*windows: str, blackout: tuple[date, ...] = ()) -> Calendar:
    return Calendar([parse_window(text) for text in windows], blackout)


def openings(of: Calendar, from_text: str, until_text: str) -> list[str | None]:
    """All openings that begin between two moments."""
    found = []
    now_ns, until_ns = ns(from_text), ns(until_text)
    while (interval := of.next_opening(now_ns)) is not None and interval.start_ns < until_ns:
        found.append(shown(interval))
        now_ns = interval.end_ns
    return found


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("02:00-05:00 Europe/Madrid", "02:00-05:00 Europe/Madrid"),
        ("  2:00 - 5:00   Europe/Madrid ", "02:00-05:00 Europe/Madrid"),
        ("sat,sun 22:00-04:00 Europe/Madrid", "sat,sun 22:00-04:00 Europe/Madrid"),
        ("Sunday, Saturday 22:00-04:00 Europe/Madrid", "sat,sun 22:00-04:00 Europe/Madrid"),
        ("mon-fri 01:30-05:00 UTC", "mon-fri 01:30-05:00 UTC"),
        ("fri-mon,wed 01:00-02:00 UTC", "mon,wed,fri-sun 01:00-02:00 UTC"),
        ("mon-sun 01:00-02:00 UTC", "01:00-02:00 UTC"),
        ("22:00-00:00 UTC", "22:00-24:00 UTC"),
        ("00:00-24:00 UTC", "00:00-24:00 UTC"),
        ("02:00\N{EN DASH}05:00 UTC", "02:00-05:00 UTC"),
    ],
)
def test_a_window_reads_and_writes_its_canonical_text(text: str, canonical: str) -> None:
    window = parse_window(text)
    assert str(window) == canonical
    assert parse_window(canonical) == window


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nightly", "'nightly' is not a maintenance window: write 02:00-05:00 Europe/Madrid"),
        ("", "is not a maintenance window"),
        ("02:00-05:00", "does not say its time zone"),
        ("sat 02:00-05:00", "does not say its time zone"),
        ("02:00-25:00 UTC", "25:00 is not a time of day"),
        ("02:60-03:00 UTC", "02:60 is not a time of day"),
        ("24:00-03:00 UTC", "opens from 00:00 to 23:59"),
        ("00:00-00:00 UTC", "for the whole day write 00:00-24:00"),
        ("02:00-02:00 UTC", "for the whole day write 00:00-24:00"),
        ("funday 02:00-03:00 UTC", "'funday' is not a day of the week"),
        ("sat, 02:00-03:00 UTC", "'' is not a day of the week"),
        ("02:00-05:00 Madrid", "did you mean Europe/Madrid?"),
        ("02:00-05:00 Europe/Madird", "did you mean Europe/Madrid?"),
        ("02:00-05:00 Spain/Madrid", "did you mean Europe/Madrid?"),
        ("02:00-05:00 america/new york", "did you mean America/New_York?"),
        ("02:00-05:00 CEST", "write an IANA name"),
        ("02:00-05:00 Europe", "no time zone is called 'Europe'"),
        ("02:00-05:00 ../../etc/passwd", "no time zone is called"),
    ],
)
def test_a_window_that_cannot_be_read_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_window(text)
    assert message in str(raised.value)


@pytest.mark.parametrize("days", [frozenset[int](), frozenset({7})])
def test_a_window_starts_on_days_of_the_week(days: frozenset[int]) -> None:
    with pytest.raises(ValueError, match="at least one day"):
        Window(0, 60, "UTC", days)


@given(
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sampled_from(["UTC", "Europe/Madrid", "Australia/Lord_Howe"]),
    st.sets(st.integers(0, 6), min_size=1),
)
def test_any_window_survives_its_text(start: int, end: int, zone: str, days: set[int]) -> None:
    if start == end:
        end = 1440
    window = Window(start, end, zone, frozenset(days))
    assert parse_window(str(window)) == window


@pytest.mark.parametrize(
    ("window", "from_text", "until_text", "expected"),
    [
        # Two hours when the clocks jump from 02:00 to 03:00, three otherwise.
        (
            "02:00-05:00 Europe/Madrid",
            "2026-03-28 00:00",
            "2026-03-30 12:00",
            ["03-28 01:00..03-28 04:00", "03-29 01:00..03-29 03:00", "03-30 00:00..03-30 03:00"],
        ),
        # Four hours when 02:00 to 03:00 happens twice.
        ("02:00-05:00 Europe/Madrid", "2026-10-25 00:00", "2026-10-25 12:00", ["10-25 00:00..10-25 04:00"]),
        # The clock shows 02:15 twice, with 02:45 in between.
        (
            "01:30-02:30 Europe/Madrid",
            "2026-10-24 12:00",
            "2026-10-25 12:00",
            ["10-24 23:30..10-25 00:30", "10-25 01:00..10-25 01:30"],
        ),
        # Its end does not exist: it ends when the clocks jump.
        ("01:30-02:30 Europe/Madrid", "2026-03-29 00:00", "2026-03-29 12:00", ["03-29 00:30..03-29 01:00"]),
        # Its start does not exist: it starts when the clocks jump.
        ("02:30-04:00 Europe/Madrid", "2026-03-29 00:00", "2026-03-29 12:00", ["03-29 01:00..03-29 02:00"]),
        # None of it exists that day.
        ("02:10-02:50 Europe/Madrid", "2026-03-28 12:00", "2026-03-30 12:00", ["03-30 00:10..03-30 00:50"]),
        # Overnight into the change, from the day before.
        ("22:00-04:00 Europe/Madrid", "2026-03-28 12:00", "2026-03-29 12:00", ["03-28 21:00..03-29 02:00"]),
        ("sat 22:00-04:00 Europe/Madrid", "2026-10-23 00:00", "2026-10-30 00:00", ["10-24 20:00..10-25 03:00"]),
        ("02:00-05:00 America/New_York", "2026-03-08 00:00", "2026-03-08 12:00", ["03-08 07:00..03-08 09:00"]),
        ("01:00-02:00 America/New_York", "2026-11-01 00:00", "2026-11-01 12:00", ["11-01 05:00..11-01 07:00"]),
        # Half an hour back at 02:00, to 01:30.
        (
            "01:00-01:45 Australia/Lord_Howe",
            "2026-04-04 12:00",
            "2026-04-05 12:00",
            ["04-04 14:00..04-04 14:45", "04-04 15:00..04-04 15:15"],
        ),
        # Half an hour forward at 02:00, to 02:30.
        ("02:00-03:00 Australia/Lord_Howe", "2026-10-03 12:00", "2026-10-04 12:00", ["10-03 15:30..10-03 16:00"]),
        ("02:00-05:00 Asia/Kolkata", "2026-06-01 00:00", "2026-06-02 12:00", ["06-01 20:30..06-01 23:30"]),
        (
            "mon-fri 22:00-24:00 UTC",
            "2026-06-05 00:00",
            "2026-06-09 00:00",
            ["06-05 22:00..06-06 00:00", "06-08 22:00..06-09 00:00"],
        ),
    ],
)
def test_a_window_follows_the_clock_on_the_wall(
    window: str, from_text: str, until_text: str, expected: list[str]
) -> None:
    assert openings(calendar(window), from_text, until_text) == expected


def test_windows_that_overlap_or_touch_are_one_opening() -> None:
    several = calendar("02:00-03:00 UTC", "03:00-05:00 UTC", "06:30-08:00 Europe/Madrid", "08:00-09:00 UTC")
    assert openings(several, "2026-06-01 00:00", "2026-06-02 00:00") == [
        "06-01 02:00..06-01 06:00",
        "06-01 08:00..06-01 09:00",
    ]


def test_whole_days_in_a_row_are_one_opening() -> None:
    assert openings(calendar("sat,sun 00:00-24:00 UTC"), "2026-06-01 00:00", "2026-06-08 00:00") == [
        "06-06 00:00..06-08 00:00"
    ]


def test_a_blackout_takes_the_windows_that_start_on_that_date_in_their_zone() -> None:
    # In Madrid 00:30 on the second is 22:30 on the first in UTC.
    both = calendar("00:30-02:00 Europe/Madrid", "23:00-01:00 UTC", blackout=(date(2026, 6, 2),))
    assert openings(both, "2026-06-01 12:00", "2026-06-03 12:00") == [
        "06-01 23:00..06-02 01:00",
        "06-02 22:30..06-03 00:00",
    ]


def test_an_opening_holds_its_start_and_not_its_end() -> None:
    nightly = calendar("02:00-05:00 UTC")
    assert nightly.opening(ns("2026-06-01 02:00") - 1) is None
    assert shown(nightly.opening(ns("2026-06-01 02:00"))) == "06-01 02:00..06-01 05:00"
    assert shown(nightly.opening(ns("2026-06-01 05:00") - 1)) == "06-01 02:00..06-01 05:00"
    assert nightly.opening(ns("2026-06-01 05:00")) is None


def test_a_calendar_without_windows_is_always_open() -> None:
    assert Calendar([]).opening(ns("2026-06-01 02:00")) == ALWAYS
    assert Calendar([]).next_opening(0) == ALWAYS


def test_blackout_dates_need_a_window() -> None:
    with pytest.raises(ValueError, match="blackout dates need a window"):
        Calendar([], [date(2026, 6, 2)])


@pytest.mark.parametrize(
    "windows",
    [
        ("00:00-24:00 Europe/Madrid",),
        ("00:00-12:00 Europe/Madrid", "12:00-24:00 Europe/Madrid"),
        ("sun-fri 06:00-05:00 UTC", "sat,sun 00:00-24:00 UTC", "04:00-07:00 UTC"),
    ],
)
def test_windows_without_a_gap_are_open_for_good(windows: tuple[str, ...]) -> None:
    assert calendar(*windows).opening(ns("2026-06-01 02:00")) == ALWAYS


def test_openings_around_a_far_blackout_are_exact() -> None:
    full = calendar("00:00-24:00 UTC", blackout=(date(2029, 1, 1), date(9999, 12, 31), date(1066, 10, 14)))
    assert full.opening(ns("2026-06-01 02:00")) == Interval(ALWAYS.start_ns, ns("2029-01-01 00:00"))
    assert full.opening(ns("2029-01-01 12:00")) is None
    assert full.next_opening(ns("2029-01-01 12:00")) == Interval(ns("2029-01-02 00:00"), ALWAYS.end_ns)


def test_a_gap_that_only_a_clock_change_makes_is_seen() -> None:
    """Noon in Madrid is 11:00 in UTC in winter and 10:00 in summer, so the two meet in winter only."""
    both = calendar("00:00-12:00 Europe/Madrid", "11:00-23:30 UTC")
    assert shown(both.opening(ns("2026-06-01 02:00"))) == "05-31 11:00..06-01 10:00"
    assert shown(both.opening(ns("2026-12-01 02:00"))) == "10-24 11:00..03-28 10:00"


def test_no_opening_within_the_horizon_is_none() -> None:
    first = date(2026, 6, 1)
    closed = [first + timedelta(days) for days in range(HORIZON_DAYS + 30)]
    nightly = calendar("02:00-05:00 UTC", blackout=tuple(closed))
    opens_ns = ns("2026-06-01 02:00") + len(closed) * DAY
    assert nightly.next_opening(ns("2026-06-01 00:00")) is None
    assert nightly.opening(ns("2026-06-01 02:30")) is None
    assert nightly.next_opening(opens_ns - HORIZON_DAYS * DAY - 1) is None
    expected = Interval(opens_ns, opens_ns + 3 * HOUR)
    assert nightly.next_opening(opens_ns - HORIZON_DAYS * DAY) == expected


def test_a_window_that_never_exists_never_opens() -> None:
    """Madrid's clocks change on Sundays: this one is blacked out on all others of two years."""
    start = date(2026, 1, 4)
    sundays = [start + timedelta(weeks=week) for week in range(200)]
    never = calendar("sun 02:10-02:50 Europe/Madrid", blackout=tuple(d for d in sundays if d != date(2026, 3, 29)))
    assert never.next_opening(ns("2026-02-01 00:00")) is None


@pytest.mark.parametrize(
    ("now_ns", "needed_ns", "expected"),
    [
        (99, 1, False),
        (100, 100, True),
        (100, 101, False),
        (199, 1, True),
        (200, 0, False),
        (150, 0, True),
    ],
)
def test_what_fits_starts_and_finishes_inside(now_ns: int, needed_ns: int, expected: bool) -> None:
    assert fits(Interval(100, 200), now_ns, needed_ns) is expected


# Days with both kinds of change, changes at midnight, of half an hour, and of a whole day; and with none.
STRETCHES = {
    "Europe/Madrid": ("2026-03-27", "2026-10-23"),
    "America/New_York": ("2026-03-06", "2026-10-30"),
    "Australia/Lord_Howe": ("2026-04-02", "2026-10-01"),
    "America/Havana": ("2026-03-06", "2026-10-30"),
    "Pacific/Apia": ("2011-12-28", "2011-09-22"),
    "Asia/Kolkata": ("2026-03-27", "2026-10-23"),
    "UTC": ("2026-03-27", "2026-10-23"),
}
STRETCH_DAYS = 5
STRETCH_MINUTES = STRETCH_DAYS * 1440


@cache
def wall_clock(zone: str, start: str) -> list[tuple[int, int]]:
    """What a clock on the wall shows in each minute of a stretch: (day number, minute of the day)."""
    first_s = ns(start) // S
    shows = (datetime.fromtimestamp(first_s + 60 * at, ZoneInfo(zone)) for at in range(STRETCH_MINUTES))
    return [(show.toordinal(), show.hour * 60 + show.minute) for show in shows]


def is_inside(window: Window, blackout: set[int], day: int, minute: int) -> bool:
    """The rule: the clock shows a time from start to end, on a day that the window starts."""

    def starts_on(day: int) -> bool:
        return (day - 1) % 7 in window.days and day not in blackout

    if window.start_minute < window.end_minute:
        return starts_on(day) and window.start_minute <= minute < window.end_minute
    return (starts_on(day) and minute >= window.start_minute) or (starts_on(day - 1) and minute < window.end_minute)


@st.composite
def windows_near_changes(draw: st.DrawFn, zone: str) -> Window:
    minutes = st.one_of(st.integers(0, 1439), st.sampled_from([0, 30, 60, 90, 105, 120, 135, 150, 180, 1410]))
    start = draw(minutes)
    end = draw(minutes.filter(lambda end: end != start)) or 1440
    days = draw(st.one_of(st.just(EVERY_DAY), st.frozensets(st.integers(0, 6), min_size=1)))
    return Window(start, end, zone, days)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Window], set[date], str]:
    zone = draw(st.sampled_from(sorted(STRETCHES)))
    start = draw(st.sampled_from(STRETCHES[zone]))
    windows = [draw(windows_near_changes(zone))]
    for _ in range(draw(st.integers(0, 2))):
        other = draw(st.sampled_from([zone, zone, "UTC", "Asia/Kolkata"]))
        windows.append(draw(windows_near_changes(other)))
    first = date.fromisoformat(start)
    blackout = draw(st.sets(st.integers(-1, STRETCH_DAYS).map(lambda days: first + timedelta(days)), max_size=2))
    return windows, blackout, start


@settings(max_examples=100, deadline=None)
@given(cases(), st.floats(0, 1, exclude_max=True))
def test_openings_are_what_a_minute_by_minute_look_at_the_clock_finds(
    case: tuple[list[Window], set[date], str], share: float
) -> None:
    windows, blackout, start = case
    closed = {day.toordinal() for day in blackout}
    inside = [False] * STRETCH_MINUTES
    for window in windows:
        for at, (day, minute) in enumerate(wall_clock(window.zone, start)):
            inside[at] = inside[at] or is_inside(window, closed, day, minute)
    runs = []
    at = 0
    for is_open, minutes in groupby(inside):
        length = len(list(minutes))
        runs.append((is_open, at, at + length))
        at += length

    origin_ns = ns(start)
    asked = Calendar(windows, blackout)
    for index, (is_open, first, last) in enumerate(runs):
        now_ns = origin_ns + first * MINUTE + int(share * (last - first) * MINUTE)
        opening, upcoming = asked.opening(now_ns), asked.next_opening(now_ns)
        assert (opening is not None) is is_open
        # Openings that begin or end beyond the stretch are known only on this side.
        if opening is not None:
            assert opening == upcoming
            assert first == 0 or opening.start_ns == origin_ns + first * MINUTE
            assert last == STRETCH_MINUTES or opening.end_ns == origin_ns + last * MINUTE
        elif index + 1 < len(runs):
            assert upcoming is not None
            assert upcoming.start_ns == origin_ns + last * MINUTE


@settings(max_examples=25, deadline=None)
@given(cases(), st.lists(st.integers(-60 * 24, 60 * 24), min_size=2, max_size=8))
def test_answers_do_not_depend_on_what_was_asked_before(
    case: tuple[list[Window], set[date], str], hours: list[int]
) -> None:
    windows, blackout, start = case
    asked = Calendar(windows, blackout)
    for hour in hours:
        now_ns = ns(start) + hour * HOUR
        fresh = Calendar(windows, blackout)
        assert asked.next_opening(now_ns) == fresh.next_opening(now_ns)
        assert asked.opening(now_ns) == fresh.opening(now_ns)
