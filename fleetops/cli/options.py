"""Options that several commands share, and how those that override the policy become a layer of it."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TextIO

import typer

from fleetops.errors import ExitCode, FleetopsError, UsageError

STDOUT: Final = "-"
"""What stands for standard output where a file is asked for."""


class Format(StrEnum):
    """How something is printed."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print: for people or for programs.")]
ManifestArgument = Annotated[
    str, typer.Argument(metavar="MANIFEST", help="A CSV or YAML file; - reads standard input.")
]


def known_runs(incomplete: str) -> list[str]:
    """The ids of the runs that start like `incomplete`, newest first; none where they cannot be listed."""
    from fleetops.places import state_dir

    # A shell that completes has nowhere to show an error.
    with suppress(OSError, FleetopsError):
        return [run_id for run_id in state_dir().run_ids() if run_id.startswith(incomplete)]
    return []


RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN_ID", help="A run; `fleetops runs` lists them.", autocompletion=known_runs),
]
PolicyFileOption = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A policy in YAML or TOML; overrides the manifest's.")
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="The control API [env: FLEETOPS_BASE_URL].")
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="A private file with the token [else env: FLEETOPS_TOKEN]."),
]
CaOption = Annotated[
    Path | None, typer.Option("--ca-bundle", metavar="FILE", help="CA certificates instead of the usual ones.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Agree to factory resets.")]
AlongsideOption = Annotated[
    bool, typer.Option("--alongside", help="Run beside another live run on the same control plane.")
]
NowOption = Annotated[bool, typer.Option("--now", help="Ignore the maintenance windows.")]


class Override(NamedTuple):
    """An option that overrides the policy.

    Attributes:
        kind: What typer reads.
        flag: Its name on the command line.
        metavar: What its value looks like; None for a flag without one.
        text: What it does.
        path: The setting, as keys from the top.
    """

    kind: Any
    flag: str
    metavar: str | None
    text: str
    path: tuple[str, ...]


_TEXT: Final = str | None
_TEXTS: Final = list[str] | None
_NUMBER: Final = int | None
_FLAG: Final = bool | None

OVERRIDES: Final = {
    "rate": Override(_TEXT, "--rate", "20/s", "Operations sent at most; also /m, /h.", ("rate",)),
    "burst": Override(_NUMBER, "--burst", "N", "Operations that may be sent at once on top.", ("burst",)),
    "concurrency": Override(_NUMBER, "--concurrency", "N", "Requests in flight at most.", ("concurrency",)),
    "timeout": Override(
        _TEXTS, "--timeout", "30s", "For a reply; connect=5s for the connection.", ("timeouts", "read")
    ),
    "settle": Override(
        _TEXTS, "--settle", "reboot=2m", "Rest of a device after an operation; 2m for all.", ("settle",)
    ),
    "attempts": Override(_NUMBER, "--attempts", "N", "Sends of one step at most.", ("retries", "attempts")),
    "resend": Override(_TEXTS, "--resend", "OPERATION", "Send again what may have run.", ("resend",)),
    "resend_destructive": Override(
        _FLAG, "--resend-destructive", None, "Lets factory resets be sent again too.", ("resend", "destructive")
    ),
    "on_failure": Override(
        _TEXT, "--on-failure", "skip_rest|continue", "What a device does after a failed step.", ("on_failure",)
    ),
    "window": Override(
        _TEXTS, "--window", '"02:00-05:00 Europe/Madrid"', "When operations may be started.", ("window",)
    ),
    "at_end": Override(_TEXT, "--at-end", "stop|wait", "What happens when the window closes.", ("at_end",)),
    "blackout": Override(_TEXTS, "--blackout", "DATE", "No window opens on that date.", ("blackout",)),
    "waves": Override(_TEXT, "--waves", "1%,10%,100%", "Devices let in by the end of each wave.", ("waves",)),
    "gate": Override(_TEXT, "--gate", '"failed<=2%, soak 10m"', "What a wave shows before the next.", ("gate",)),
    "on_gate_failed": Override(
        _TEXT, "--on-gate-failed", "abort|pause", "What happens where it does not.", ("on_gate_failed",)
    ),
    "abort_when": Override(
        _TEXTS, "--abort-when", '"failed>5% after 100"', "Stop when that much goes wrong.", ("abort_when",)
    ),
    "group_cap": Override(_TEXT, "--group-cap", "2|5%", "Devices of a group disturbed at once.", ("group_cap",)),
    "preflight": Override(
        _FLAG, "--preflight/--no-preflight", None, "Look devices up before anything is sent.", ("preflight",)
    ),
    "offline": Override(_TEXT, "--offline", "send|skip|fail", "What to do about devices that are down.", ("offline",)),
    "confirm": Override(
        _FLAG, "--confirm/--no-confirm", None, "Watch devices until they are back.", ("confirm", "enabled")
    ),
    "max_devices": Override(_NUMBER, "--max-devices", "N", "Refuse a larger campaign.", ("max_devices",)),
    "allow": Override(_TEXTS, "--allow", "PATTERN", "Only devices that match.", ("allow",)),
    "deny": Override(_TEXTS, "--deny", "PATTERN", "No device that matches.", ("deny",)),
    "settings": Override(_TEXTS, "--set", "KEY=VALUE", "Any setting, such as confirm.limit=5m or waves=null.", ()),
}


