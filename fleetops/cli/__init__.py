"""The command line: parse, call, print. No decisions."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """The entry point of the `fleetops` command."""
    # What is loaded stays, so to look for garbage meanwhile is in vain; `begin_work` turns that on again.
    gc.disable()
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A locale that cannot show a character must not end a run.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    # numpy's linear algebra is not used, and to start its threads takes a tenth of a second of processor time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # To look for plugins of pydantic in whatever is installed takes longer than to make our models.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    # What httpx imports for a command line of its own takes longer than all the rest of it.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # as the import system has it: not there
    try:
        from fleetops.cli.app import app

        app()
    except KeyboardInterrupt:
        from fleetops.errors import ExitCode

        sys.exit(ExitCode.INTERRUPTED)
    finally:
        # What is there now ends with the process, and need not be looked through first.
        gc.freeze()


def _replace_closed_streams() -> None:
    """Have a stream that the caller closed lead nowhere.

    Otherwise the next file or socket that is opened takes its number, and what is printed goes there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number is that of the closed stream, since these are looked at in their order.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
