"""Operations on fleets of devices, through the control API of a device management service.

The functions load what they need when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetops.version import __version__

if TYPE_CHECKING:
    from fleetops.campaigns import Campaign, RunResult, resume, run, validate
    from fleetops.errors import ExitCode, FleetopsError, InvalidInputError
    from fleetops.model import Operation, Outcome

__all__ = [
    "Campaign",
    "ExitCode",
    "FleetopsError",
    "InvalidInputError",
    "Operation",
    "Outcome",
    "RunResult",
    "__version__",
    "resume",
    "run",
    "validate",
]

_HOME = {
    "Campaign": "campaigns",
    "RunResult": "campaigns",
    "resume": "campaigns",
    "run": "campaigns",
    "validate": "campaigns",
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
