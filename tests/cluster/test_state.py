"""Runs of the database, read as those of this host are."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from fleetops.cluster.state import ClusterState
from fleetops.errors import RunBusyError, UsageError
from fleetops.journal import StateDir
from fleetops.journal.views import RunState, RunView
from fleetops.model import Operation, Outcome
from fleetops.reconcile import Assumption, assume
from fleetops.report.formats import Format
from fleetops.report.output import write_report
from fleetops.sandbox import SandboxConfig, parse_fault, sandbox_thread
from tests.cluster.kept import do, one
from tests.cluster.within import Fleet, devices
from tests.journal.runs import RUN_ID, create, new_run, rows

if TYPE_CHECKING:
    from pathlib import Path


def state_of(url: str, folder: Path) -> ClusterState:
    state = ClusterState(folder, url)
    state.prepare()
    return state


def test_a_run_of_the_database_is_reported_like_any_other(database: str, tmp_path: Path) -> None:
    with sandbox_thread(SandboxConfig(devices=10, faults=(parse_fault("close_after=20%"),))) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(devices(14, Operation.SYNC, Operation.REBOOT))
        fleet.work()
    state = state_of(database, tmp_path)
    with RunView.open(state, RUN_ID) as view:
        assert view.state is RunState.COMPLETE
        assert {outcome: count for outcome, count in view.outcomes.items() if count} == {
            Outcome(outcome): count for outcome, count in fleet.outcomes().items()
        }
        assert not view.live
        assert view.took_ns is not None
        counted = {outcome: count for outcome, count in view.outcomes.items() if count}
    text = io.StringIO()
    with RunView.open(state, RUN_ID) as view:
        write_report(view, Format.CSV, text)
    found = list(csv.DictReader(io.StringIO(text.getvalue().removeprefix("\ufeff"))))
    assert [(int(row["row"]), row["site"]) for row in found] == [(row, "Madrid") for row in range(1, 29)]
    (summary,) = state.summaries()
    assert summary.state is RunState.COMPLETE
    assert dict(summary.outcomes or {}) == counted


def test_a_copy_follows_its_run_and_forgets_what_was_withdrawn(database: str, tmp_path: Path) -> None:
    with sandbox_thread(SandboxConfig(devices=10)) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(devices(3))
        state = state_of(database, tmp_path)
        attempt = "INSERT INTO attempt (run_id, chunk, step, attempt, drive, worker, epoch, intent_ns) VALUES "
        do(database, f"{attempt} (%s, 0, 0, 1, 1, 1, 1, now_ns())", RUN_ID)
        with RunView.open(state, RUN_ID) as view:
            assert (view.state, view.live) == (RunState.RUNNING, True)
            assert view.outcomes[Outcome.UNKNOWN] == 1
            assert view.outcomes[Outcome.NOT_STARTED] == 2
        do(database, "DELETE FROM attempt")
        with RunView.open(state, RUN_ID) as view:
            assert view.outcomes[Outcome.NOT_STARTED] == 3
        fleet.work()
        with RunView.open(state, RUN_ID) as view:
            assert view.outcomes[Outcome.ACCEPTED] == 3


def test_runs_of_this_host_stay_what_they_are(database: str, tmp_path: Path) -> None:
    state = state_of(database, tmp_path)
    path = create(StateDir(tmp_path), new_run(rows(3)))
    assert state.run_ids() == [RUN_ID]
    assert state.journal_path(RUN_ID) == path
    assert not state.is_live(RUN_ID)
    state.lock_run(RUN_ID).release()
    with pytest.raises(UsageError, match="there is no run"):
        state.journal_path("20260102-030405-0009")


def test_what_an_operator_decides_about_unknown_steps_is_on_record_in_the_database(
    database: str, tmp_path: Path
) -> None:
    with sandbox_thread(SandboxConfig(devices=10, faults=(parse_fault("close_after=100%"),))) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(devices(2, Operation.REBOOT))
        state = state_of(database, tmp_path)
        with pytest.raises(RunBusyError, match="driven by workers"):
            state.lock_run(RUN_ID)
        fleet.work()
    assert fleet.outcomes() == {"unknown": 2}
    findings = assume(state, RUN_ID, Assumption.EXECUTED, serials=["ZQ000000001"])
    assert len(findings) == 1
    assert fleet.outcomes() == {"unknown": 1, "accepted": 1}
    assert one(database, "SELECT json_build_array(before, after) FROM evidence") == ["unknown", "accepted"]
    tallies = one(database, "SELECT json_object_agg(outcome, steps) FROM tally")
    assert tallies == {"unknown": 1, "accepted": 1}
    with RunView.open(state_of(database, tmp_path), RUN_ID) as view:
        assert view.outcomes[Outcome.ACCEPTED] == 1


def test_workers_and_chunks_are_shown(database: str, tmp_path: Path) -> None:
    with sandbox_thread(SandboxConfig(devices=20)) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(devices(20))
        state = state_of(database, tmp_path)
        seen: list[str] = []

        def look() -> None:
            fleet.wait_for("SELECT count(*) > 0 FROM attempt")
            seen.append(json.dumps([state.workers(RUN_ID), state.chunks(RUN_ID)]))

        fleet.work(look)
    (workers, chunks) = json.loads(seen[0])
    assert [one["alive"] for one in workers] == [True]
    assert chunks[1] == 4
    assert state.workers(RUN_ID) == [], "it ended well, and is not remembered"