def takes_policy_options(command: Callable[..., ExitCode | None]) -> Callable[..., ExitCode | None]:
    """Give a command the options that override the policy, as a mapping `options` in the shape of a policy file."""
    parameters = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "options"]
    extra = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                option.kind, typer.Option(option.flag, metavar=option.metavar, help=option.text, show_default=False)
            ],
        )
        for name, option in OVERRIDES.items()
    ]

    @wraps(command)
    def wrapper(**given: Any) -> ExitCode | None:
        chosen = {name: given.pop(name) for name in OVERRIDES}
        return command(**given, options=policy_layer(chosen))

    signature = inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters] + extra)
    # typer reads these; it must not look through to the command, which has other parameters.
    del vars(wrapper)["__wrapped__"]
    vars(wrapper)["__signature__"] = signature
    wrapper.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return wrapper


def policy_layer(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, in the shape of a policy file.

    Raises:
        UsageError: One of them makes no sense.
    """
    layer: dict[str, Any] = {}
    for name, value in chosen.items():
        if value is not None and value != []:
            _put(layer, name, OVERRIDES[name].path, value)
    if layer:
        _check(layer)
    return layer


def _put(layer: dict[str, Any], name: str, path: tuple[str, ...], value: Any) -> None:
    match name:
        case "settle":
            below = layer.setdefault("settle", {})
            for part in value:
                operation, separator, duration = part.rpartition("=")
                names = [operation.strip()] if separator else ["reboot", "factory", "device_factory", "sync", "reconf"]
                below.update(dict.fromkeys(names, duration.strip()))
        case "timeout":
            below = layer.setdefault("timeouts", {})
            for part in value:
                which, _, duration = part.rpartition("=")
                below[which.strip() or "read"] = duration.strip()
        case "resend":
            layer.setdefault("resend", {}).update(dict.fromkeys(value, True))
        case "settings":
            for part in value:
                key, _, text = part.partition("=")
                _put_at(layer, [word.strip() for word in key.split(".")], _value(text.strip()))
        case _:
            _put_at(layer, path, value)


def _put_at(layer: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *above, key = path
    for word in above:
        below = layer.get(word)
        layer[word] = dict(below) if isinstance(below, dict) else {}
        layer = layer[word]
    layer[key] = value


def _value(text: str) -> Any:
    """A number, true, false, null, a list or a mapping as JSON has them; any other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check(layer: dict[str, Any]) -> None:
    from fleetops.documents import Document
    from fleetops.policy.files import setting_problems

    problems = setting_problems(Document("the command line", layer))
    if problems.listed:
        first = problems.listed[0]
        raise UsageError(first.message, hint=first.hint)


def file_or_stdout(path: Path | None) -> Path | TextIO:
    """Where something is to be written: standard output without a path, and for `-`."""
    return sys.stdout if path is None or str(path) == STDOUT else path


def base_url_or_default(given: str | None) -> str:
    """The base URL from the option, the environment, or the default.

    Raises:
        UsageError: It is not one that can be used.
    """
    from fleetops.control import DEFAULT_BASE_URL, parse_base_url

    return parse_base_url(given or os.environ.get("FLEETOPS_BASE_URL") or DEFAULT_BASE_URL)
