"""From a manifest and a policy to the steps of a campaign."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from fleetops.model import CODE_OF, OPERATIONS, Steps

if TYPE_CHECKING:
    from fleetops.manifest import Manifest
    from fleetops.policy import Policy

_OWN: Final = -1
"""A manifest row without a settle time of its own."""


def steps_of(manifest: Manifest, policy: Policy) -> Steps:
    """The manifest's rows as steps, each with the settle time that applies to it."""
    rows = manifest.rows
    device_of, serials = pd.factorize(rows["serial_number"])
    names = {operation.value: code for operation, code in CODE_OF.items()}
    # Few words, looked up once each: to map the column takes as long as to parse the file.
    place, words = pd.factorize(rows["operation"])
    codes = np.array([names[word] for word in words], dtype=np.uint8)[place]
    defaults = np.array([policy.settle.after_ns(operation) for operation in OPERATIONS], dtype=np.int64)
    own_ns = rows["settle_ns"].to_numpy(dtype=np.int64)
    settle_ns = np.where(own_ns == _OWN, defaults[codes], own_ns)
    return Steps(
        serials=serials.to_numpy(dtype=object).tolist(),
        groups=_groups(rows, device_of),
        device_of=array("I", device_of.astype(np.uint32).tobytes()),
        operation_of=codes.tobytes(),
        settle_ns_of=array("q", settle_ns.astype(np.int64).tobytes()),
    )


def _groups(rows: pd.DataFrame, device_of: np.ndarray[tuple[int], np.dtype[np.intp]]) -> list[str]:
    """Group by device: the one that any of its rows names; empty where no device has one."""
    named = rows["group"].astype(object).to_numpy()
    if not (named != "").any():
        return []
    groups = [""] * (int(device_of.max()) + 1)
    for device, group in zip(device_of.tolist(), named.tolist(), strict=True):
        if group:
            groups[device] = group
    return groups
