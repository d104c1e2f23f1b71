"""How a command ends: with an exit code, and with words that say what happened and what to do next."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, TextIO

import typer

from fleetops.cli.diagnostics import as_json, printable, render, summary
from fleetops.cli.loading import begin_work
from fleetops.cli.log import log_line, logs_json, one_log
from fleetops.errors import ExitCode, FleetopsError, InvalidInputError, Problems

Parameters = ParamSpec("Parameters")


def say(text: str = "") -> None:
    """Print for people, to stderr, or log it; where nobody can be told, the work goes on."""
    if logs_json():
        if text:
            log("info", "message", {"message": text})
    else:
        _print(text)


def warn(text: str) -> None:
    """Say what may not be as it was meant."""
    if logs_json():
        log("warning", "warning", {"message": text})
    else:
        _print(f"warning: {text}")


def log(level: str, event: str, fields: Mapping[str, Any], at_ns: int | None = None) -> None:
    """Write a line of the log, where it is one for programs; see `log_line`."""
    if logs_json():
        _print(log_line(level, event, fields, at_ns))


def print_lines(lines: Sequence[str]) -> None:
    """Print lines to stderr as they are."""
    _print("\n".join(lines))


def say_problems(problems: Problems) -> None:
    """Print problems, or log each of those that are listed."""
    if logs_json():
        for problem in as_json(problems):
            log(str(problem["severity"]), "problem", problem)
    else:
        _print(render(problems, colour=colours()))
        _print("")


def _print(text: str) -> None:
    try:
        typer.echo(text, err=True)
    except OSError:
        _lead_nowhere(sys.stderr)


def put(text: str) -> None:
    """Print what was asked for, to stdout; a reader that has gone changes nothing of how the command ends."""
    with reader_may_go():
        typer.echo(text)


@contextmanager
def reader_may_go() -> Iterator[None]:
    """Write to stdout in the body; whoever reads it may stop."""
    try:
        yield
    except BrokenPipeError:
        _lead_nowhere(sys.stdout)


def _lead_nowhere(stream: TextIO) -> None:
    """Have nothing more fail over a stream that cannot be written, Python's own flush at the exit included."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def colours() -> bool:
    """Whether stderr is a terminal whose user wants colours."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say_error(error: FleetopsError) -> None:
    """Print an error with its hint, and the problems that it holds."""
    if isinstance(error, InvalidInputError) and error.problems.listed:
        say_problems(error.problems)
        say(f"{summary(error.problems)}; nothing was sent")
        return
    if logs_json():
        log("error", "error", {"message": error.message, **({"hint": error.hint} if error.hint else {})})
        return
    label = "\x1b[1;31merror\x1b[0m" if colours() else "error"
    say(f"{label}: {printable(error.message)}")
    if error.hint:
        say(f"\n  hint: {printable(error.hint)}")


def ends_well(
    command: Callable[Parameters, ExitCode | None], needs: tuple[str, ...] = ()
) -> Callable[Parameters, None]:
    """Have a command end with the exit code that it returns, or with that of the error that it raises.

    Args:
        command: The command.
        needs: What it imports, to be loaded before its work begins.
    """

    @wraps(command)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        with one_log():
            code = _code_of(lambda: command(*args, **kwargs), needs)
        if code:
            raise typer.Exit(code)

    return wrapper


def _code_of(call: Callable[[], ExitCode | None], needs: tuple[str, ...]) -> ExitCode:
    code = ExitCode.OK
    try:
        begin_work(needs)
        code = call() or code
        sys.stdout.flush()
    except FleetopsError as error:
        say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return ExitCode.INTERRUPTED
    except typer.Abort:
        # A question was answered with ctrl-C or ctrl-D, and the cursor stands behind it.
        say("\ninterrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _lead_nowhere(sys.stdout)
    except OSError as error:
        _lead_nowhere(sys.stdout)
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: this host failed: {printable(f'{where}{error.strerror or error}')}")
        return ExitCode.HOST
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: people get a sentence, not a traceback
        if os.environ.get("FLEETOPS_TRACEBACK"):
            traceback.print_exc()
        say(f"error: fleetops has a defect: {type(error).__name__}: {printable(str(error))[:300]}")
        say("\n  hint: set FLEETOPS_TRACEBACK=1 to see where, and report it; a run that was started can be resumed")
        return ExitCode.HOST
    return code
