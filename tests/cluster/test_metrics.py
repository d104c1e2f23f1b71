"""What a worker says of itself: a metrics file, and a log of each attempt."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleetops.cluster.metrics import Counts, WorkerMetrics, WorkerSnapshot
from fleetops.model import ReplyKind
from fleetops.scheduler import StopReason
from fleetops.version import __version__
from tests.crash.rig import end_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.rig import ClusterRig


def samples(path: Path) -> dict[str, float]:
    """What a file says, by the name and the labels, without those that are 0."""
    return {
        " ".join([sample.name, *map(str, sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(path.read_text(encoding="utf-8"))
        for sample in family.samples
        if sample.value
    }


def test_a_worker_counts_what_it_does_and_logs_each_attempt(rig: ClusterRig) -> None:
    rig.write(devices=5, rate=100)
    worker = rig.start_worker("--metrics-file=worker.prom")
    run_id = rig.submit("--chunk-devices=2")
    rig.wait_for_end(run_id)
    worker.send_signal(signal.SIGTERM)
    assert end_of(worker).code == 0
    found = samples(rig.folder / "worker.prom")
    for name, value in {
        "fleetops_worker_sends_total": 15,
        "fleetops_worker_attempts_total accepted": 15,
        "fleetops_worker_outcomes_total accepted": 15,
        "fleetops_worker_chunks_ended_total complete": 3,
        "fleetops_worker_draining": 1,
    }.items():
        assert found[name] == value, name
    assert "fleetops_worker_running" not in found, "it has ended"
    attempts = [line for line in rig.log(0) if line["event"] == "attempt"]
    assert sorted(line["row"] for line in attempts) == list(range(1, 16)), "rows of the manifest, not of a chunk"
    assert {line["run_id"] for line in attempts} == {run_id}
    assert {line["serial"] for line in attempts} == {f"ZQ{number:09}" for number in range(1, 6)}
    assert "sandbox-token" not in json.dumps(rig.log(0))


def test_a_place_that_takes_no_metrics_is_refused_before_a_chunk_is_taken(rig: ClusterRig) -> None:
    ended = end_of(rig.start("worker", "--metrics-file=nowhere/worker.prom", token=True))
    assert ended.code == 2
    assert "in a directory that does not exist" in ended.stderr
    ended = end_of(rig.start("worker", "--lease=1h", token=True))
    assert ended.code == 2
    assert "a lease of 1h is none that works" in ended.stderr
    ended = end_of(rig.start("worker", "--lease=soon", token=True))
    assert ended.code == 2
    assert "--lease: 'soon' is not a duration" in ended.stderr


def test_a_worker_tells_people_of_each_attempt_where_they_ask_for_it(rig: ClusterRig) -> None:
    rig.write(devices=1, rate=100)
    rig.submit()
    ended = end_of(rig.start("worker", "-vv", "--until-idle", token=True))
    assert ended.code == 0
    assert "ZQ000000001 factory, attempt 1: accepted 200" in ended.stderr
    assert "worker started: worker 1, queue default" in ended.stderr
    assert "chunk ended: " in ended.stderr


def test_a_log_that_nobody_reads_holds_up_no_request(rig: ClusterRig) -> None:
    rig.write(devices=100, rate=300)
    deaf = rig.start("worker", "--log-format=json", token=True)
    try:
        rig.wait_for_end(rig.submit())
        assert deaf.poll() is None
    finally:
        deaf.kill()
        said, _ = deaf.communicate()
    assert rig.value("SELECT count(*) FROM result WHERE outcome = 'accepted'") == 300
    assert len(said) < 70_000


def test_the_metrics_of_a_worker_are_those_of_its_snapshot_and_say_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "worker.prom"
    counts = Counts()
    counts.attempts[ReplyKind.THROTTLED] = 2
    counts.chunks[StopReason.WINDOW_CLOSED] = 1
    snapshot = WorkerSnapshot(
        worker=3,
        queue="madrid",
        draining=False,
        lease_s=6.5,
        chunks=4,
        sends=20,
        in_flight=5,
        waiting=6,
        ready=7,
        counts=counts,
    )

    class Standing:
        def snapshot(self) -> WorkerSnapshot:
            return snapshot

    metrics = WorkerMetrics(path, pytest.fail)
    metrics.end()
    assert not path.exists(), "nobody has looked yet"

    async def look_on() -> None:
        with anyio.move_on_after(0.05):
            await metrics.follow(Standing())  # type: ignore[arg-type]  # a worker, as far as it is looked at

    anyio.run(look_on)
    found = samples(path)
    assert found["fleetops_worker_running"] == 1
    assert found["fleetops_worker_lease_seconds"] == 6.5
    assert found["fleetops_worker_attempts_total throttled"] == 2
    assert found["fleetops_worker_chunks_ended_total window_closed"] == 1
    assert found[f"fleetops_worker_info madrid {__version__} 3"] == 1
    metrics.end()
    assert "fleetops_worker_running" not in samples(path)
