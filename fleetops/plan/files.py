"""Plans in files: the paths in a plan are relative to the plan, so that a folder with both can be moved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fleetops.documents import read_bytes
from fleetops.errors import UsageError
from fleetops.plan.document import LARGEST_PLAN, Plan

_STDIN: Final = "-"


def frozen_for(plan: Plan, path: Path) -> Plan:
    """The plan as it is to be written to `path`: with paths from there.

    Raises:
        UsageError: The manifest came from standard input, or has a name under which a run could not read it again.
    """
    if plan.manifest.path == _STDIN:
        raise UsageError(
            "a plan for a manifest from standard input cannot be kept: a run reads the manifest again",
            hint="write the manifest to a file, and plan that",
        )
    if not Path(plan.manifest.path).exists():
        raise UsageError(
            f"the manifest {plan.manifest.path} would not be found again: its name is not UTF-8, or it has gone",
            hint="rename the manifest, and plan that",
        )
    manifest = plan.manifest.model_copy(update={"path": _seen_from(path, plan.manifest.path)})
    policy_file = None if plan.policy_file is None else _seen_from(path, plan.policy_file)
    return plan.model_copy(update={"manifest": manifest, "policy_file": policy_file})


def manifest_path(plan: Plan, path: Path) -> str:
    """Where the manifest is of a plan that was read from `path`."""
    return _from_here(path, plan.manifest.path)


def policy_path(plan: Plan, path: Path) -> str | None:
    """Where the policy file is of a plan that was read from `path`; None where no file took part."""
    return None if plan.policy_file is None else _from_here(path, plan.policy_file)


def read_plan(path: str | Path) -> Plan:
    """Read a plan.

    Raises:
        InvalidInputError: It cannot be read, is not a plan, or was changed since it was frozen.
    """
    return Plan.from_json(read_bytes(str(path), limit=LARGEST_PLAN), str(path))


def _seen_from(plan: Path, name: str) -> str:
    if Path(name).is_absolute():
        return name
    return os.path.relpath(Path(name).absolute(), plan.absolute().parent)


def _from_here(plan: Path, name: str) -> str:
    return name if Path(name).is_absolute() else str(plan.parent / name)
