"""The group of commands, and what it says of a command line that makes no sense: as any other error is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from fleetops.cli.errors import say_error
from fleetops.errors import UsageError

_UNKNOWN_COMMAND: Final = re.compile(r"No such command '(.*?)'")
_EXTRA: Final = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)")
_NO_ARGUMENTS: Final = "NoArgsIsHelpError"
"""Not an error to tell: whoever says nothing gets the help."""


HOME: Final = {
    "validate": "check",
    "schema": "check",
    "plan": "plan",
    "run": "run",
    "resume": "run",
    "runs": "look",
    "status": "look",
    "report": "look",
    "pause": "operate",
    "continue": "operate",
    "abort": "operate",
    "rate": "operate",
    "reconcile": "operate",
    "inventory": "operate",
    "sandbox": "serve",
    "init": "init",
    "worker": "cluster",
    "database": "cluster",
}
"""The module of `fleetops.cli` that has each command, in the order in which they are listed."""


class Commands(TyperGroup):
    """The commands, made when they are asked for; wrong usage of any of them is told by `say_error`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the names are those of any context
        """The names of all commands."""
        return list(HOME)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        if cmd_name in HOME and cmd_name not in self.commands:
            self.commands.update(_commands_of(HOME[cmd_name]))
        return super().get_command(ctx, cmd_name)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options of the group."""
        with _told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the command with its options and arguments, and carry it out."""
        with _told(ctx, tuple(HOME)):
            return super().invoke(ctx)


def _commands_of(module: str) -> dict[str, Any]:
    part = typer.Typer(rich_markup_mode=None)
    import_module(f"fleetops.cli.{module}").register(part)
    for command in part.registered_commands:
        # The overview has room for a clause, and would cut off the rest in the middle.
        command.short_help = (command.callback.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".")
    return dict(typer.main.get_group(part).commands)


@contextmanager
def _told(context: Any = None, commands: tuple[str, ...] = ()) -> Iterator[None]:
    try:
        yield
    except TyperException as error:
        if type(error).__name__ == _NO_ARGUMENTS:
            raise
        command = "" if context is None else context.invoked_subcommand or ""
        say_error(in_our_words(error, command, commands))
        raise typer.Exit(UsageError.exit_code) from None


def in_our_words(error: Any, command: str = "", commands: tuple[str, ...] = ()) -> UsageError:
    """What typer says of a command line, as an error of ours.

    Args:
        error: What it raised.
        command: The command that was being read; empty where it was none.
        commands: The commands that there are.
    """
    path = f"fleetops {command}" if command in commands else "fleetops"
    see = f"`{path} --help` tells what can be said"
    name, parameter = getattr(error, "option_name", None), getattr(error, "param", None)
    if hasattr(error, "possibilities"):
        near = get_close_matches(str(name), error.possibilities or (), 1)
        return UsageError(f"{path} has no option {name}", hint=f"did you mean {near[0]}?" if near else see)
    text = error.format_message().removesuffix(".")
    if parameter is not None:
        is_option = parameter.param_type_name == "option"
        flag = parameter.opts[0] if is_option else parameter.metavar or parameter.name.upper()
        if not error.message:
            return UsageError(f"{path} needs a {flag}", hint=see)
        return UsageError(_of_value(flag, error.message.removesuffix(".")), hint=see)
    if unknown := _UNKNOWN_COMMAND.match(text):
        found = get_close_matches(unknown[1], commands, 1)
        hint = f"did you mean `fleetops {found[0]}`?" if found else "`fleetops --help` lists the commands"
        return UsageError(f"there is no command {unknown[1]!r}", hint=hint)
    if extra := _EXTRA.match(text):
        return UsageError(f"{path} takes no further argument: {extra[1]}", hint=see)
    return UsageError(_lowered(text), hint=see)


def _of_value(flag: str, message: str) -> str:
    """What is wrong with a value: pydantic's words, made shorter."""
    what = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    return f"{flag} {what.removeprefix('Input ')}" if what.startswith("Input ") else f"{flag}: {_lowered(what)}"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
