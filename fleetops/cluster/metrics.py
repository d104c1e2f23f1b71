"""What a worker does, as a text file for Prometheus: the textfile collector of its node exporter picks it up."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from prometheus_client.core import InfoMetricFamily

from fleetops.model import Outcome, ReplyKind
from fleetops.report.metrics import EVERY_S, PrometheusFile, counter, counters, gauge
from fleetops.scheduler import StopReason
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

    from fleetops.cluster.worker import Worker


@dataclass(frozen=True, slots=True)
class Counts:
    """What a worker has done since it was started.

    Attributes:
        attempts: Requests by what came of them.
        outcomes: Outcomes of steps; one that was accepted, and confirmed later, is in both.
        chunks: Chunks by why they ended here.
    """

    attempts: Counter[ReplyKind] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    chunks: Counter[StopReason] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSnapshot:
    """What a worker does now.

    Attributes:
        worker: Its number in the database.
        queue: The queue that it takes chunks from.
        draining: Whether it is about to end.
        lease_s: For how long it may still send without hearing from the database, in seconds.
        chunks: Chunks that it runs.
        sends: Requests that it has sent.
        in_flight: Requests that are not answered.
        waiting: Devices that settle or back off.
        ready: Devices whose next step could be sent now.
        counts: What it has done.
    """

    worker: int
    queue: str
    draining: bool
    lease_s: float
    chunks: int
    sends: int
    in_flight: int
    waiting: int
    ready: int
    counts: Counts


class WorkerMetrics:
    """The metrics of a worker.

    Args:
        path: The file; the exporter reads those whose names end in `.prom`.
        trouble: Told, in words, that the file cannot be written any more; the worker goes on.

    Raises:
        UsageError: It cannot be written there.
    """

    def __init__(self, path: Path, trouble: Callable[[str], None]) -> None:
        self._file = PrometheusFile(path, trouble)
        self._started_s = time.time()
        self._worker: Worker | None = None

    async def follow(self, worker: Worker) -> None:
        """Write it every few seconds until cancelled."""
        self._worker = worker
        while True:
            await anyio.to_thread.run_sync(self._file.write, partial(self._families, worker.snapshot()))
            await anyio.sleep(EVERY_S)

    def end(self) -> None:
        """Write how it ended."""
        if self._worker is not None:
            self._file.write(partial(self._families, self._worker.snapshot(), running=False))

    def _families(self, now: WorkerSnapshot, *, running: bool = True) -> Iterator[Metric]:
        info = {"version": __version__, "worker": str(now.worker), "queue": now.queue}
        yield InfoMetricFamily("fleetops_worker", "The worker.", value=info)
        yield gauge("fleetops_worker_running", "Whether it works.", running)
        yield gauge("fleetops_worker_draining", "Whether it takes no chunks any more.", now.draining)
        yield gauge("fleetops_worker_start_time_seconds", "When it was started.", self._started_s)
        yield gauge("fleetops_worker_lease_seconds", "For how long it may send without the database.", now.lease_s)
        yield gauge("fleetops_worker_chunks", "Chunks that it runs.", now.chunks)
        ended = {reason.value: now.counts.chunks[reason] for reason in StopReason}
        yield counters("fleetops_worker_chunks_ended", "Chunks that ended here, by why.", "reason", ended)
        yield counter("fleetops_worker_sends", "Requests sent by this process.", now.sends)
        attempts = {kind.value: now.counts.attempts[kind] for kind in ReplyKind}
        yield counters("fleetops_worker_attempts", "Requests by what came of them.", "result", attempts)
        outcomes = {outcome.value: now.counts.outcomes[outcome] for outcome in Outcome}
        yield counters("fleetops_worker_outcomes", "Outcomes of steps that were found here.", "outcome", outcomes)
        yield gauge("fleetops_worker_requests_in_flight", "Requests that are not answered.", now.in_flight)
        yield gauge("fleetops_worker_devices_waiting", "Devices that settle or back off.", now.waiting)
        yield gauge("fleetops_worker_devices_ready", "Devices whose next step could be sent now.", now.ready)
