from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

from fleetops.cli.progress import describe_notice, describe_outcomes, describe_pace, show_live, show_plainly
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
        (
            {"waits_for": WaitFor.WINDOW, "wait_ns": 3_720 * NS_PER_S},
            "the maintenance window is closed (for 1 h 2 min)",
        ),
        ({"waits_for": WaitFor.HOLD, "wait_ns": 90 * NS_PER_S}, "the service asked us to wait (for 1 min 30 s)"),
        ({"waits_for": WaitFor.CONTINUE}, "paused"),
        ({"stopping": StopReason.INTERRUPTED}, "stopping: interrupted"),
    ],
)
def test_what_a_run_waits_for_is_told(changes: dict[str, Any], words: str) -> None:
    assert words in describe_pace(replace(SNAPSHOT, **changes))


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
