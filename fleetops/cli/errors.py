"""How a command ends: with an exit code, and with words that say what happened and what to do next."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from fleetops.cli.diagnostics import printable, render, summary
from fleetops.errors import ExitCode, FleetopsError, InvalidInputError

Parameters = ParamSpec("Parameters")


def say(text: str = "") -> None:
    """Print for people, to stderr."""
    typer.echo(text, err=True)


def colours() -> bool:
    """Whether stderr is a terminal whose user wants colours."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say_error(error: FleetopsError) -> None:
    """Print an error with its hint, and the problems that it holds."""
    if isinstance(error, InvalidInputError) and error.problems.listed:
        say(render(error.problems, colour=colours()))
        say()
        say(f"{summary(error.problems)}; nothing was sent")
        return
    label = "\x1b[1;31merror\x1b[0m" if colours() else "error"
    say(f"{label}: {printable(error.message)}")
    if error.hint:
        say(f"\n  hint: {printable(error.hint)}")


def ends_well(command: Callable[Parameters, ExitCode | None]) -> Callable[Parameters, None]:
    """Have a command end with the exit code that it returns, or with that of the error that it raises."""

    @wraps(command)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        code = _code_of(lambda: command(*args, **kwargs))
        if code:
            raise typer.Exit(code)

    return wrapper


def _code_of(call: Callable[[], ExitCode | None]) -> ExitCode:
    try:
        code = call() or ExitCode.OK
        sys.stdout.flush()
    except FleetopsError as error:
        say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain about it once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: people get a sentence, not a traceback
        if os.environ.get("FLEETOPS_TRACEBACK"):
            traceback.print_exc()
        say(f"error: fleetops has a defect: {type(error).__name__}: {printable(str(error))[:300]}")
        say("\n  hint: set FLEETOPS_TRACEBACK=1 to see where, and report it; a run that was started can be resumed")
        return ExitCode.HOST
    return code
