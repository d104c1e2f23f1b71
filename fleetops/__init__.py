"""Operations on fleets of devices, through the control API of a device management service.

The functions load what they need when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetops.version import __version__

if TYPE_CHECKING:
    from fleetops.campaigns import Connection, RunResult, resume, run, write_results
    from fleetops.control import Token, read_token
    from fleetops.errors import ExitCode, FleetopsError, InvalidInputError
    from fleetops.journal import StateDir
    from fleetops.model import Operation, Outcome
    from fleetops.validation import Campaign, validate

__all__ = [
    "Campaign",
    "Connection",
    "ExitCode",
    "FleetopsError",
    "InvalidInputError",
    "Operation",
    "Outcome",
    "RunResult",
    "StateDir",
    "Token",
    "__version__",
    "read_token",
    "resume",
    "run",
    "validate",
    "write_results",
]

_HOME = {
    "Campaign": "validation",
    "Connection": "campaigns",
    "RunResult": "campaigns",
    "resume": "campaigns",
    "run": "campaigns",
    "validate": "validation",
    "write_results": "campaigns",
    "Token": "control",
    "read_token": "control",
    "StateDir": "journal",
    "ExitCode": "errors",
    "FleetopsError": "errors",
    "InvalidInputError": "errors",
    "Operation": "model",
    "Outcome": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fleetops' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only where it is needed

    return getattr(import_module(f"fleetops.{_HOME[name]}"), name)
