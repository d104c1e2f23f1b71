from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleetops.errors import ExitCode, UsageError
from fleetops.model import NS_PER_S, Outcome
from fleetops.report import metrics
from fleetops.report.metrics import MetricsFile
from fleetops.runner import Snapshot
from fleetops.scheduler import Event, Notice, WaitFor

if TYPE_CHECKING:
    from pathlib import Path

SNAPSHOT = Snapshot(
    outcomes={**dict.fromkeys(Outcome, 0), Outcome.ACCEPTED: 70, Outcome.FAILED: 2},
    steps=100,
    in_flight=3,
    waiting=4,
    ready=5,
    sends=80,
    per_s=10.0,
    asked_per_s=20.0,
    waits_for=WaitFor.HOLD,
    wait_ns=30 * NS_PER_S,
    wave=(1, 2),
    detail="",
    stopping=None,
    notices=(Notice(0, Event.OUTAGE), Notice(1, Event.OUTAGE_OVER), Notice(2, Event.OUTAGE)),
)


class Standing:
    """A run, as far as it is looked at."""

    def __init__(self, snapshot: Snapshot = SNAPSHOT) -> None:
        self._snapshot = snapshot

    def snapshot(self) -> Snapshot:
        return self._snapshot


def follow(file: MetricsFile, snapshot: Snapshot = SNAPSHOT, for_s: float = 0.05) -> None:
    async def look_on() -> None:
        with anyio.move_on_after(for_s):
            await file.follow(Standing(snapshot))  # type: ignore[arg-type]  # a run, as far as it is looked at

    anyio.run(look_on)


def silent(text: str) -> None:
    raise AssertionError(text)


def read(path: Path) -> dict[str, float]:
    """The samples of a file by name and labels, as Prometheus reads them."""
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.documentation, family.name
        assert family.type in {"gauge", "counter"}
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            assert (family.type == "counter") == sample.name.endswith("_total")
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_a_run_is_told_in_counts_while_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "fleetops.prom"
    file = MetricsFile(path, silent)
    file.name("20260102-030405-6f7a", 'returned "routers"\n')
    follow(file)
    found = read(path)
    expected = {
        "fleetops_run_running": 1,
        "fleetops_run_steps{outcome=accepted}": 70,
        "fleetops_run_steps{outcome=failed}": 2,
        "fleetops_run_steps{outcome=open}": 28,
        "fleetops_run_sends_total": 80,
        "fleetops_run_requests_in_flight": 3,
        "fleetops_run_devices_waiting": 4,
        "fleetops_run_devices_ready": 5,
        "fleetops_run_rate_asked_per_second": 20,
        "fleetops_run_rate_effective_per_second": 10,
        "fleetops_run_waiting{reason=hold}": 1,
        "fleetops_run_waiting{reason=window}": 0,
        "fleetops_run_hold_seconds": 30,
        "fleetops_run_wave": 1,
        "fleetops_run_waves": 2,
        "fleetops_run_events_total{event=outage}": 2,
    }
    assert {name: found[name] for name in expected} == expected
    info = next(name for name in found if name.startswith("fleetops_run_info"))
    assert "run_id=20260102-030405-6f7a" in info
    assert 'campaign=returned "routers"\n' in info
    assert "fleetops_run_exit_code" not in found
    assert stat.S_IMODE(path.stat().st_mode) == 0o644, "the exporter is another user"
    assert list(tmp_path.iterdir()) == [path], "nothing half written is left"


def test_the_end_is_told_and_a_success_is_remembered_by_the_runs_after_it(tmp_path: Path) -> None:
    path = tmp_path / "fleetops.prom"
    file = MetricsFile(path, silent)
    follow(file)
    file.end(ExitCode.OK, "complete", {Outcome.ACCEPTED: 100})
    found = read(path)
    assert found["fleetops_run_running"] == 0
    assert found["fleetops_run_exit_code"] == 0
    assert found["fleetops_run_end_reason{reason=complete}"] == 1
    assert found["fleetops_run_steps{outcome=open}"] == 0
    assert found["fleetops_run_hold_seconds"] == 0
    assert found["fleetops_run_waiting{reason=hold}"] == 0
    succeeded_s = found["fleetops_last_success_timestamp_seconds"]
    assert succeeded_s == found["fleetops_run_end_time_seconds"] >= found["fleetops_run_start_time_seconds"]
    file = MetricsFile(path, silent)
    follow(file)
    file.end(ExitCode.ABORTED, "budget_spent")
    found = read(path)
    assert found["fleetops_run_exit_code"] == 4
    assert found["fleetops_last_success_timestamp_seconds"] == succeeded_s


def test_a_run_that_never_began_changes_nothing(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "m.prom", silent).end(ExitCode.HOST, "host_failed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [b"\xff\xfe", b"not metrics at all {", b"up 1\n"])
def test_whatever_was_in_the_file_is_replaced(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "m.prom"
    path.write_bytes(before)
    follow(MetricsFile(path, silent), replace(SNAPSHOT, waits_for=None, wait_ns=None))
    assert read(path)["fleetops_run_hold_seconds"] == 0


@pytest.mark.parametrize("where", ["none/m.prom", ".", "/proc/m.prom"])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, where: str) -> None:
    with pytest.raises(UsageError, match="the metrics file"):
        MetricsFile(tmp_path / where, silent)


def test_a_file_that_cannot_be_written_any_more_is_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "EVERY_S", 0.001)
    folder = tmp_path / "gone"
    folder.mkdir()
    told: list[str] = []
    file = MetricsFile(folder / "m.prom", told.append)
    folder.rmdir()
    follow(file, for_s=0.2)
    assert len(told) == 1
    assert "cannot be written: No such file" in told[0]
    folder.mkdir()
    file.end(ExitCode.OK, "complete")
    assert read(folder / "m.prom")["fleetops_run_exit_code"] == 0
