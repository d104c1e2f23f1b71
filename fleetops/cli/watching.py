"""Who looks on while a run goes on: progress, the log, the metrics file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import anyio
import typer

from fleetops.cli.diagnostics import printable
from fleetops.cli.drawing import timed, told
from fleetops.cli.errors import warn
from fleetops.cli.log import LogFormat, log_as, log_line, logs_json
from fleetops.cli.progress import Display, LogLines, Teller, terminal
from fleetops.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetops.campaigns import RunResult
    from fleetops.cluster.worker import Worker
    from fleetops.journal import StateDir
    from fleetops.journal.told import Tell
    from fleetops.report.metrics import MetricsFile
    from fleetops.runner import Runner

MetricsOption = Annotated[
    Path | None,
    typer.Option("--metrics-file", metavar="FILE.prom", help="Counts for the textfile collector of Prometheus."),
]
VerboseOption = Annotated[
    int,
    typer.Option("--verbose", "-v", count=True, help="A line for each step that goes wrong; -vv for each attempt."),
]
_EVERYTHING = 2
_PRINT_S = 0.25
_SHOWN = frozenset({"info", "warning", "error"})


class Watching:
    """Those who look on at one process's drive of a run, as long as it is in a `with`.

    Args:
        quiet: Whether nobody wants to see progress.
        verbose: 1 for a line of each step that goes wrong, 2 for one of each attempt.
        metrics_file: Where the metrics go, if anywhere.
        kept: Files that the metrics must not replace.

    Raises:
        UsageError: The metrics cannot be written there.
    """

    def __init__(self, *, quiet: bool, verbose: int, metrics_file: Path | None, kept: Iterable[Path | None]) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._metrics = None if metrics_file is None else _metrics(metrics_file, kept)
        self._teller = Teller()
        self._shown: Display | LogLines | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def tell(self) -> Tell | None:
        """What is to be told of each attempt; None where nobody wants to know."""
        return _tell_of_attempts(self._teller, quiet=self._quiet, verbose=self._verbose)

    def begin(self, state: StateDir, run_id: str, *, heed_window: bool) -> None:
        """The run is this one, and is in the journal."""
        from fleetops.journal.views import RunView
        from fleetops.report.progress import Onlooker, planned_s

        if logs_json():
            log_as(LogFormat.JSON, run_id=run_id)
            self._shown = LogLines(self._teller, progress=not self._quiet)
        with RunView.open(state, run_id) as view:
            facts, sittings = view.facts, len(view.processes)
            policy = view.policy if heed_window else None
        if self._metrics is not None:
            self._metrics.name(run_id, facts.campaign)
        if not self._quiet and not logs_json():
            # A plan says nothing of how long the rest of a run takes that was stopped.
            planned = None if sittings else planned_s(facts.plan)
            self._shown = Display(Onlooker(run_id, facts.campaign, policy, planned), self._teller, terminal(sys.stderr))

    async def show(self, runner: Runner) -> None:
        """Look on until cancelled."""
        async with anyio.create_task_group() as tasks:
            for watch in (self._metrics and self._metrics.follow, self._shown and self._shown.show):
                if watch is not None:
                    tasks.start_soon(_as_long_as_it_works, watch, runner)

    def end(self, result: RunResult) -> None:
        """The run has ended, in good order."""
        self._close()
        if self._metrics is not None:
            self._metrics.end(result.exit_code, result.reason or "complete", result.outcomes)

    def end_badly(self) -> None:
        """This host has let the run down."""
        self._close()
        if self._metrics is not None:
            self._metrics.end(ExitCode.HOST, "host_failed")

    def _close(self) -> None:
        if self._shown is not None:
            self._shown.close()
        self._shown = None


class WorkerWatching:
    """Those who look on at a worker, as long as it is in a `with`. Like a run, it waits for nobody who reads.

    Args:
        quiet: Whether nobody wants to see what goes well.
        verbose: 1 for a line of each step that goes wrong, 2 for one of each attempt.
        metrics_file: Where the metrics go, if anywhere.

    Raises:
        UsageError: The metrics cannot be written there.
    """

    def __init__(self, *, quiet: bool, verbose: int, metrics_file: Path | None) -> None:
        from fleetops.cluster.metrics import WorkerMetrics

        self._quiet = quiet
        self._verbose = verbose
        self._metrics = None if metrics_file is None else WorkerMetrics(_named_well(metrics_file), warn)
        self._teller = Teller()
        self._lines = LogLines(self._teller, progress=False)
        self._over = threading.Event()
        # What a worker says while it waits for the database at its start is said before anybody looks on.
        self._printer = threading.Thread(target=copy_context().run, args=(self._print,), daemon=True)

    def __enter__(self) -> Self:
        self._printer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._printer.join()
        self._lines.close()
        if self._metrics is not None:
            self._metrics.end()

    def _print(self) -> None:
        while not self._over.wait(_PRINT_S):
            self._lines.close()

    @property
    def tell_step(self) -> Tell | None:
        """What is to be told of each attempt; None where nobody wants to know."""
        return _tell_of_attempts(self._teller, quiet=self._quiet, verbose=self._verbose)

    def tell(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """What happens to the worker."""
        if logs_json():
            self._teller.tell(log_line(level, event, fields))
        elif level in _SHOWN and not (self._quiet and level == "info"):
            said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fields.items())
            self._teller.tell(timed(time.time_ns(), printable(f"{event.replace('_', ' ')}: {said}")))

    async def show(self, worker: Worker) -> None:
        """Look on until cancelled."""
        if self._metrics is not None:
            await self._metrics.follow(worker)


def _tell_of_attempts(teller: Teller, *, quiet: bool, verbose: int) -> Tell | None:
    """What is to be told of each attempt; None where nobody wants to know."""

    def log(level: str, event: str, at_ns: int, fields: Mapping[str, Any]) -> None:
        teller.tell(log_line(level, event, fields, at_ns))

    def tell(_: str, event: str, at_ns: int, fields: Mapping[str, Any]) -> None:
        words = told(event, fields, everything=verbose >= _EVERYTHING)
        if words is not None:
            teller.tell(timed(at_ns, words))

    if logs_json():
        return log
    return tell if verbose and not quiet else None


async def _as_long_as_it_works(watch: Any, runner: Runner) -> None:
    try:
        await watch(runner)
    except OSError:
        # The terminal or the pipe has gone: nobody else has to stop looking for that.
        return


def _metrics(path: Path, kept: Iterable[Path | None]) -> MetricsFile:
    from fleetops.report.metrics import MetricsFile

    absolute = path.resolve()
    if any(one is not None and one.resolve() == absolute for one in kept):
        raise UsageError(
            f"the metrics file {path} would replace a file of the run", hint="name another file with --metrics-file"
        )
    return MetricsFile(_named_well(path), warn)


def _named_well(path: Path) -> Path:
    if path.suffix != ".prom":
        warn(f"node exporter reads only files that end in .prom, and not {path}")
    return path
