"""The command line as a whole; each command is loaded when it is asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetops.cli.usage import Commands
from fleetops.version import __version__

app = typer.Typer(
    name="fleetops",
    cls=Commands,
    help="Run operations on fleets of devices: validated, paced, journaled, resumable.",
    epilog="Exit codes: 0 done, 1 some failed, 2 wrong usage, 3 invalid input, 4 aborted, 5 some unknown, "
    "6 incomplete, 7 this host failed, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleetops {__version__}")
        raise typer.Exit


@app.callback()
def fleetops(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run operations on fleets of devices: validated, paced, journaled, resumable."""
