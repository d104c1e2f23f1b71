"""Finding a campaign's devices in the inventory, in pages where that costs fewer reads than one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetops.control.protocol import DeviceFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.control.protocol import Device, Inventory

_FEW: Final = 3
"""Up to so many devices are read one by one without asking how many there are to list."""
_CHECKED: Final = 100
"""So many devices that a list of everything does not have are read one by one before they are taken for missing."""
_MOST_LISTS: Final = 3
_EVERYTHING: Final = DeviceFilter()


async def find_devices(
    inventory: Inventory, serials: Sequence[str], among: DeviceFilter = _EVERYTHING
) -> dict[str, Device]:
    """The devices with these serial numbers, by serial number; those that are not there are left out.

    A list may lack a device that is there: where devices come, go or change their order while its pages are read. So
    where everything is listed, what seems to be missing is read by itself, and where that shows that the list was
    not whole and too many are missing to read each, the list is read again.

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
            return await _find_in_lists(inventory, serials, among)
    return await _read_each(inventory, serials)


async def _find_in_lists(inventory: Inventory, serials: Sequence[str], among: DeviceFilter) -> dict[str, Device]:
    wanted = set(serials)
    found: dict[str, Device] = {}
    for _ in range(_MOST_LISTS):
        async for device in inventory.devices(among):
            if device.serial_number in wanted:
                found[device.serial_number] = device
        missing = [serial for serial in serials if serial not in found]
        if not missing or among != _EVERYTHING:
            break
        there = await _read_each(inventory, missing[:_CHECKED])
        found |= there
        if not there or len(missing) <= _CHECKED:
            break
    return found


async def _read_each(inventory: Inventory, serials: Sequence[str]) -> dict[str, Device]:
    found = {}
    for serial in serials:
        device = await inventory.device(serial)
        if device is not None:
            found[serial] = device
    return found
