"""`worker` and `database`, and what `run` and `resume` do where the run is for several hosts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import anyio
import typer

from fleetops.cli.diagnostics import counted, printable
from fleetops.cli.errors import ends_well, log, put, say
from fleetops.cli.log import LogFormat, LogFormatOption, log_as, logs_json
from fleetops.cli.options import CaOption, Format, QuietOption, TokenFileOption
from fleetops.cli.watching import MetricsOption, VerboseOption, WorkerWatching
from fleetops.errors import ExitCode, UsageError
from fleetops.places import database_url

if TYPE_CHECKING:
    from fleetops.events import RunStatus
    from fleetops.journal import NewRun

_EVERY_S = 5.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: fleetops worker --queue madrid")(ends_well(worker))
    app.command(epilog="Example: fleetops database")(ends_well(database))


def worker(
    queue: Annotated[str, typer.Option("--queue", metavar="NAME", help="Take chunks of runs for this queue.")] = (
        "default"
    ),
    chunks: Annotated[
        int, typer.Option("--chunks", min=1, max=256, metavar="N", help="Chunks to run side by side.")
    ] = 8,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End once no run is live.")] = False,
    behind_pooler: Annotated[
        bool, typer.Option("--behind-pooler", help="Poll the queue, as it does where it notices PgBouncer.")
    ] = False,
    lease: Annotated[
        str,
        typer.Option("--lease", metavar="TIME", help="After so long without a sign of life others take its chunks."),
    ] = "8s",
    token_file: TokenFileOption = None,
    ca_bundle: CaOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    log_format: LogFormatOption = LogFormat.TEXT,
    metrics_file: MetricsOption = None,
) -> ExitCode:
    """Run chunks of the runs in the database, beside other workers, until SIGTERM."""
    log_as(log_format)
    url = database_url()
    from fleetops.campaigns import Connection
    from fleetops.cluster.settings import WorkerSettings
    from fleetops.cluster.worker import Worker
    from fleetops.control import HttpControlPlane, read_token
    from fleetops.policy import Policy

    token = read_token(os.environ, token_file)

    def make_control(base_url: str, policy: Policy) -> HttpControlPlane:
        return Connection(base_url=base_url, token=token, ca_bundle=ca_bundle).control(policy)

    watching = WorkerWatching(quiet=quiet, verbose=verbose, metrics_file=metrics_file)
    settings = WorkerSettings(
        url=url,
        make_control=make_control,
        queue=queue,
        chunks=chunks,
        behind_pooler=behind_pooler,
        lease_ns=_lease_ns(lease),
        until_idle=until_idle,
        tell=watching.tell,
        tell_step=watching.tell_step,
        watch=watching.show,
    )

    async def work() -> None:
        await Worker(settings).run()

    with watching:
        anyio.run(work)
    return ExitCode.OK


def _lease_ns(given: str) -> int:
    from fleetops.policy.units import parse_duration_ns

    try:
        return parse_duration_ns(given)
    except ValueError as error:
        raise UsageError(f"--lease: {error}") from None


def database() -> ExitCode:
    """Make the tables in the database of FLEETOPS_DATABASE_URL, or bring them up to date."""
    url = database_url()
    from fleetops.cluster.database import upgrade

    applied = upgrade(url)
    say(f"{len(applied)} migrations were applied" if applied else "the database is up to date")
    return ExitCode.OK


class Place(NamedTuple):
    """Where and how a run is put.

    Attributes:
        queue: The queue of the workers that may run it.
        devices_per_chunk: How many devices a chunk has; None for a number that suits the campaign.
        heed_window: Whether the policy's maintenance windows count.
        alongside: Whether other runs may be live on the same control plane.
    """

    queue: str
    devices_per_chunk: int | None
    heed_window: bool
    alongside: bool


def start_on_cluster(new: NewRun, place: Place, *, quiet: bool) -> None:
    """Put a run into the database, and its chunks into the queue.

    Raises:
        RunBusyError: A live run holds some of the devices, or is there at all.
        JournalError: The database cannot be used.
    """
    url = database_url()
    from fleetops.cluster.follow import offer
    from fleetops.cluster.submit import submit

    chunks = submit(
        url,
        new,
        queue=place.queue,
        devices_per_chunk=place.devices_per_chunk,
        heed_window=place.heed_window,
        alongside=place.alongside,
    )
    offer(url, new.facts.run_id)
    if logs_json():
        log("info", "run_submitted", {"run_id": new.facts.run_id, "chunks": chunks, "queue": place.queue})
    elif not quiet:
        say(
            f"run {new.facts.run_id}: {counted(len(new.steps.serials), 'device')}, "
            f"{counted(len(new.steps), 'step')}, {counted(chunks, 'chunk')}, "
            f"queue {printable(place.queue)}, {printable(new.facts.base_url)}"
        )


def look_on(run_id: str, *, quiet: bool) -> bool:
    """Look on until a run is over; whether it is: whoever looks on may leave by ctrl-C, and it goes on."""
    url = database_url()
    from fleetops.cluster.follow import follow

    due_s = time.monotonic() + _EVERY_S

    def seen(glance: RunStatus) -> None:
        nonlocal due_s
        if not quiet and time.monotonic() >= due_s:
            due_s = time.monotonic() + _EVERY_S
            say(f"{time.strftime('%H:%M:%S')} {glance.text()}")

    try:
        follow(url, run_id, seen)
    except KeyboardInterrupt:
        say(
            f"the run goes on without this command: `fleetops status {run_id}` shows how far it is, "
            f"`fleetops abort {run_id}` stops it"
        )
        return False
    return True


def left(run_id: str, output: Format) -> ExitCode:
    """Say that a run was left to the workers."""
    if output is Format.JSON:
        put(json.dumps({"run_id": run_id}))
    else:
        put(run_id)
    return ExitCode.OK


def refuse_here(metrics_file: Path | None) -> None:
    """Refuse what only a run on this host can do.

    Raises:
        UsageError: Metrics were asked for.
    """
    if metrics_file is not None:
        raise UsageError(
            "a run on the cluster writes no metrics file on this host", hint="`fleetops worker` takes --metrics-file"
        )
