"""`sandbox`: a control plane to try things on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import anyio
import anyio.abc
import typer

from fleetops.cli.errors import ends_well, say
from fleetops.errors import ExitCode, HostError, UsageError

_FAULTS = "throttle, hang, close_after and more; `--fault list` tells them all."


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        context_settings={"allow_interspersed_args": False},
        epilog="Examples: fleetops sandbox --port 8080 --fault throttle=2% --fault hang@ZQ000000007; "
        "fleetops sandbox -- fleetops run night.csv",
    )(ends_well(sandbox))


def sandbox(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND", help="Run this against it, and stop when it is done.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any free one.")] = 0,
    devices: Annotated[int, typer.Option("--devices", min=1, help="ZQ000000001 and so on.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="What decides chance.")] = 1,
    fault: Annotated[list[str] | None, typer.Option("--fault", metavar="KIND=SHARE", help=_FAULTS)] = None,
    token: Annotated[str | None, typer.Option("--token", help="What it accepts [default: sandbox-token].")] = None,
    latency: Annotated[str, typer.Option("--latency", metavar="20ms", help="How long a reply takes.")] = "0",
    time_scale: Annotated[float, typer.Option("--time-scale", min=0, help="Of how long devices are down.")] = 1.0,
    jitter: Annotated[float, typer.Option("--jitter", min=0, help="Share by which that may be longer.")] = 0.0,
    offline: Annotated[float, typer.Option("--offline", min=0, max=1, help="Share of devices that are down.")] = 0.0,
    busy: Annotated[
        str, typer.Option("--busy", metavar="accept|queue|conflict|unprocessable", help="On a busy device.")
    ] = "accept",
    throttle: Annotated[float | None, typer.Option("--throttle", min=0.01, help="Requests a second it takes.")] = None,
    log: Annotated[Path | None, typer.Option("--log", metavar="FILE", help="A line of JSON for each request.")] = None,
) -> ExitCode:
    """Serve a local stand-in of the control API, with faults on demand."""
    from fleetops.policy import parse_duration_ns
    from fleetops.sandbox import FAULTS, Busy, SandboxConfig, parse_fault, run_sandbox
    from fleetops.sandbox.config import DURATIONS_S, TOKEN

    if fault == ["list"]:
        for kind, words in FAULTS.items():
            typer.echo(f"{kind:<16} {words}")
        return ExitCode.OK
    try:
        config = SandboxConfig(
            devices=devices,
            seed=seed,
            token=token or TOKEN,
            port=port,
            latency_s=parse_duration_ns(latency) / 1e9,
            duration_s={operation: base_s * time_scale for operation, base_s in DURATIONS_S.items()},
            jitter=jitter,
            offline=offline,
            busy=Busy(busy),
            throttle_per_s=throttle,
            faults=tuple(parse_fault(text) for text in fault or ()),
            log=log,
        )
    except ValueError as error:
        raise UsageError(str(error), hint="`fleetops sandbox --help` tells what can be said") from None

    def ready(base_url: str) -> None:
        say(f"sandbox: {devices:,} devices at {base_url}, token {config.token}; ctrl-C stops it")

    async def run_command(base_url: str) -> int:
        environment = {**os.environ, "FLEETOPS_BASE_URL": base_url, "FLEETOPS_TOKEN": config.token}
        try:
            process = await anyio.open_process(command or [], stdin=None, stdout=None, stderr=None, env=environment)
        except OSError as error:
            raise HostError(
                f"cannot run {(command or [''])[0]}: {error.strerror}",
                hint="what follows on -- is a command with its arguments",
            ) from None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_pass_on_signals, process)
            code = await process.wait()
            tasks.cancel_scope.cancel()
        # As shells tell it of a command that a signal ended.
        return code if code >= 0 else 128 - code

    code = run_sandbox(config, ready=ready, meanwhile=run_command if command else None)
    raise typer.Exit(code)


async def _pass_on_signals(process: anyio.abc.Process) -> None:
    """Leave ctrl-C to the command, which the terminal sends it to as well, and serve it until it is done."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for one in signals:
            if one == signal.SIGTERM:
                process.terminate()
