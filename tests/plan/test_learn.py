from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.journal import StateDir
from fleetops.plan import learned
from tests.plan.journals import BASE_URL, leave_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def test_nothing_is_learned_where_nothing_ran(state: StateDir) -> None:
    assert learned(state, BASE_URL) is None


def test_latency_and_failures_come_from_the_newest_run_on_that_service(state: StateDir) -> None:
    leave_run(state, "20260101-000000-aaaa", [(at / 10, at / 10 + 9, "accepted") for at in range(40)])
    sent = [(at / 10, at / 10 + 0.1 + 0.001 * at, "maybe" if at % 10 == 0 else "accepted") for at in range(100)]
    leave_run(state, "20260102-000000-bbbb", sent)
    leave_run(state, "20260103-000000-cccc", sent, base_url="https://other.example/api/v1")
    found = learned(state, BASE_URL)
    assert found is not None
    assert found.run_id == "20260102-000000-bbbb"
    assert found.samples == 100
    assert found.failing == pytest.approx(0.1)
    assert found.latency_s[0] == pytest.approx(0.1)
    assert found.latency_s[-1] == pytest.approx(0.199)
    assert found.mean_latency_s == pytest.approx(0.15, abs=0.005)
    assert found.host_s == pytest.approx(0.004)
    assert found.limit_per_s is None


def test_a_limit_is_what_was_taken_in_the_second_before_a_429(state: StateDir) -> None:
    sent = []
    for volley in range(3):
        start_s = volley * 6.0
        sent += [(start_s + at / 20, start_s + at / 20 + 0.01, "accepted") for at in range(10)]
        sent += [(start_s + 0.5 + at / 20, start_s + 0.51 + at / 20, "throttled") for at in range(2)]
    found = learned(state, BASE_URL)
    assert found is None
    leave_run(state, "20260102-000000-bbbb", sent)
    found = learned(state, BASE_URL)
    assert found is not None
    assert found.limit_per_s == 10
    assert found.retry_after_s > 0
    assert found.failing == 0


def test_a_429_that_nothing_followed_still_tells_the_limit(state: StateDir) -> None:
    sent = [(at / 50, at / 50 + 0.001, "accepted") for at in range(30)]
    leave_run(state, "20260102-000000-bbbb", [*sent, (0.6, 0.61, "throttled")])
    found = learned(state, BASE_URL)
    assert found is not None
    assert (found.limit_per_s, found.retry_after_s) == (30, 1.0)


def test_runs_with_too_few_answers_and_damaged_ones_are_passed_over(state: StateDir) -> None:
    leave_run(state, "20260101-000000-aaaa", [(at / 10, at / 10 + 0.2, "accepted") for at in range(40)])
    leave_run(state, "20260102-000000-bbbb", [(0, 5, "accepted")])
    state.journal_path("20260103-000000-cccc").write_bytes(b"not a journal")
    found = learned(state, BASE_URL)
    assert found is not None
    assert found.run_id == "20260101-000000-aaaa"
