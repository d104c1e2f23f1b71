"""Commands to a live run, reconciling one that is over, and manifests from the inventory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import anyio
import typer

from fleetops.cli.diagnostics import printable
from fleetops.cli.errors import ends_well, put, say, warn
from fleetops.cli.options import (
    BaseUrlOption,
    CaOption,
    Format,
    FormatOption,
    RunArgument,
    TokenFileOption,
    base_url_or_default,
    file_or_stdout,
)
from fleetops.errors import ExitCode, UsageError
from fleetops.places import shared, state_dir

if TYPE_CHECKING:
    from fleetops.campaigns import Connection
    from fleetops.control import Device, DeviceFilter
    from fleetops.journal import Action, StateDir
    from fleetops.journal.evidence import Finding
    from fleetops.policy import Policy

_ANSWER_S: Final = 3.0
"""How long, in seconds, a live run's answer is waited for."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: fleetops pause 20260102-030405-6f7a")(ends_well(pause))
    app.command("continue", epilog="Example: fleetops continue 20260102-030405-6f7a")(ends_well(go_on))
    app.command(epilog="Example: fleetops abort 20260102-030405-6f7a")(ends_well(abort))
    app.command(epilog="Example: fleetops rate 20260102-030405-6f7a 10/s")(ends_well(rate))
    app.command(epilog="Example: fleetops reconcile 20260102-030405-6f7a --assume not-executed --serial ZQ000000007")(
        ends_well(reconcile)
    )
    app.command(epilog="Example: fleetops inventory --status up --operation reboot --output night.csv")(
        ends_well(inventory)
    )


def _ask(run_id: str, action: Action, argument: str = "") -> None:
    from fleetops.journal import Action, Heard, ask

    state = state_dir()
    cluster = shared(state, run_id)
    if cluster is not None:
        from fleetops.cluster.commands import ask as ask_workers

        heard = ask_workers(cluster.url, run_id, action, argument)
    else:
        heard = ask(state, run_id, action, argument, answer_s=_ANSWER_S)
    match heard, action:
        case Heard.NO_CHANGE, Action.CONTINUE:
            raise UsageError(
                f"run {run_id} is not paused: there is nothing to continue",
                hint=f"`fleetops status {run_id}` shows what it does and what it waits for",
            )
        case Heard.NO_CHANGE, _:
            say(f"run {run_id} was paused already")
        case Heard.DONE, Action.PAUSE:
            say(f"run {run_id} is paused; what is in flight finishes")
        case Heard.DONE, Action.CONTINUE:
            say(f"run {run_id} goes on")
        case Heard.DONE, Action.RATE:
            say(f"run {run_id} sends at most {argument}")
        case Heard.DONE, _:
            say(f"run {run_id} has stopped")
        case _, Action.ABORT:
            say(f"run {run_id} stops once what is in flight is answered")
        case _:
            say(f"run {run_id} was asked, and has not answered yet; `fleetops status {run_id}` shows when it has")


def pause(run_id: RunArgument) -> None:
    """Have a live run send nothing until it is told to continue; what is in flight finishes."""
    from fleetops.journal import Action

    _ask(run_id, Action.PAUSE)


def go_on(run_id: RunArgument) -> None:
    """Have a paused run go on; one that a wave's gate paused lets the next wave in."""
    from fleetops.journal import Action

    _ask(run_id, Action.CONTINUE)


def abort(run_id: RunArgument) -> None:
    """Have a live run stop; what is in flight finishes, and `resume` goes on with it."""
    from fleetops.journal import Action

    _ask(run_id, Action.ABORT)


def rate(
    run_id: RunArgument, rate: Annotated[str, typer.Argument(metavar="RATE", help="Such as 10/s, 90/m or 500/h.")]
) -> None:
    """Have a live run send at another rate."""
    from fleetops.journal import Action
    from fleetops.policy import parse_rate

    try:
        wanted = parse_rate(rate)
    except ValueError as error:
        raise UsageError(str(error), hint="write a rate such as 10/s, 90/m or 500/h") from None
    _ask(run_id, Action.RATE, str(wanted))


