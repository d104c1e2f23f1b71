from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from fleetops.journal import RunClock
from fleetops.journal.views import RunView
from fleetops.policy import Policy
from fleetops.report.standing import standing
from fleetops.scheduler import Event, StopReason
from tests.report.journals import RUN_ID, Made, S, make_journal, rows

if TYPE_CHECKING:
    from pathlib import Path


def lines(made: Made) -> list[str]:
    lock = made.state.lock_run(RUN_ID)
    try:
        with RunView.open(made.state, RUN_ID) as view:
            return list(standing(view))
    finally:
        lock.release()


def live(tmp_path: Path, *events: tuple[Event, str], **policy: object) -> Made:
    made = make_journal(tmp_path, rows(40), policy=Policy.model_validate(policy))
    clock = RunClock()
    made.process(started_ns=clock.now_ns() - 60 * S, boot_id=clock.boot_id, wall_minus_boot_ns=clock.wall_minus_boot_ns)
    for event, detail in events:
        made.event(event, detail, at_ns=clock.now_ns())
    return made


def window(opens_in_h: int, closes_in_h: int) -> str:
    """A window by the clock of UTC, as hours from now."""
    now = datetime.now(UTC)
    return "-".join(f"{now + timedelta(hours=hours):%H:%M}" for hours in (opens_in_h, closes_in_h)) + " UTC"


def test_a_run_that_nobody_drives_does_nothing(tmp_path: Path) -> None:
    made = live(tmp_path)
    with RunView.open(made.state, RUN_ID) as view:
        assert standing(view) == ()


def test_the_rate_that_is_kept_stands_beside_the_one_asked_for(tmp_path: Path) -> None:
    made = live(tmp_path, rate="20/s")
    now_ns = RunClock().now_ns()
    for step in range(30):
        made.attempt(step, "throttled" if step < 4 else "accepted", http_status=429 if step < 4 else 200, at_ns=now_ns)
    assert lines(made) == ["3/s over the last 10 s, 4 answers were 429; 20/s asked for"]


def test_another_rate_that_was_asked_for_since_counts(tmp_path: Path) -> None:
    assert lines(live(tmp_path, (Event.RATE, "7/s")))[-1].endswith("; 7/s asked for")


@pytest.mark.parametrize(
    ("events", "first"),
    [
        ([Event.PAUSED], f"paused: as told; `fleetops continue {RUN_ID}` lets it go on"),
        ([Event.PAUSED, Event.CONTINUED, Event.WAVE_STARTED], "as told"),
        ([Event.OUTAGE], "the service does not answer since "),
        ([Event.OUTAGE, Event.OUTAGE_OVER], "0/s over the last"),
    ],
)
def test_what_holds_a_run_up_comes_first(events: list[Event], first: str, tmp_path: Path) -> None:
    assert lines(live(tmp_path, *((event, "as told") for event in events)))[0].startswith(first)


@pytest.mark.parametrize(
    ("hours", "says"),
    [
        ((-2, 2), r"in the maintenance window, which closes at \S+Z"),
        ((2, 4), r"outside the maintenance window, which opens at \S+Z"),
    ],
)
def test_a_run_with_windows_says_how_they_stand(hours: tuple[int, int], says: str, tmp_path: Path) -> None:
    assert re.fullmatch(says, lines(live(tmp_path, window=window(*hours)))[0])


def test_windows_that_are_ignored_are_told(tmp_path: Path) -> None:
    made = live(tmp_path, (Event.WINDOW_IGNORED, ""), window=window(2, 4))
    assert lines(made)[0] == "its maintenance windows are ignored (--now)"


def test_what_an_earlier_process_told_is_over(tmp_path: Path) -> None:
    made = live(tmp_path, (Event.PAUSED, "by the operator"))
    clock = RunClock()
    made.process(started_ns=clock.now_ns(), boot_id=clock.boot_id, wall_minus_boot_ns=clock.wall_minus_boot_ns)
    assert not any("paused" in line for line in lines(made))


def test_a_run_that_has_ended_does_nothing(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=S, reason=StopReason.ABORTED)
    assert lines(made) == []
