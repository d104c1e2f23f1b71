"""Who looks on while a run goes on: progress, the log, the metrics file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from fleetops.cli.errors import log, warn
from fleetops.cli.log import LogFormat, log_as, logs_json
from fleetops.cli.progress import log_progress, show_live, show_plainly
from fleetops.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from fleetops.campaigns import RunResult
    from fleetops.journal.told import Tell
    from fleetops.report.metrics import MetricsFile
    from fleetops.runner import Runner

MetricsOption = Annotated[
    Path | None,
    typer.Option("--metrics-file", metavar="FILE.prom", help="Counts for the textfile collector of Prometheus."),
]


class Watching:
    """Those who look on at one process's drive of a run.

    Args:
        quiet: Whether nobody wants to see progress.
        metrics_file: Where the metrics go, if anywhere.
        kept: Files that the metrics must not replace.

    Raises:
        UsageError: The metrics cannot be written there.
    """

    def __init__(self, quiet: bool, metrics_file: Path | None, *, kept: Iterable[Path | None]) -> None:
        self._metrics = None if metrics_file is None else _metrics(metrics_file, kept)
        self._watches: list[Any] = [] if self._metrics is None else [self._metrics.follow]
        if not quiet:
            self._watches.append(_progress())
        self.tell: Tell | None = _tell if logs_json() else None

    def begin(self, run_id: str, campaign: str) -> None:
        """The run is this one."""
        if logs_json():
            log_as(LogFormat.JSON, run_id=run_id)
        if self._metrics is not None:
            self._metrics.name(run_id, campaign)

    async def show(self, runner: Runner) -> None:
        """Look on until cancelled."""
        async with anyio.create_task_group() as tasks:
            for watch in self._watches:
                tasks.start_soon(_as_long_as_it_works, watch, runner)

    def end(self, result: RunResult) -> None:
        """The run has ended, in good order."""
        if self._metrics is not None:
            self._metrics.end(result.exit_code, result.reason or "complete", result.outcomes)

    def end_badly(self) -> None:
        """This host has let the run down."""
        if self._metrics is not None:
            self._metrics.end(ExitCode.HOST, "host_failed")


async def _as_long_as_it_works(watch: Any, runner: Runner) -> None:
    try:
        await watch(runner)
    except OSError:
        # The terminal or the pipe has gone: nobody else has to stop looking for that.
        return


def _progress() -> Any:
    if logs_json():
        return log_progress
    return show_live if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else show_plainly


def _tell(level: str, event: str, at_ns: int, fields: Any) -> None:
    log(level, event, fields, at_ns)


def _metrics(path: Path, kept: Iterable[Path | None]) -> MetricsFile:
    from fleetops.report.metrics import MetricsFile

    absolute = path.resolve()
    if any(one is not None and one.resolve() == absolute for one in kept):
        raise UsageError(
            f"the metrics file {path} would replace a file of the run", hint="name another file with --metrics-file"
        )
    if path.suffix != ".prom":
        warn(f"node exporter reads only files that end in .prom, and not {path}")
    return MetricsFile(path, warn)
