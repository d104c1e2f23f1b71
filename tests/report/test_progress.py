from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fleetops.journal.clock import boot_id, since_boot_ns
from fleetops.journal.views import RunView
from fleetops.model import Operation, Outcome
from fleetops.policy import Policy
from fleetops.report.progress import Onlooker, Pace, Standing, planned_s, standing_of
from fleetops.scheduler import StopReason, WaitFor
from tests.cli.standings import SNAPSHOT
from tests.report.journals import Made, S, make_journal, rows

if TYPE_CHECKING:
    from pathlib import Path


def test_the_pace_of_the_last_seconds_is_told_and_what_is_left_at_the_pace_so_far() -> None:
    pace = Pace()
    assert (pace.elapsed_s, pace.sent_per_s(), pace.left_s(0, 100)) == (0.0, 0.0, None)
    for second in range(21):
        # Ten requests a second for ten seconds, then one.
        sends = min(second, 10) * 10 + max(0, second - 10)
        pace.look(1000.0 + second, done=sends // 2, sends=sends)
    assert pace.elapsed_s == 20
    assert pace.sent_per_s() == pytest.approx(1.0)
    assert pace.left_s(55, 110) == pytest.approx(20.0)
    assert pace.left_s(110, 110) is None


def test_whoever_takes_up_a_run_reckons_with_what_is_done_since() -> None:
    pace = Pace()
    pace.look(0.0, done=900, sends=0)
    pace.look(10.0, done=950, sends=50)
    assert pace.left_s(950, 1000) == pytest.approx(10.0)


def test_an_onlooker_shows_windows_and_the_plan_beside_what_the_runner_says() -> None:
    policy = Policy.model_validate({"window": ["02:00-05:00 UTC"]})
    onlooker = Onlooker("x", "batch", policy, 600.0)
    at_four_ns = 1_767_326_400 * S
    onlooker.look(SNAPSHOT, at_four_ns, 5.0)
    now = onlooker.look(replace(SNAPSHOT, sends=1400, wait_ns=3 * S), at_four_ns, 10.0)
    assert (now.run_id, now.campaign, now.planned_s, now.elapsed_s) == ("x", "batch", 600.0, 5.0)
    assert now.sent_per_s == pytest.approx(20.0)
    assert now.wait_s == 3
    assert now.window is not None
    assert now.window.end_ns - at_four_ns == 3600 * S
    assert onlooker.look(replace(SNAPSHOT, stopping=StopReason.ABORTED), at_four_ns, 11.0).left_s is None


class Going(Made):
    """A run that a process of this boot began ten seconds ago."""

    def begin(self) -> None:
        self.process(started_ns=self.ago(10), boot_id=boot_id(), wall_minus_boot_ns=0)

    @staticmethod
    def ago(seconds: float) -> int:
        return since_boot_ns() - round(seconds * S)

    def happened(self, event: str, detail: str = "", *, ago_s: float = 1) -> None:
        self._write("INSERT INTO event VALUES (?, 1, ?, ?)", self.ago(ago_s), event, detail)

    def held(self, until_ns: int) -> None:
        self._write("INSERT INTO run VALUES ('hold_until_ns', ?)", str(until_ns))

    def standing(self) -> Standing:
        with RunView.open(self.state, self.run_id) as view:
            view.live = True
            return standing_of(view)


def going(folder: Path, policy: dict[str, Any] | None = None) -> Going:
    steps = [(serial, op) for serial, _ in rows(5) for op in (Operation.REBOOT, Operation.SYNC)]
    made = make_journal(folder, steps, policy=Policy.model_validate(policy or {}))
    found = Going(made.state, made.run_id)
    found.begin()
    return found


def test_the_journal_of_a_live_run_tells_how_it_stands(tmp_path: Path) -> None:
    run = going(tmp_path, {"rate": "5/s", "settle": {"reboot": "1h"}})
    for step in (0, 2, 4):
        run.attempt(step, "accepted", at_ns=run.ago(5))
    run.result(0, Outcome.ACCEPTED, at_ns=run.ago(4))
    run.result(2, Outcome.FAILED, "not_found", at_ns=run.ago(3))
    run.result(3, Outcome.SKIPPED, "earlier_step_failed", at_ns=run.ago(3))
    run.result(4, Outcome.ACCEPTED, at_ns=run.ago(2))
    run.attempt(6, None, at_ns=run.ago(1))
    now = run.standing()
    assert {one: count for one, count in now.outcomes.items() if count} == {
        Outcome.ACCEPTED: 2,
        Outcome.FAILED: 1,
        Outcome.SKIPPED: 1,
    }
    assert (now.steps, now.done, now.in_flight) == (10, 4, 1)
    assert now.waiting == 2, "those whose reboot was accepted settle"
    assert now.ready is None
    assert [(one.serial, one.reason) for one in now.failures] == [("SN0002", "not_found")]
    assert (now.wave, now.window, now.planned_s, now.waits_for) == ((1, 1), None, None, None)
    assert now.sent_per_s == pytest.approx(0.4, rel=0.1)
    assert now.asked_per_s == 5
    assert now.elapsed_s == pytest.approx(10, abs=1)
    assert now.left_s == pytest.approx(15, abs=2)


def test_waves_and_another_rate_are_read_from_what_happened(tmp_path: Path) -> None:
    run = going(tmp_path, {"waves": "1,3,100%"})
    assert run.standing().wave == (1, 3)
    run.happened("wave_started", "wave 2 of 3: 2 devices")
    run.happened("rate", "7/s")
    now = run.standing()
    assert now.wave == (2, 3)
    assert now.asked_per_s == 7


def test_what_a_run_waits_for_is_read_from_what_happened(tmp_path: Path) -> None:
    run = going(tmp_path)
    run.happened("outage", ago_s=5)
    assert run.standing().waits_for is WaitFor.OUTAGE
    run.happened("outage_over", ago_s=4)
    assert run.standing().waits_for is None
    run.held(since_boot_ns() + 60 * S)
    now = run.standing()
    assert now.waits_for is WaitFor.HOLD
    assert now.wait_s == pytest.approx(60, abs=2)
    run.happened("paused", ago_s=3)
    assert run.standing().waits_for is WaitFor.CONTINUE
    run.happened("continued", ago_s=2)
    assert run.standing().waits_for is WaitFor.HOLD


def test_a_run_whose_window_is_closed_waits_for_it(tmp_path: Path) -> None:
    # Its clock goes from 1970 on, on a Thursday; the window is on another day than it now has.
    day = ("thu", "fri", "sat", "sun", "mon", "tue", "wed")[(since_boot_ns() // S // 86_400 + 3) % 7]
    now = going(tmp_path, {"window": [f"{day} 02:00-05:00 UTC"]}).standing()
    assert now.waits_for is WaitFor.WINDOW
    assert now.window is not None
    assert now.window.start_ns > now.now_ns


def test_a_window_that_is_ignored_is_not_shown(tmp_path: Path) -> None:
    run = going(tmp_path, {"window": ["02:00-05:00 UTC"]})
    run.happened("window_ignored")
    now = run.standing()
    assert (now.window, now.waits_for) == (None, None)


def test_looking_at_a_large_run_takes_a_few_looks_at_each_step(tmp_path: Path) -> None:
    steps = [*rows(2_000), *rows(2_000, Operation.SYNC)]
    made = make_journal(tmp_path, steps)
    run = Going(made.state, made.run_id)
    run.begin()
    with run.writing():
        for step in range(2_000):
            run.result(step, Outcome.ACCEPTED, at_ns=run.ago(1))
    instructions = 0

    def count() -> int:
        nonlocal instructions
        instructions += 1_000
        return 0

    with RunView.open(made.state, made.run_id) as view, view.reading() as reader:
        view.live = True
        reader.set_progress_handler(count, 1_000)
        assert standing_of(view).waiting == 2_000
    assert instructions < 500 * len(steps)


def test_what_a_plan_predicted_is_read_from_the_journal() -> None:
    assert planned_s('{"makespan_s": 12.5}') == 12.5
    assert planned_s("") is None


def test_a_run_that_no_process_has_begun_has_done_nothing(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(3))
    with RunView.open(made.state, made.run_id) as view:
        now = standing_of(view)
    assert (now.done, now.elapsed_s, now.left_s) == (0, 0.0, None)
