"""Finding a campaign's devices in the inventory, in pages where that costs fewer reads than one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetops.control.protocol import DeviceFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.control.protocol import Device, Inventory

_FEW: Final = 3
"""Up to so many devices are read one by one without asking how many there are to list."""
_EVERYTHING: Final = DeviceFilter()


async def find_devices(
    inventory: Inventory, serials: Sequence[str], among: DeviceFilter = _EVERYTHING
) -> dict[str, Device]:
    """The devices with these serial numbers, by serial number; those that are not there are left out.

    Args:
        inventory: Where to look.
        serials: Which devices.
        among: A filter that those which matter pass; others may be found or not.

    Raises:
        AbortedError: The inventory cannot be read.
    """
    if len(serials) > _FEW:
        pages = await inventory.pages(among)
        if pages is not None and pages < len(serials):
            wanted = set(serials)
            return {
                device.serial_number: device
                async for device in inventory.devices(among)
                if device.serial_number in wanted
            }
    found = {}
    for serial in serials:
        device = await inventory.device(serial)
        if device is not None:
            found[serial] = device
    return found
