"""How far a run is as a text file for Prometheus: the textfile collector of its node exporter picks it up."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from functools import partial
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from fleetops.errors import UsageError
from fleetops.model import NS_PER_S, Outcome
from fleetops.report.output import replacing
from fleetops.scheduler import Event, WaitFor
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.core import Metric

    from fleetops.errors import ExitCode
    from fleetops.runner import Runner, Snapshot

EVERY_S: Final = 5.0
"""How often the file is written, in seconds; node exporters are asked every 15 s or so."""

_MODE: Final = 0o644
"""The exporter is another user, and the file holds counts alone."""
_LAST_SUCCESS: Final = "fleetops_last_success_timestamp_seconds"
_OPEN: Final = "open"


class PrometheusFile:
    """A file that node exporter reads, replaced as a whole.

    Args:
        path: The file; the exporter reads those whose names end in `.prom`.
        trouble: Told, in words, that the file cannot be written any more; the work goes on.

    Raises:
        UsageError: It cannot be written there.
    """

    def __init__(self, path: Path, trouble: Callable[[str], None]) -> None:
        self._path = path
        self._trouble = trouble
        self._in_trouble = False
        _check(path)

    def write(self, families: Callable[[], Iterator[Metric]]) -> None:
        """Write metrics into it."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(families))
        try:
            with replacing(self._path.resolve(), mode=_MODE, durable=False) as out:
                out.write(generate_latest(registry).decode())
        except OSError as error:
            if not self._in_trouble:
                self._trouble(f"the metrics file {self._path} cannot be written: {error.strerror or error}")
            self._in_trouble = True
        else:
            self._in_trouble = False


class MetricsFile:
    """The metrics of one process's drive of a run.

    Args:
        path: The file; the exporter reads those whose names end in `.prom`.
        trouble: Told, in words, that the file cannot be written any more; the run goes on.

    Raises:
        UsageError: It cannot be written there.
    """

    def __init__(self, path: Path, trouble: Callable[[str], None]) -> None:
        self._runner: Runner | None = None
        self._info = {"version": __version__}
        self._started_s = time.time()
        self._last_success_s = _last_success_s(path)
        self._file = PrometheusFile(path, trouble)

    def name(self, run_id: str, campaign: str) -> None:
        """Say which run it is."""
        self._info |= {"run_id": run_id, "campaign": campaign}

    async def follow(self, runner: Runner) -> None:
        """Write it every few seconds until cancelled."""
        self._runner = runner
        while True:
            await anyio.to_thread.run_sync(self._file.write, partial(self._families, runner.snapshot()))
            await anyio.sleep(EVERY_S)

    def end(self, exit_code: ExitCode, reason: str, outcomes: Mapping[Outcome, int] | None = None) -> None:
        """Write how it ended.

        Args:
            exit_code: The exit code of the process.
            reason: Why the run ended, in a word.
            outcomes: Steps by outcome as the journal has them in the end; None where it cannot be read.
        """
        if self._runner is None:
            return
        ended_s = time.time()
        if not exit_code:
            self._last_success_s = ended_s
        snapshot = self._runner.snapshot()

        def families() -> Iterator[Metric]:
            yield from self._families(snapshot, outcomes, running=False)
            yield gauge("fleetops_run_end_time_seconds", "When this process ended its drive of the run.", ended_s)
            yield gauge("fleetops_run_exit_code", "The exit code that it ended with.", exit_code)
            yield gauges("fleetops_run_end_reason", "Why it ended.", "reason", {reason: 1})

        self._file.write(families)

    def _families(
        self, snapshot: Snapshot, outcomes: Mapping[Outcome, int] | None = None, *, running: bool = True
    ) -> Iterator[Metric]:
        yield InfoMetricFamily("fleetops_run", "The run.", value=self._info)
        yield gauge("fleetops_run_running", "Whether a process drives the run.", running)
        yield gauge("fleetops_run_start_time_seconds", "When this process began to drive the run.", self._started_s)
        if self._last_success_s is not None:
            yield gauge(_LAST_SUCCESS, "When a run with this file last ended with exit code 0.", self._last_success_s)
        counts = snapshot.outcomes if outcomes is None else outcomes
        steps = {outcome.value: counts.get(outcome, 0) for outcome in Outcome}
        steps[_OPEN] = snapshot.steps - sum(steps.values())
        yield gauges("fleetops_run_steps", "Steps by outcome; those that have none yet are open.", "outcome", steps)
        yield counter("fleetops_run_sends", "Requests sent by this process.", snapshot.sends)
        yield gauge("fleetops_run_requests_in_flight", "Requests that are not answered.", snapshot.in_flight)
        yield gauge("fleetops_run_devices_waiting", "Devices that settle or back off.", snapshot.waiting)
        yield gauge("fleetops_run_devices_ready", "Devices whose next step could be sent now.", snapshot.ready)
        yield gauge("fleetops_run_rate_asked_per_second", "Operations per second asked for.", snapshot.asked_per_s)
        yield gauge("fleetops_run_rate_effective_per_second", "Operations per second in force.", snapshot.per_s)
        waits = {one.value: int(running and snapshot.waits_for is one) for one in WaitFor}
        yield gauges("fleetops_run_waiting", "What the next send waits for, if for anything.", "reason", waits)
        held = snapshot.waits_for in _HOLDS and running
        hold_s = (snapshot.wait_ns or 0) / NS_PER_S if held else 0
        yield gauge("fleetops_run_hold_seconds", "For how long the run still holds, as far as is known.", hold_s)
        yield gauge("fleetops_run_wave", "The wave that was let in last, from 1.", snapshot.wave[0])
        yield gauge("fleetops_run_waves", "How many waves there are.", snapshot.wave[1])
        happened = Counter(notice.event for notice in snapshot.notices)
        events = {event.value: happened[event] for event in Event}
        yield counters("fleetops_run_events", "What happened to the run as a whole.", "event", events)


_HOLDS: Final = frozenset({WaitFor.HOLD, WaitFor.OUTAGE})


class _Collected:
    """What a registry asks for metrics."""

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families()


def gauge(name: str, text: str, value: float) -> Metric:
    """A figure that goes up and down."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Such figures, told apart by a label."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def counter(name: str, text: str, value: float) -> Metric:
    """A figure that only goes up."""
    return CounterMetricFamily(name, text, value=value)


def counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Such figures, told apart by a label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _check(path: Path) -> None:
    hint = "name another file with --metrics-file"
    if path.exists() and not path.is_file():
        raise UsageError(f"the metrics file {path} is not a file", hint=hint)
    if not path.parent.is_dir():
        raise UsageError(f"the metrics file {path} is in a directory that does not exist", hint=hint)
    try:
        # Nothing less tells for sure: root may write everywhere, and yet not to what is mounted for reading.
        with NamedTemporaryFile(prefix=".fleetops.", dir=path.resolve().parent):
            pass
    except OSError as error:
        raise UsageError(f"the metrics file {path} cannot be written: {error.strerror}", hint=hint) from None


def _last_success_s(path: Path) -> float | None:
    """When a run last succeeded, as the file of the run before says; whatever else it may be says nothing."""
    with suppress(OSError, ValueError):
        if path.is_file():
            for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
                if family.name == _LAST_SUCCESS:
                    return next((sample.value for sample in family.samples), None)
    return None
