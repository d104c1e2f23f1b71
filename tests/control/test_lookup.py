from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.control import Device, DeviceFilter
from fleetops.control.lookup import find_devices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Shelf:
    """An `Inventory` of some devices that counts how it is read."""

    def __init__(self, size: int, *, pages: int | None) -> None:
        self._devices = {f"SN{number}": Device(f"SN{number}") for number in range(size)}
        self._pages = pages
        self.listed: list[DeviceFilter] = []
        self.single = 0

    async def devices(self, wanted: DeviceFilter = DeviceFilter()) -> AsyncIterator[Device]:  # noqa: B008 - it is frozen
        self.listed.append(wanted)
        for device in self._devices.values():
            yield device

    async def pages(self, wanted: DeviceFilter = DeviceFilter()) -> int | None:  # noqa: B008 - it is frozen
        return self._pages

    async def device(self, serial: str) -> Device | None:
        self.single += 1
        return self._devices.get(serial)


@pytest.mark.parametrize(
    ("asked", "pages", "lists"),
    [(0, 1, 0), (1, 1, 0), (3, 1, 0), (4, 1, 1), (10, 9, 1), (10, 10, 0), (10, 500, 0), (10, None, 0), (4, 0, 1)],
)
def test_devices_are_listed_where_that_takes_fewer_reads(asked: int, pages: int | None, lists: int) -> None:
    shelf = Shelf(20, pages=pages)
    serials = [f"SN{number}" for number in range(asked)]
    among = DeviceFilter(status=True)
    found = anyio.run(find_devices, shelf, serials, among)
    assert sorted(found) == sorted(serials)
    assert shelf.listed == [among] * lists
    assert shelf.single == (0 if lists else asked)


@pytest.mark.parametrize("pages", [1, None])
def test_those_that_are_not_there_are_left_out(pages: int | None) -> None:
    found = anyio.run(find_devices, Shelf(3, pages=pages), ["SN1", "none", "SN2", "nor this", "x"])
    assert set(found) == {"SN1", "SN2"}
