"""The Python API of runs on several hosts."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fleetops import api
from fleetops.errors import HostError, UsageError
from fleetops.sandbox import SandboxConfig, sandbox_thread
from fleetops.scheduler import StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = {"rate": "100/s", "settle": {"sync": 0}, "preflight": False}


@dataclass
class Place:
    """A folder, and a database and a sandbox of 50 devices that the environment leads to."""

    folder: Path
    database: str

    def campaign(self, *numbers: int, **options: object) -> api.Campaign:
        path = self.folder / "night.csv"
        rows = "".join(f"ZQ{number:09},sync\n" for number in numbers)
        path.write_text(f"serial_number,operation\n{rows}")
        return api.validate(path, options=OPTIONS | options)


@pytest.fixture
def place(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with sandbox_thread(SandboxConfig(devices=50)) as (base_url, _):
        monkeypatch.setenv("FLEETOPS_BASE_URL", base_url)
        monkeypatch.setenv("FLEETOPS_TOKEN", "sandbox-token")
        monkeypatch.setenv("FLEETOPS_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("FLEETOPS_DATABASE_URL", database)
        yield Place(tmp_path, database)


def test_a_campaign_is_submitted_run_waited_for_and_reported(place: Place) -> None:
    run_id = api.submit(place.campaign(1, 2, 999), devices_per_chunk=1)
    before = api.status(run_id)
    assert (before.ended, before.steps, before.workers, before.chunks) == (False, 3, 0, (0, 3))
    events: list[api.RunEvent] = []
    api.worker(until_idle=True, on_event=events.append)
    seen: list[api.RunStatus] = []
    result = api.wait(run_id, on_status=seen.append)
    assert (result.run_id, result.reason, result.exit_code) == (run_id, StopReason.COMPLETE, api.ExitCode.FAILED)
    assert seen[-1].outcomes == {"accepted": 2, "failed": 1}
    ends = {event.serial: event.outcome for event in events if event.event == "outcome"}
    assert ends == {"ZQ000000001": "accepted", "ZQ000000002": "accepted", "ZQ000000999": "failed"}
    assert {event.run_id for event in events} == {run_id}
    assert [step.outcome for step in api.report(run_id).steps()] == ["accepted", "accepted", "failed"]


def test_a_database_may_be_named_in_each_call(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETOPS_DATABASE_URL")
    url = place.database
    campaign = place.campaign(1)
    run_id = api.submit(campaign, database=url, plan=api.plan(campaign))
    api.worker(database=url, until_idle=True)
    assert api.wait(run_id, database=url).exit_code is api.ExitCode.OK
    assert len(api.report(run_id, database=url).frame) == 1
    api.write_report(run_id, place.folder / "r.csv", database=url)
    assert (place.folder / "r.csv").read_text(encoding="utf-8-sig").count(",accepted,") == 1
    with pytest.raises(UsageError, match="there is no FLEETOPS_DATABASE_URL"):
        api.status(run_id)
    with pytest.raises(UsageError, match="there is no run"):
        api.report(run_id)


def test_a_run_is_operated_and_resumed_and_a_worker_in_a_thread_is_stopped(place: Place) -> None:
    run_id = api.submit(place.campaign(*range(1, 11)))
    assert api.ask(run_id, "pause") is api.Heard.DONE
    assert api.status(run_id).paused
    with pytest.raises(TimeoutError, match=r"is not over after 0\.2 s; it goes on"):
        api.wait(run_id, timeout_s=0.2)
    assert api.ask(run_id, api.Action.RATE, "200/s") is api.Heard.DONE
    assert api.ask(run_id, "abort") is api.Heard.DONE
    with pytest.raises(UsageError, match="no action 'stop'"):
        api.ask(run_id, "stop")
    stop = threading.Event()
    working = threading.Thread(target=lambda: api.worker(stop=stop))
    working.start()
    with pytest.raises(UsageError, match="workers tell no events here"):
        api.resume(run_id, on_event=print)
    result = api.resume(run_id, options={"rate": "200/s"})
    assert (result.exit_code, result.outcomes[api.Outcome.ACCEPTED]) == (api.ExitCode.OK, 10)
    stop.set()
    working.join(20)
    assert not working.is_alive()
    assert api.resume(run_id).reason is None, "nothing is left to do"


def test_what_a_callback_raises_ends_the_worker_in_good_order(place: Place) -> None:
    run_id = api.submit(place.campaign(*range(1, 21), rate="20/s"))

    def fail(event: api.RunEvent) -> None:
        raise ValueError(event.event)

    with pytest.raises(ValueError, match="attempt"):
        api.worker(on_event=fail)
    assert not api.status(run_id).ended
    api.worker(until_idle=True)
    steps = list(api.report(run_id).steps())
    assert {step.outcome for step in steps} == {"accepted"}
    assert {step.attempts for step in steps} == {1}


def test_all_of_it_works_where_an_event_loop_runs_as_in_a_notebook(place: Place) -> None:
    async def cell() -> api.RunResult:
        run_id = api.submit(place.campaign(1, 2))
        api.worker(until_idle=True)
        return api.wait(run_id)

    assert asyncio.run(cell()).exit_code is api.ExitCode.OK


def test_the_inventory_is_looked_at_where_the_policy_says_so(place: Place) -> None:
    with pytest.raises(api.InvalidInputError, match="the inventory does not match"):
        api.submit(place.campaign(1, 999, preflight=True))


def test_a_worker_whose_database_is_not_there_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetops.cluster.worker._REACH_S", 0.0)
    with pytest.raises(HostError, match="cannot be used"):
        api.worker(database="postgresql://127.0.0.1:1/none")
    with pytest.raises(UsageError, match="a lease of 1s"):
        api.worker(lease_s=1)
