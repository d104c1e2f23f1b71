"""What follows from how a run stands, whoever looks."""

from __future__ import annotations

from typing import Any

import pytest

from fleetops.cluster.rules import Change, Standing, Tally, judge
from fleetops.model import CODE_OF, Operation
from fleetops.policy import Policy
from fleetops.scheduler import Event, StopReason
from tests.journal.runs import S

SYNC = CODE_OF[Operation.SYNC]
REBOOT = CODE_OF[Operation.REBOOT]
NOW = 1000 * S


def policy(**settings: Any) -> Policy:
    return Policy.model_validate(settings)


def tally(outcome: str, steps: int, *, wave: int = 0, operation: int = SYNC, last_ns: int = 0) -> Tally:
    return Tally(wave, operation, outcome, steps, last_ns)


def test_a_run_with_open_chunks_goes_on() -> None:
    assert not judge(Standing(chunks={(0, "open"): 1, (0, "done"): 9}), policy(), NOW)


def test_a_run_whose_chunks_are_done_is_complete() -> None:
    assert judge(Standing(chunks={(0, "done"): 9}), policy(), NOW).end == (StopReason.COMPLETE, "")


def test_a_run_whose_window_closed_on_a_chunk_ends_once_the_others_are_done() -> None:
    assert not judge(Standing(chunks={(0, "shut"): 1, (0, "open"): 1}), policy(), NOW)
    change = judge(Standing(chunks={(0, "shut"): 1, (0, "done"): 1}), policy(), NOW)
    assert change.end == (StopReason.WINDOW_CLOSED, "")
    change = judge(Standing(chunks={(0, "shut"): 1, (0, "done"): 1}), policy(at_end="wait"), NOW)
    assert (bool(change), change.shut, change.end) == (True, True, None)


def test_a_stopped_run_is_over_once_no_worker_has_a_chunk() -> None:
    stopped = {"stop_reason": StopReason.ABORTED, "stop_detail": "by the operator", "chunks": {(0, "open"): 3}}
    assert judge(Standing(held=1, **stopped), policy(), NOW).end is None  # type: ignore[arg-type]  # as they are
    change = judge(Standing(**stopped), policy(), NOW)  # type: ignore[arg-type]  # as above
    assert change.end == (StopReason.ABORTED, "by the operator")


@pytest.mark.parametrize(
    ("budget", "tallies", "spent"),
    [
        ("failed>2", [tally("failed", 1), tally("failed", 2, wave=1)], "failed>2: 3 of 3 finished steps failed"),
        ("failed>3", [tally("failed", 3)], None),
        ("failed>10% after 20", [tally("failed", 3), tally("accepted", 16)], None),
        (
            "failed>10% after 20",
            [tally("failed", 3), tally("accepted", 17)],
            "failed>10% after 20: 3 of 20 finished steps failed (15.00%)",
        ),
        ("reboot: failed>0", [tally("failed", 5)], None),
        ("unknown>0", [tally("not_confirmed", 5)], None),
        ("unknown>0", [tally("unknown", 1), tally("skipped", 9)], "unknown>0: 1 of 1 finished steps unknown"),
    ],
)
def test_a_budget_counts_the_steps_of_all_chunks(budget: str, tallies: list[Tally], spent: str | None) -> None:
    standing = Standing(chunks={(0, "open"): 1}, held=1, tallies=tallies)
    change = judge(standing, policy(abort_when=[budget]), NOW)
    assert change.stop == (None if spent is None else (StopReason.BUDGET_SPENT, spent))
    assert change.end is None


def test_a_resumed_run_does_not_count_what_was_before() -> None:
    standing = Standing(
        chunks={(0, "open"): 1}, tallies=[tally("failed", 5)], counted={(SYNC, "failed"): 3, (SYNC, "accepted"): 7}
    )
    assert judge(standing, policy(abort_when=["failed>2"]), NOW).stop is None
    assert judge(standing, policy(abort_when=["failed>1"]), NOW).stop is not None


def test_failures_in_a_row_are_those_since_the_last_good_step_of_any_worker() -> None:
    bad = [(SYNC, at * S) for at in range(1, 6)]
    budgets = policy(abort_when=["consecutive>3"])
    good = tally("accepted", 1, operation=REBOOT, last_ns=2 * S)
    standing = Standing(chunks={(0, "open"): 1}, tallies=[good], bad=bad)
    assert judge(standing, budgets, NOW).stop is None
    change = judge(Standing(chunks={(0, "open"): 1}, bad=bad), budgets, NOW)
    assert change.stop == (StopReason.BUDGET_SPENT, "consecutive>3: 4 steps in a row failed or unknown")
    of_one = policy(abort_when=["sync: consecutive>3"])
    assert judge(standing, of_one, NOW).stop is not None, "a good reboot says nothing of syncs"


def waves(standing: Standing, **settings: Any) -> Change:
    return judge(standing, policy(waves="10%,100%", gate="failed<=20%, after 5, soak 60s", **settings), NOW)


def test_a_wave_that_is_done_soaks_before_it_is_judged() -> None:
    done = {"waves": 2, "chunks": {(0, "done"): 2, (1, "open"): 9}, "tallies": [tally("accepted", 9)]}
    assert waves(Standing(**done)).judge_ns == NOW + 60 * S  # type: ignore[arg-type]  # as they are
    assert not waves(Standing(judge_ns=NOW + 1, **done))  # type: ignore[arg-type]  # as above
    change = waves(Standing(judge_ns=NOW, **done))  # type: ignore[arg-type]  # as above
    assert change.next_wave
    assert [event for event, _ in change.events] == [Event.GATE_PASSED, Event.WAVE_STARTED]


@pytest.mark.parametrize("outcome", ["failed", "unknown", "not_confirmed"])
def test_a_wave_that_fails_its_gate_ends_the_run_or_has_it_wait_for_the_operator(outcome: str) -> None:
    tallies = [tally("accepted", 5), tally(outcome, 5), tally("accepted", 100, wave=1)]
    failed = Standing(waves=2, judge_ns=NOW, chunks={(0, "done"): 1, (1, "open"): 1}, tallies=tallies)
    strict = {"gate": "failed<=20%, unknown<=20%"}
    change = judge(failed, policy(waves="10%,100%", **strict), NOW)
    assert change.stop is not None
    assert change.end is not None
    assert change.stop[0] is StopReason.GATE_FAILED
    assert "wave 1 of 2" in change.stop[1]
    paused = judge(failed, policy(waves="10%,100%", on_gate_failed="pause", **strict), NOW)
    assert paused.pause is not None
    assert paused.end is None


def test_no_wave_is_let_in_while_the_run_is_paused() -> None:
    standing = Standing(waves=2, judge_ns=1, paused=True, chunks={(0, "done"): 1}, tallies=[tally("accepted", 9)])
    assert not waves(standing)


def test_the_last_wave_needs_no_gate() -> None:
    standing = Standing(wave=1, waves=2, chunks={(0, "done"): 1, (1, "done"): 3})
    assert waves(standing).end == (StopReason.COMPLETE, "")
