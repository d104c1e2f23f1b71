"""Before anything is sent: which of a campaign's devices the inventory does not have, and which are down."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleetops.control import find_devices
from fleetops.model import Reason
from fleetops.policy.settings import Offline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetops.control import Inventory
    from fleetops.policy import Policy


class Sighting(NamedTuple):
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