def reconcile(
    run_id: RunArgument,
    assume: Annotated[
        str | None,
        typer.Option("--assume", metavar="executed|not-executed", help="Decide by hand, on record; nothing is read."),
    ] = None,
    serial: Annotated[list[str] | None, typer.Option("--serial", metavar="SERIAL", help="Only this device.")] = None,
    base_url: BaseUrlOption = None,
    token_file: TokenFileOption = None,
    ca_bundle: CaOption = None,
    output: FormatOption = Format.TEXT,
) -> ExitCode:
    """Look for evidence on the unknown steps of a run in the inventory."""
    from fleetops import reconcile as reconciling
    from fleetops.journal.views import RunView

    state = state_dir()
    if assume is not None:
        if assume not in set(reconciling.Assumption):
            raise UsageError(f"--assume {printable(assume)} makes no sense", hint="write executed or not-executed")
        findings = reconciling.assume(state, run_id, reconciling.Assumption(assume), serials=serial or ())
    else:
        with RunView.open(state, run_id) as view:
            url, policy = view.facts.base_url, view.policy
        findings = anyio.run(
            _look_for_evidence, state, run_id, _connection(base_url or url, token_file, ca_bundle), policy, serial or []
        )
    _print_findings(findings, output)
    with RunView.open(state, run_id) as view:
        return view.exit_code()


def _connection(base_url: str | None, token_file: Path | None, ca_bundle: Path | None) -> Connection:
    from fleetops.campaigns import Connection
    from fleetops.control import read_token

    return Connection(
        base_url=base_url_or_default(base_url), token=read_token(os.environ, token_file), ca_bundle=ca_bundle
    )


async def _look_for_evidence(
    state: StateDir, run_id: str, connection: Connection, policy: Policy, serials: list[str]
) -> list[Finding]:
    from fleetops.reconcile import reconcile as look

    control = connection.control(policy)
    try:
        return await look(state, run_id, control.inventory(), limit_ns=policy.confirm.limit_ns, serials=serials)
    finally:
        await control.aclose()


def _print_findings(findings: list[Finding], output: Format) -> None:
    if output is Format.JSON:
        rows = [
            {
                "row": one.step.step + 1,
                "serial_number": one.step.serial,
                "operation": one.step.operation,
                "outcome": one.outcome,
                "found": one.found,
            }
            for one in findings
        ]
        put(json.dumps(rows, indent=2))
        return
    if not findings:
        put("no step is unknown")
    for one in findings:
        put(printable(f"{one.step.serial} {one.step.operation}: {one.outcome}: {one.found}"))


def inventory(
    status: Annotated[str | None, typer.Option("--status", metavar="up|down", help="Only devices that are.")] = None,
    organization: Annotated[int | None, typer.Option("--organization", metavar="N", help="Only of this one.")] = None,
    device_type: Annotated[int | None, typer.Option("--type", metavar="N", help="Only of this type.")] = None,
    pending: Annotated[
        bool | None, typer.Option("--pending/--not-pending", help="Only devices with or without settings waiting.")
    ] = None,
    changed_from: Annotated[
        str | None, typer.Option("--changed-from", metavar="DATE", help="Only those that went up or down since.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many.")] = None,
    operation: Annotated[
        str, typer.Option("--operation", metavar="OP", help="What the manifest is to ask of each.")
    ] = "reboot",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file, not stdout.")] = None,
    base_url: BaseUrlOption = None,
    token_file: TokenFileOption = None,
    ca_bundle: CaOption = None,
) -> None:
    """Write a manifest of the devices that the inventory has."""
    from datetime import datetime

    from fleetops.control import DeviceFilter
    from fleetops.model import Operation
    from fleetops.report.devices import write_device_manifest

    if operation not in set(Operation):
        raise UsageError(f"there is no operation {printable(operation)!r}", hint=f"known: {', '.join(Operation)}")
    if status not in {None, "up", "down"}:
        raise UsageError(f"--status {printable(str(status))} makes no sense", hint="write up or down")
    try:
        since = datetime.fromisoformat(changed_from) if changed_from else None
    except ValueError:
        raise UsageError(f"{printable(str(changed_from))} is not a date", hint="write 2026-01-31") from None
    wanted = DeviceFilter(
        status=None if status is None else status == "up",
        type=device_type,
        organization=organization,
        pending=pending,
        last_status_change_from=since,
        limit=limit,
    )
    devices, shortfall = anyio.run(_list_devices, _connection(base_url, token_file, ca_bundle), wanted)
    if shortfall:
        warn(
            f"the list lacks {shortfall:,} of the devices that the inventory counts: they went, or changed their "
            "order, while its pages were read; list them again"
        )
    write_device_manifest(file_or_stdout(output), devices, Operation(operation))
    say(f"{len(devices):,} devices")


async def _list_devices(connection: Connection, wanted: DeviceFilter) -> tuple[list[Device], int]:
    """The devices, and how many more the inventory counts."""
    from fleetops.policy import DEFAULTS

    control = connection.control(DEFAULTS)
    try:
        inventory = control.inventory()
        return [device async for device in inventory.devices(wanted)], inventory.shortfall
    finally:
        await control.aclose()
