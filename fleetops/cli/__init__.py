"""The command line: parse, call, print. No decisions."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of the `fleetops` command."""
    for stream in (sys.stdout, sys.stderr):
        # A locale that cannot show a character must not end a run.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    from fleetops.cli.app import app

    app()
