from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import fleetops
from fleetops import api
from fleetops.api import Connection, RunEvent, plan, report, resume, run, validate, write_report
from fleetops.errors import InvalidInputError, UsageError
from fleetops.events import outside_of_loops
from fleetops.model import Operation, Outcome, Reason
from fleetops.sandbox import SandboxConfig, sandbox_thread
from fleetops.scheduler import StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetops.sandbox import Sandbox

OPTIONS = {"rate": "200/s", "settle": {"sync": 0, "reboot": 0}}


@dataclass
class Place:
    """A folder with a state directory in it, and a sandbox of 50 devices that the environment leads to."""

    folder: Path
    sandbox: Sandbox

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def manifest(self, *rows: str, header: str = "serial_number,operation") -> Path:
        path = self.folder / "m.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with sandbox_thread(SandboxConfig(devices=50)) as (base_url, sandbox):
        monkeypatch.setenv("FLEETOPS_BASE_URL", base_url)
        monkeypatch.setenv("FLEETOPS_TOKEN", "sandbox-token")
        monkeypatch.setenv("FLEETOPS_STATE_DIR", str(tmp_path / "state"))
        yield Place(tmp_path, sandbox)


def test_the_public_names_are_there_and_loaded_only_when_used() -> None:
    assert all(getattr(fleetops, name) is not None for name in fleetops.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fleetops.nothing
    script = "import sys, fleetops; assert not {'pandas', 'httpx', 'pydantic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_a_campaign_is_planned_run_and_reported_with_what_the_environment_says(place: Place) -> None:
    campaign = validate(place.manifest("ZQ000000001,sync", "ZQ000000999,sync"), options=OPTIONS)
    planned = plan(campaign)
    assert planned.predictions.sends == 2
    events: list[RunEvent] = []
    result = run(campaign, plan=planned, on_event=events.append)
    assert (result.exit_code, result.reason) == (1, StopReason.COMPLETE)
    assert {event.run_id for event in events} == {result.run_id}
    assert (events[0].event, events[-1].event) == ("run_started", "run_ended")
    ends = {event.serial: (event.outcome, event.reason) for event in events if event.event == "outcome"}
    assert ends == {"ZQ000000001": (Outcome.ACCEPTED, None), "ZQ000000999": (Outcome.FAILED, Reason.NOT_FOUND)}
    attempts = [event for event in events if event.event == "attempt"]
    assert {(event.attempt, event.operation, event.http_status) for event in attempts} == {
        (1, Operation.SYNC, 200),
        (1, Operation.SYNC, 404),
    }
    assert all(event.at.utcoffset() == timedelta(0) for event in events)
    assert report(result.run_id).summary.outcomes[Outcome.FAILED] == 1


def test_a_plan_that_no_longer_holds_is_refused_and_nothing_is_sent(place: Place) -> None:
    planned = plan(validate(place.manifest("ZQ000000001,sync"), options=OPTIONS))
    other = validate(place.manifest("ZQ000000002,sync"), options=OPTIONS)
    with pytest.raises(InvalidInputError, match="no longer holds"):
        run(other, plan=planned)
    assert not place.sandbox.requests


def test_a_plan_says_what_it_was_made_of_so_that_the_command_line_can_run_it(place: Place) -> None:
    policy = place.folder / "p.yaml"
    policy.write_text("rate: 7/s\n")
    campaign = validate(place.manifest("ZQ000000001,sync"), policy_file=policy, options={"burst": 3})
    made = plan(campaign, start_at=datetime(2026, 1, 31, 2, tzinfo=UTC), assume="latency=50ms")
    assert (made.policy_file, made.options) == (str(policy), {"burst": 3})
    assert made.predictions.start_at.startswith("2026-01-31T02:00")
    with pytest.raises(UsageError, match="no time zone"):
        plan(campaign, start_at=datetime(2026, 1, 31, 2))  # noqa: DTZ001 - what is refused


def test_a_report_is_a_table_and_objects(place: Place) -> None:
    place.sandbox.set_faults("close_after@ZQ000000002")
    rows = ("ZQ000000001,sync,Calle Mayor 5", "ZQ000000002,reboot,", "ZQ000000002,sync,=1")
    campaign = validate(place.manifest(*rows, header="serial_number,operation,site"), options=OPTIONS)
    made = report(run(campaign).run_id)
    assert list(made.frame["outcome"]) == ["accepted", "unknown", "skipped"]
    assert isinstance(made.frame["first_sent_at"].dtype, pd.DatetimeTZDtype)
    assert made.frame["first_sent_at"].isna().tolist() == [False, False, True]
    assert made.frame["site"].tolist() == ["Calle Mayor 5", "", "=1"]
    first, second, third = made.steps()
    assert (first.row, first.serial_number, first.operation, first.http_status) == (1, "ZQ000000001", "sync", 200)
    assert isinstance(first.operation, Operation)
    assert first.first_sent_at is not None
    assert first.finished_at is not None
    assert timedelta(0) <= first.finished_at - first.first_sent_at < timedelta(minutes=1)
    assert first.duration_s is not None
    assert first.carried == {"site": "Calle Mayor 5"}
    assert (second.outcome, second.reason, second.http_status) == (Outcome.UNKNOWN, Reason.CONNECTION_LOST, None)
    assert (third.outcome, third.reason, third.attempts) == (Outcome.SKIPPED, Reason.EARLIER_STEP_UNKNOWN, 0)
    assert (third.first_sent_at, third.duration_s, third.note) == (None, None, "")


def test_only_the_wanted_steps_are_reported_and_written_in_the_wanted_format(place: Place) -> None:
    run_id = run(validate(place.manifest("ZQ000000001,sync", "ZQ000000999,sync"), options=OPTIONS)).run_id
    assert report(run_id, outcomes=["failed"]).frame["serial_number"].tolist() == ["ZQ000000999"]
    assert list(report(run_id, outcomes=[Outcome.UNKNOWN]).steps()) == []
    write_report(run_id, str(place.folder / "failed.csv"), outcomes={Outcome.FAILED})
    assert [line.split(",")[1] for line in (place.folder / "failed.csv").read_text().splitlines()[1:]] == [
        "ZQ000000999"
    ]
    stream = io.StringIO()
    write_report(run_id, stream, state=place.state, report_format="json")
    assert [row["outcome"] for row in json.loads(stream.getvalue())["steps"]] == ["accepted", "failed"]
    with pytest.raises(UsageError, match="no report format 'xml'"):
        write_report(run_id, stream, report_format="xml")
    with pytest.raises(UsageError, match="no outcome 'broken'"):
        report(run_id, outcomes=["broken"])


def test_what_a_callback_raises_stops_the_run_in_good_order_and_is_raised_again(place: Place) -> None:
    campaign = validate(
        place.manifest("ZQ000000001,sync", "ZQ000000002,sync"), options={**OPTIONS, "rate": "2/s", "concurrency": 1}
    )
    seen: list[RunEvent] = []

    def refuse(event: RunEvent) -> None:
        seen.append(event)
        if event.event == "outcome":
            raise LookupError(event.serial)

    with pytest.raises(LookupError, match="ZQ000000001"):
        run(campaign, on_event=refuse)
    assert seen[-1].event == "outcome", "it is not called again"
    run_id = seen[0].run_id
    stopped = report(run_id)
    assert stopped.summary.ended == "aborted: the event callback failed: LookupError"
    assert stopped.frame["outcome"].tolist() == ["accepted", "not_started"]
    done = resume(run_id)
    assert (done.exit_code, len(place.sandbox.requests)) == (0, 2)
    assert resume(run_id).reason is None


def test_a_run_that_is_resumed_is_told_from_its_start_to_its_end(place: Place) -> None:
    campaign = validate(place.manifest("ZQ000000001,sync"), options=OPTIONS)
    wrong = Connection(base_url=os.environ["FLEETOPS_BASE_URL"] + "/", token=fleetops.Token("wrong"))
    first = run(campaign, wrong)
    assert first.reason is StopReason.TOKEN_REFUSED
    events: list[str] = []
    done = resume(
        first.run_id,
        Connection.from_environment(),
        options={"rate": "100/s"},
        on_event=lambda event: events.append(event.event),
    )
    assert done.exit_code == 0
    assert events == ["run_started", "resumed", "attempt", "outcome", "run_ended"]


def test_a_run_has_a_thread_of_its_own_where_an_event_loop_runs_already(place: Place) -> None:
    campaign = validate(place.manifest("ZQ000000001,sync"), options=OPTIONS)
    threads: list[str] = []

    async def cell_of_a_notebook() -> int:
        return run(campaign, on_event=lambda _: threads.append(threading.current_thread().name)).exit_code

    assert asyncio.run(cell_of_a_notebook()) == 0
    *while_it_runs, at_its_end = threads
    assert len(while_it_runs) > 2
    assert all(name.startswith("fleetops") for name in while_it_runs)
    assert at_its_end == threading.current_thread().name


def test_an_interrupt_stops_a_run_in_a_thread_of_its_own_in_good_order(place: Place) -> None:
    rows = [f"ZQ{number:09},sync" for number in range(1, 41)]
    campaign = validate(place.manifest(*rows), options={**OPTIONS, "rate": "20/s"})

    def interrupt(event: RunEvent) -> None:
        if event.event == "outcome" and event.row == 2:
            signal.raise_signal(signal.SIGINT)

    async def cell_of_a_notebook() -> fleetops.RunResult:
        return run(campaign, on_event=interrupt)

    loop = asyncio.new_event_loop()
    try:
        # Not asyncio.run, which takes interrupts for itself; a notebook does not.
        result = loop.run_until_complete(cell_of_a_notebook())
    finally:
        loop.close()
    assert (result.exit_code, result.reason) == (130, StopReason.INTERRUPTED)
    assert result.outcomes[Outcome.NOT_STARTED] > 0
    assert result.outcomes[Outcome.UNKNOWN] == 0


def test_work_is_done_in_this_thread_where_no_loop_runs() -> None:
    assert outside_of_loops(threading.current_thread, lambda: None) is threading.current_thread()


def test_what_is_missing_from_the_environment_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = validate(place.manifest("ZQ000000001,sync"), options=OPTIONS)
    monkeypatch.delenv("FLEETOPS_TOKEN")
    with pytest.raises(UsageError, match="there is no token"):
        run(campaign)
    with pytest.raises(UsageError, match="does not start with https"):
        Connection(base_url="control.example", token=fleetops.Token("x"))
    assert "token" not in repr(Connection(base_url="https://control.example", token=fleetops.Token("x")))


def test_all_of_the_api_is_public() -> None:
    assert set(api.__all__) - set(fleetops.__all__) == {"Format", "Reason", "plan", "report"}
