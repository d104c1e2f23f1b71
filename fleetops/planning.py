"""From a manifest and a policy to the steps of a campaign."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from fleetops.manifest.table import NO_SETTLE
from fleetops.model import OPERATIONS, Steps

if TYPE_CHECKING:
    from fleetops.manifest import Manifest
    from fleetops.policy import Policy


def steps_of(manifest: Manifest, policy: Policy) -> Steps:
    """The manifest's rows as steps, each with the settle time that applies to it."""
    rows = manifest.rows
    defaults = np.array([policy.settle.after_ns(operation) for operation in OPERATIONS], dtype=np.int64)
    settle_ns = np.where(rows.settle_ns == NO_SETTLE, defaults[rows.operation_of], rows.settle_ns)
    groups: list[str] = rows.groups.tolist()
    return Steps(
        serials=rows.serials.tolist(),
        groups=groups if any(groups) else [],
        device_of=array("I", rows.device_of.astype(np.uint32).tobytes()),
        operation_of=rows.operation_of.astype(np.uint8).tobytes(),
        settle_ns_of=array("q", settle_ns.tobytes()),
    )
