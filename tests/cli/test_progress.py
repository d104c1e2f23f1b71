from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import replace
from typing import Any

import anyio
import pytest

from fleetops.cli import progress
from fleetops.cli.log import LogFormat, log_as, one_log
from fleetops.cli.progress import (
    describe_notice,
    describe_outcomes,
    describe_pace,
    describe_wait,
    log_progress,
    reading,
    show_live,
    show_plainly,
)
from fleetops.model import NS_PER_S, Outcome
from fleetops.runner.drive import Snapshot
from fleetops.scheduler import Event, Notice, StopReason, WaitFor

SNAPSHOT = Snapshot(
    outcomes={**dict.fromkeys(Outcome, 0), Outcome.ACCEPTED: 1190, Outcome.FAILED: 8},
    steps=6000,
    in_flight=12,
    waiting=300,
    ready=4000,
    sends=1300,
    per_s=20.0,
    asked_per_s=20.0,
    waits_for=None,
    wait_ns=None,
    wave=(1, 1),
    detail="",
    stopping=None,
    notices=(),
)


class Moving:
    """A run that gets on a little whenever it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def snapshot(self) -> Snapshot:
        self.looks += 1
        notices = (Notice(0, Event.GATE_PASSED, "wave 1 of 2"),) if self.looks > 2 else ()
        outcomes = {**SNAPSHOT.outcomes, Outcome.ACCEPTED: 1190 + 10 * self.looks}
        return replace(SNAPSHOT, outcomes=outcomes, notices=notices)


def test_what_is_done_is_told_with_its_outcomes() -> None:
    assert describe_outcomes(SNAPSHOT) == "1,198 of 6,000 steps (1,190 accepted, 8 failed)"
    nothing = replace(SNAPSHOT, outcomes=dict.fromkeys(Outcome, 0))
    assert describe_outcomes(nothing) == "0 of 6,000 steps"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "12 in flight, 300 waiting, 20/s"),
        ({"per_s": 5.0}, "5/s of 20/s"),
        ({"wave": (1, 3)}, "wave 1 of 3"),
    ],
)
def test_how_fast_a_run_goes_is_told(changes: dict[str, Any], words: str) -> None:
    assert words in describe_pace(replace(SNAPSHOT, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        (
            {"waits_for": WaitFor.WINDOW, "wait_ns": 3_720 * NS_PER_S},
            "the maintenance window is closed (for 1 h 2 min)",
        ),
        ({"waits_for": WaitFor.HOLD, "wait_ns": 90 * NS_PER_S}, "the service asked us to wait (for 1 min 30 s)"),
        ({"waits_for": WaitFor.CONTINUE}, "paused"),
        ({"stopping": StopReason.BUDGET_SPENT}, "stopping: budget spent"),
    ],
)
def test_what_a_run_waits_for_is_told(changes: dict[str, Any], words: str) -> None:
    assert describe_wait(replace(SNAPSHOT, **changes)) == words


def test_a_notice_never_carries_control_characters_to_a_terminal() -> None:
    assert describe_notice(Notice(0, Event.PAUSED, "\x1b[31mred")) == "paused: \\x1b[31mred"
    assert describe_notice(Notice(0, Event.CONTINUED)) == "continued"


@pytest.mark.parametrize("show", [show_plainly, show_live])
def test_progress_is_shown_until_it_is_cancelled(show: object, capsys: pytest.CaptureFixture[str]) -> None:
    moving = Moving()

    async def watch() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(show, moving)  # type: ignore[arg-type]  # a run, as far as it is looked at
            while moving.looks < 5:  # noqa: ASYNC110 - whoever looks tells nobody
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

    anyio.run(watch)
    assert "gate passed: wave 1 of 2" in capsys.readouterr().err


def test_progress_is_logged_for_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOGGED_EVERY_S", 0.001)
    moving = Moving()

    async def watch() -> None:
        with anyio.move_on_after(0.1):
            await log_progress(moving)  # type: ignore[arg-type]  # a run, as far as it is looked at

    with one_log():
        log_as(LogFormat.JSON, run_id="x")
        anyio.run(watch)
    first = json.loads(capsys.readouterr().err.splitlines()[0])
    assert first["event"] == "progress"
    assert first["run_id"] == "x"
    assert first["outcomes"] == {"accepted": 1200, "failed": 8}


class Screen(io.StringIO):
    """A terminal, as far as it is asked."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("after_s", "shown"), [(0.0, True), (60.0, False)])
def test_what_takes_long_is_told_on_a_terminal(monkeypatch: pytest.MonkeyPatch, after_s: float, shown: bool) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_WORKING_AFTER_S", after_s)
    with reading("ni[b]ght\x1b.csv"):
        if shown:
            until_s = time.monotonic() + 10
            while "reading" not in screen.getvalue() and time.monotonic() < until_s:
                time.sleep(0.01)
    assert ("reading ni[b]ght\\x1b.csv" in screen.getvalue()) == shown


def test_elsewhere_nothing_is_told_of_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_WORKING_AFTER_S", 0.0)
    with reading("night.csv"), reading("-"):
        time.sleep(0.05)
    assert capsys.readouterr() == ("", "")
