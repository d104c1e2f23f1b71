from __future__ import annotations

import io
import json
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from rich.console import Console

from fleetops.cli import progress
from fleetops.cli.log import LogFormat, log_as, one_log
from fleetops.cli.progress import Display, LogLines, Teller, reading, terminal
from fleetops.cli.screen import Screen as DrawnOn
from fleetops.model import Outcome
from fleetops.report.progress import Onlooker
from fleetops.scheduler import Event, Notice
from tests.cli.standings import SNAPSHOT

if TYPE_CHECKING:
    from fleetops.runner import Snapshot


class Moving:
    """A run that gets on a little whenever it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def snapshot(self) -> Snapshot:
        self.looks += 1
        notices = (Notice(0, Event.GATE_PASSED, "wave 1 of 2"),) if self.looks > 2 else ()
        outcomes = {**SNAPSHOT.outcomes, Outcome.ACCEPTED: 1190 + 10 * self.looks}
        return replace(SNAPSHOT, outcomes=outcomes, notices=notices)


def look_on(shown: Display | LogLines, looks: int = 5) -> None:
    """Have somebody look on until the run has been looked at so often."""
    moving = Moving()

    async def watch() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shown.show, moving)  # type: ignore[arg-type]  # a run, as far as it is looked at
            while moving.looks < looks:  # noqa: ASYNC110 - whoever looks tells nobody
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

    anyio.run(watch)
    shown.close()


def test_a_terminal_shows_how_far_a_run_is_and_keeps_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK_S", 0.001)
    file = io.StringIO()
    screen = DrawnOn(Console(file=file, width=80, height=24, force_terminal=True, legacy_windows=False))
    teller = Teller()
    teller.tell("a line")
    look_on(Display(Onlooker("20260102-030405-6f7a", "batch 14"), teller, screen))
    text = file.getvalue()
    assert text.count("gate passed: wave 1 of 2") == 1
    assert text.count("a line") == 1
    assert "Run 20260102-030405-6f7a (batch 14)" in text
    assert "SN0001 reboot: failed, not_found" in text
    assert text.endswith("\x1b[J"), "nothing of it stays"


def test_elsewhere_a_line_tells_it_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LOOK_S", 0.001)
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    look_on(Display(Onlooker(), Teller(), None))
    lines = capsys.readouterr().err.splitlines()
    assert sum("gate passed: wave 1 of 2" in line for line in lines) == 1
    assert any("of 6,000 steps" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_terminal_that_is_held_up_does_not_hold_up_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    held, stuck = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        stuck.set()
        held.wait(20)

    monkeypatch.setattr(progress, "say", wait)
    monkeypatch.setattr(progress, "_LOOK_S", 0.001)
    teller = Teller()
    teller.tell("a line")

    async def drive() -> int:
        beats = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Display(Onlooker(), teller, None).show, Moving())  # type: ignore[arg-type]  # a run
            while not stuck.is_set() or beats < 20:
                await anyio.sleep(0.001)
                beats += stuck.is_set()
            tasks.cancel_scope.cancel()
        return beats

    assert anyio.run(drive) == 20
    held.set()


def test_progress_is_logged_for_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK_S", 0.001)
    monkeypatch.setattr(progress, "_LOGGED_EVERY_S", 0.001)
    with one_log():
        log_as(LogFormat.JSON, run_id="x")
        teller = Teller()
        teller.tell("{}")
        look_on(LogLines(teller, progress=True))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == {}
    assert lines[1]["event"] == "progress"
    assert lines[1]["run_id"] == "x"
    assert lines[1]["outcomes"]["failed"] == 8


@pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False)])
def test_a_terminal_that_cannot_be_drawn_on_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str, drawn: bool) -> None:
    monkeypatch.setenv("TERM", term)
    assert (terminal(Screen()) is not None) == drawn
    assert terminal(io.StringIO()) is None


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
