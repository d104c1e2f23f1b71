from __future__ import annotations

from datetime import UTC, datetime

from fleetops.model import NS_PER_S
from fleetops.policy import Policy
from fleetops.scheduler.openings import Openings

MINUTE = 60 * NS_PER_S


def at(hour: int, minute: int = 0, day: int = 10) -> int:
    return int(datetime(2026, 3, day, hour, minute, tzinfo=UTC).timestamp()) * NS_PER_S


def openings(**settings: object) -> Openings:
    timeouts = {"connect": "30s", "read": "30s"}
    return Openings(Policy.model_validate({"window": "02:00-05:00 UTC", "timeouts": timeouts, **settings}))


def test_a_step_fits_only_where_its_timeouts_and_settle_end_inside() -> None:
    window = openings()
    assert not window.fits(at(3), 0)  # not entered yet
    assert window.enter(at(3))
    assert window.fits(at(4, 54), 5 * MINUTE)
    assert not window.fits(at(4, 54) + 1, 5 * MINUTE)


def test_before_the_first_opening_a_run_waits_for_it() -> None:
    window = openings()
    assert not window.enter(at(1))
    assert window.next_start_ns(at(1), 0) == at(2)


def test_after_an_opening_a_run_that_stops_at_its_end_waits_for_no_other() -> None:
    window = openings()
    window.enter(at(3))
    assert window.next_start_ns(at(5), 0) is None


def test_after_an_opening_a_run_that_waits_has_the_next_one_also_while_the_last_still_lasts() -> None:
    window = openings(at_end="wait")
    window.enter(at(3))
    assert window.next_start_ns(at(4, 59), 0) == at(2, day=11)
    assert window.next_start_ns(at(5), 0) == at(2, day=11)


def test_openings_that_are_too_short_for_what_is_left_are_passed_over() -> None:
    window = openings(window=["02:00-02:10 UTC", "tue 22:00-23:00 UTC"], at_end="wait")
    window.enter(at(2))
    assert window.next_start_ns(at(2, 5), 30 * MINUTE) == at(22)  # the 10th is a Tuesday


def test_nothing_is_waited_for_where_no_opening_is_ever_long_enough() -> None:
    assert openings(at_end="wait").next_start_ns(at(1), 180 * MINUTE) is None


def test_nothing_is_waited_for_where_no_window_ever_opens_again() -> None:
    blackout = [f"2026-03-{day:02}" for day in range(1, 32)]
    window = openings(window="wed 02:00-05:00 UTC", blackout=blackout)
    assert window.next_start_ns(at(1), 0) == int(datetime(2026, 4, 1, 2, tzinfo=UTC).timestamp()) * NS_PER_S
