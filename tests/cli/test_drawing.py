from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from fleetops.cli.drawing import (
    describe_devices,
    describe_failure,
    describe_left,
    describe_notice,
    describe_outcomes,
    describe_rate,
    describe_wait,
    describe_window,
    drawing,
    plain_line,
    span,
    told,
)
from fleetops.model import NS_PER_S, Outcome
from fleetops.policy.window import ALWAYS, Interval
from fleetops.scheduler import Event, Notice, StopReason, WaitFor
from tests.cli.standings import FAILURES, STANDING, T

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetops.report.progress import Standing

H = 3600 * NS_PER_S


@pytest.fixture(autouse=True)
def greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_what_is_done_is_told_with_its_outcomes() -> None:
    assert describe_outcomes(STANDING) == "1,198 of 6,000 steps (1,190 accepted, 8 failed)"
    assert describe_outcomes(replace(STANDING, outcomes={})) == "0 of 6,000 steps"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "18.4/s sent of 20/s asked"),
        ({"per_s": 5.0}, "18.4/s sent of 20/s asked, lowered to 5/s"),
        ({"per_s": None}, "18.4/s sent of 20/s asked"),
    ],
)
def test_the_effective_rate_is_told_against_the_one_that_was_asked_for(changes: dict[str, Any], words: str) -> None:
    assert describe_rate(replace(STANDING, **changes)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "about 10 min 0 s left"),
        ({"planned_s": 600}, "about 10 min 0 s left, 8 min 55 s left by the plan"),
        ({"planned_s": 5, "left_s": None}, "1 min 0 s over the plan"),
        ({"left_s": None}, ""),
    ],
)
def test_the_time_left_is_told_with_the_plans_beside_it(changes: dict[str, Any], words: str) -> None:
    assert describe_left(replace(STANDING, **changes)) == words


def test_what_is_not_known_of_the_devices_is_not_told() -> None:
    assert describe_devices(STANDING) == "12 in flight, 300 settling or backing off, 4,000 queued"
    assert describe_devices(replace(STANDING, ready=None)) == "12 in flight, 300 settling"


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (None, ""),
        (ALWAYS, ""),
        (Interval(T - H, T + 2 * H), "open until Fri 05:00, 2 h 0 min left"),
        (Interval(T + H, T + 2 * H), "closed, opens Fri 04:00, in 1 h 0 min"),
        (Interval(T - H, ALWAYS.end_ns), "open"),
    ],
)
def test_the_maintenance_window_is_told(window: Interval | None, words: str) -> None:
    assert describe_window(replace(STANDING, window=window)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"waits_for": WaitFor.WINDOW, "wait_s": 3_720}, "the maintenance window is closed (for 1 h 2 min)"),
        ({"waits_for": WaitFor.HOLD, "wait_s": 90}, "the service asked us to wait (for 1 min 30 s)"),
        ({"waits_for": WaitFor.CONTINUE}, "paused"),
        ({"waits_for": WaitFor.CONCURRENCY}, ""),
        ({"stopping": StopReason.BUDGET_SPENT}, "stopping: budget spent"),
    ],
)
def test_what_is_waited_for_is_told(changes: dict[str, Any], words: str) -> None:
    assert describe_wait(replace(STANDING, **changes)) == words


def test_what_happened_to_the_run_is_told_in_a_line() -> None:
    assert describe_notice(Notice(0, Event.GATE_PASSED, "2 of 40 failed\n")) == "gate passed: 2 of 40 failed\\n"
    assert describe_notice(Notice(0, Event.CONTINUED)) == "continued"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (65, "1 min 5 s"), (7_260, "2 h 1 min"), (180_000, "2 d 2 h"), (-3, "0 s")]
)
def test_a_span_of_time_is_told_as_people_do(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_all_of_it_goes_into_a_line_for_logs() -> None:
    now = replace(STANDING, wave=(2, 3), waits_for=WaitFor.SOAK)
    assert plain_line(now) == (
        "03:00:00 1,198 of 6,000 steps (1,190 accepted, 8 failed), 12 in flight, 300 waiting, 18.4/s sent of 20/s "
        "asked, wave 2 of 3, the wave that is done soaks, about 10 min 0 s left"
    )


def test_a_failure_is_told_with_its_serial_number_and_reason() -> None:
    assert describe_failure(FAILURES[0]) == "03:00:00 SN0001 reboot: failed, not_found"
    assert describe_failure(FAILURES[0]._replace(serial="\x1b]0;x", reason=None), when=False) == (
        "\\x1b]0;x reboot: failed"
    )


STEP = {"row": 1, "serial": "SN1", "operation": "sync"}


@pytest.mark.parametrize(
    ("event", "fields", "some", "everything"),
    [
        (
            "attempt",
            {"attempt": 2, "result": "maybe", "http_status": 502, "reason": "bad_gateway", "duration_s": 0.021},
            None,
            "SN1 sync, attempt 2: maybe 502, bad_gateway in 21 ms",
        ),
        ("outcome", {"outcome": Outcome.ACCEPTED}, None, "SN1 sync: accepted"),
        ("outcome", {"outcome": Outcome.FAILED, "reason": "x\x07"}, *["SN1 sync: failed, x\\x07"] * 2),
        ("retry", {"wait_s": 1.2}, *["SN1 sync: tried again in 1 s"] * 2),
        ("hold", {"wait_s": 30}, *["the service asked us to wait for 30 s"] * 2),
        ("paused", {}, None, None),
    ],
)
def test_as_much_is_told_of_the_steps_as_was_asked_for(
    event: str, fields: dict[str, Any], some: str | None, everything: str | None
) -> None:
    assert told(event, {**STEP, **fields}, everything=False) == some
    assert told(event, {**STEP, **fields}, everything=True) == everything


def drawn(now: Standing, width: int) -> list[str]:
    file = io.StringIO()
    top, rest = drawing(now, width)
    console = Console(file=file, width=width)
    console.print(top)
    for line in rest:
        console.print(line)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 80, 160])
def test_all_that_matters_is_on_the_screen_however_narrow_it_is(width: int) -> None:
    now = replace(STANDING, wave=(2, 3), window=Interval(T - H, T + H), waits_for=WaitFor.HOLD, planned_s=600)
    lines = drawn(now, width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for words in ("19 %", "1,190 accepted", "8 failed", "2 of 3", "12 in flight", "SN0001"):
        assert words in text
    assert "20/s" in text


def test_a_title_cannot_control_the_terminal() -> None:
    assert "\x1b" not in "".join(drawn(replace(STANDING, campaign="\x1b[2J"), 80))
