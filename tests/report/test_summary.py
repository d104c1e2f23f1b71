from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.campaigns import finished
from fleetops.errors import ExitCode
from fleetops.journal.views import RunView
from fleetops.model import Outcome, Reason
from fleetops.policy import Policy
from fleetops.report.summary import Summary, rounded_duration, summarise
from fleetops.scheduler import StopReason
from tests.report.journals import RUN_ID, T0, Made, S, make_journal, rows

if TYPE_CHECKING:
    from pathlib import Path


def summary(made: Made) -> Summary:
    with RunView.open(made.state, made.run_id) as view:
        return summarise(view)


def commands(made: Made) -> list[str]:
    return [step.command.replace(RUN_ID, "ID") for step in summary(made).next_steps]


def test_a_summary_reads_in_plain_lines(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(6), campaign="batch 14")
    made.process(ended_ns=T0 + 3723 * S, reason=StopReason.BUDGET_SPENT, detail="3 of 5 failed")
    for step in range(2):
        made.result(step, Outcome.ACCEPTED)
    made.result(2, Outcome.FAILED, "invalid")
    made.result(3, Outcome.FAILED, "not_found")
    made.result(4, Outcome.FAILED, "not_found")
    assert (
        summary(made).text()
        == f"""\
Run {RUN_ID} (batch 14): aborted
  ended        budget spent: 3 of 5 failed
  manifest     routers.csv
  started      2026-01-02T03:00:00.000Z
  finished     2026-01-02T04:02:03.000Z
  took         1h 02m 03s

  accepted         2
  failed           3   not_found 2, invalid 1
  not_started      1   aborted 1
  steps            6

Next:
  fleetops resume {RUN_ID}
      goes on where it stopped
  fleetops report {RUN_ID} --format manifest --outcome failed
      makes a manifest of them
"""
    )


def test_a_run_that_went_well_needs_nothing_more(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=T0 + S, reason=StopReason.INTERRUPTED)
    made.process(started_ns=T0 + 5 * S, ended_ns=T0 + 9 * S, reason=StopReason.COMPLETE)
    made.result(0, Outcome.ACCEPTED)
    seen = summary(made)
    assert seen.next_steps == ()
    assert seen.ended == ""
    assert "took         9.0s in 2 sittings" in seen.text()
    assert "Next:" not in seen.text()
    assert seen.exit_code is ExitCode.OK


def test_a_run_that_has_not_begun_can_be_resumed(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    assert commands(made) == ["fleetops resume ID"]
    assert "started" not in summary(made).text().replace("not_started", "")


def test_a_live_run_can_be_watched(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process()
    lock = made.state.lock_run(RUN_ID)
    assert commands(made) == ["fleetops status ID --watch"]
    lock.release()


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (StopReason.TOKEN_REFUSED, "FLEETOPS_TOKEN"),
        (StopReason.MISDIRECTED, "--base-url"),
        (StopReason.WINDOW_CLOSED, "window is open"),
        (StopReason.INTERRUPTED, "where it stopped"),
    ],
)
def test_why_a_run_stopped_says_how_to_resume_it(tmp_path: Path, reason: StopReason, why: str) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=T0, reason=reason)
    (step,) = summary(made).next_steps
    assert why in step.why


def test_what_a_complete_run_left_undone_can_be_made_a_manifest(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(4))
    made.process(ended_ns=T0, reason=StopReason.COMPLETE)
    made.result(0, Outcome.SKIPPED, "offline")
    made.result(1, Outcome.UNKNOWN, "read_timeout")
    made.result(2, Outcome.FAILED, "not_found")
    made.result(3, Outcome.ACCEPTED)
    assert commands(made) == [
        "fleetops reconcile ID",
        "fleetops report ID --format manifest --outcome failed,unknown",
    ]
    made._write("UPDATE result SET outcome = 'skipped', reason = 'earlier_step_failed' WHERE step = 3")
    assert commands(made)[-1] == "fleetops report ID --format manifest --outcome failed,unknown,skipped"


def test_reasons_come_most_frequent_first(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(3))
    made.process(ended_ns=T0, reason=StopReason.COMPLETE)
    for step, reason in enumerate([Reason.INVALID, Reason.NOT_FOUND, Reason.NOT_FOUND]):
        made.result(step, Outcome.FAILED, reason)
    assert list(summary(made).reasons.items()) == [
        ((Outcome.FAILED, Reason.NOT_FOUND), 2),
        ((Outcome.FAILED, Reason.INVALID), 1),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.96, "10.0s"),
        (10, "10s"),
        (59.9, "59s"),
        (60, "1m 00s"),
        (3600, "1h 00m 00s"),
        (360_000, "100h 00m 00s"),
    ],
)
def test_durations_are_rounded_for_people(seconds: float, text: str) -> None:
    assert rounded_duration(round(seconds * S)) == text


@pytest.mark.parametrize(
    ("policy", "reason", "resumes"),
    [
        ({"confirm": True}, None, True),
        ({"confirm": True}, Reason.NOT_CONFIRMED, False),
        ({"confirm": {"enabled": True, "operations": ["sync"]}}, None, False),
        ({}, None, False),
    ],
)
def test_a_run_that_was_stopped_before_its_devices_were_back_is_resumed_to_look_for_them(
    policy: dict[str, object], reason: Reason | None, tmp_path: Path, *, resumes: bool
) -> None:
    made = make_journal(tmp_path, rows(1), policy=Policy.model_validate(policy))
    made.process(ended_ns=T0 + S, reason=StopReason.ABORTED)
    made.attempt(0, "accepted")
    made.result(0, Outcome.ACCEPTED, reason)
    assert ("fleetops resume ID" in commands(made)) is resumes
    assert (finished(RUN_ID, made.state) is None) is resumes
