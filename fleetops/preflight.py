"""Before anything is sent: which of a campaign's devices are to be left out, are not there, or are down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetops.control import find_devices
from fleetops.model import Reason
from fleetops.policy.settings import Offline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetops.control import Inventory
    from fleetops.policy import Policy


def excluded(policy: Policy, serials: Sequence[str]) -> dict[int, Reason]:
    """The devices that the policy's `allow` and `deny` leave out.

    Args:
        policy: The policy; its patterns have to match a whole serial number.
        serials: Serial number by device.
    """
    allow = [re.compile(pattern) for pattern in policy.allow]
    deny = [re.compile(pattern) for pattern in policy.deny]
    if not allow and not deny:
        return {}
    return {
        device: Reason.EXCLUDED
        for device, serial in enumerate(serials)
        if (allow and not any(pattern.fullmatch(serial) for pattern in allow))
        or any(pattern.fullmatch(serial) for pattern in deny)
    }


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the inventory says of a campaign's devices.

    Attributes:
        missing: Devices that it does not have.
        offline: Devices that are down.
    """

    missing: frozenset[int]
    offline: frozenset[int]


async def look_up(inventory: Inventory, serials: Mapping[int, str]) -> Sighting:
    """Look the devices up.

    Args:
        inventory: Where to look.
        serials: Serial number by device, of those that are not left out anyway.

    Raises:
        AbortedError: The inventory cannot be read.
    """
    found = await find_devices(inventory, list(serials.values()))
    return Sighting(
        missing=frozenset(device for device, serial in serials.items() if serial not in found),
        offline=frozenset(
            device for device, serial in serials.items() if serial in found and found[serial].status is False
        ),
    )


def left_out(policy: Policy, sighting: Sighting) -> dict[int, Reason]:
    """The devices that are skipped for being down."""
    if policy.offline is not Offline.SKIP:
        return {}
    return dict.fromkeys(sorted(sighting.offline), Reason.OFFLINE)
