"""Operations on fleets of devices, through the control API of a device management service.

The Python API is `fleetops.api`. Its names are here as well, loaded when they are first used, but for `plan` and
`report`, which are packages here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetops.version import __version__

if TYPE_CHECKING:
    from fleetops.api import RunReport, StepResult, resume, run, write_report
    from fleetops.campaigns import Connection, RunResult
    from fleetops.control import Token, read_token
    from fleetops.errors import ExitCode, FleetopsError, InvalidInputError
    from fleetops.events import RunEvent, RunStatus
    from fleetops.journal import StateDir
    from fleetops.journal.commands import Action, Heard
    from fleetops.model import Operation, Outcome
    from fleetops.validation import Campaign, validate
    from fleetops.workers import ask, status, submit, wait, worker

__all__ = [
    "Action",
    "Campaign",
    "Connection",
    "ExitCode",
    "FleetopsError",
    "Heard",
    "InvalidInputError",
    "Operation",
    "Outcome",
    "RunEvent",
    "RunReport",
    "RunResult",
    "RunStatus",
    "StateDir",
    "StepResult",
    "Token",
    "__version__",
    "ask",
    "read_token",
    "resume",
    "run",
    "status",
    "submit",
    "validate",
    "wait",
    "worker",
    "write_report",
]

_HOME = {
    "Action": "journal.commands",
    "Campaign": "validation",
    "Connection": "campaigns",
    "ExitCode": "errors",
    "FleetopsError": "errors",
    "Heard": "journal.commands",
    "InvalidInputError": "errors",
    "Operation": "model",
    "Outcome": "model",
    "RunEvent": "events",
    "RunReport": "api",
    "RunResult": "campaigns",
    "RunStatus": "events",
    "StateDir": "journal",
    "StepResult": "api",
    "Token": "control",
    "ask": "workers",
    "read_token": "control",
    "resume": "api",
    "run": "api",
    "status": "workers",
    "submit": "workers",
    "validate": "validation",
    "wait": "workers",
    "worker": "workers",
    "write_report": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fleetops' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only where it is needed

    return getattr(import_module(f"fleetops.{_HOME[name]}"), name)
