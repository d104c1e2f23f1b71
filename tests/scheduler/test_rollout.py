from __future__ import annotations

import pytest

from fleetops.model import OUTCOMES, Outcome
from fleetops.policy.waves import Verdict, parse_gate
from fleetops.scheduler.rollout import Rollout

GATE = parse_gate("failed<=0%, unknown<=0%, soak 10s")
SOAK_NS = 10_000_000_000
CODE = {outcome: code for code, outcome in enumerate(OUTCOMES, start=1)}


def fresh(wave_of: list[int]) -> Rollout:
    rollout = Rollout(bytes(wave_of), GATE)
    ended = touched = bytearray(len(wave_of))
    rollout.take_up(range(len(wave_of)), b"", ended, touched, waived=False)
    return rollout


def test_the_first_wave_is_in_and_the_others_wait() -> None:
    rollout = fresh([0, 1, 1, 2])
    assert (rollout.wave, rollout.waves) == (0, 3)
    assert [list(devices) for devices in rollout.by_wave(range(4))] == [[0], [1, 2], [3]]
    assert rollout.judge(10**18) is None


def test_a_wave_that_is_done_soaks_and_is_judged() -> None:
    rollout = fresh([0, 1])
    rollout.count(0, Outcome.ACCEPTED)
    rollout.ended(0, 100)
    assert rollout.judge(100 + SOAK_NS - 1) is None
    assert rollout.judge(100 + SOAK_NS) is Verdict.PASSED
    assert rollout.let_in_next() == 1
    assert rollout.wave == 1


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
def test_a_wave_fails_its_gate(outcome: Outcome) -> None:
    rollout = fresh([0, 0, 1])
    rollout.count(0, Outcome.ACCEPTED)
    rollout.count(1, outcome)
    rollout.count(1, Outcome.SKIPPED)
    rollout.ended(0, 0)
    rollout.ended(1, 0)
    verdict = rollout.judge(SOAK_NS)
    assert verdict is not None
    assert verdict is not Verdict.PASSED
    assert rollout.explain().startswith("wave 1 of 2: ")


def test_a_device_that_was_not_confirmed_counts_as_unknown() -> None:
    rollout = fresh([0, 1])
    rollout.count(0, Outcome.ACCEPTED)
    rollout.was_not_confirmed(0)
    rollout.ended(0, 0)
    assert rollout.judge(SOAK_NS) is not Verdict.PASSED


def test_the_last_wave_is_not_judged() -> None:
    rollout = fresh([0, 1])
    rollout.ended(0, 0)
    rollout.let_in_next()
    rollout.ended(1, 5)
    assert rollout.judge_at_ns is None


def test_a_wave_of_which_nothing_is_left_is_done_at_once() -> None:
    rollout = fresh([0, 1, 2])
    # The only device of the second wave ends before it is let in.
    rollout.ended(1, 0)
    rollout.ended(0, 0)
    rollout.let_in_next()
    assert rollout.judge_at_ns == -1
    assert rollout.judge(1000) is None
    assert rollout.judge_at_ns == 1000 + SOAK_NS


def test_a_run_taken_up_goes_on_in_the_wave_it_was_in() -> None:
    rollout = Rollout(bytes([0, 1, 2]), GATE)
    outcomes = bytes([CODE[Outcome.ACCEPTED], 0, 0])
    rollout.take_up([0, 1, 2], outcomes, bytearray([1, 0, 0]), bytearray([1, 1, 0]), waived=False)
    assert rollout.wave == 1
    assert rollout.judge_at_ns is None


@pytest.mark.parametrize(("waived", "wave"), [(False, 0), (True, 1)])
def test_a_wave_that_was_done_soaks_anew_unless_the_operator_goes_on(wave: int, *, waived: bool) -> None:
    rollout = Rollout(bytes([0, 1]), GATE)
    rollout.take_up([0, 1], bytes([CODE[Outcome.FAILED], 0]), bytearray([1, 0]), bytearray([1, 0]), waived=waived)
    assert rollout.wave == wave
    assert rollout.judge_at_ns == (None if waived else -1)
