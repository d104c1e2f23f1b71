from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.control import Device, DeviceFilter
from fleetops.control.lookup import find_devices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Shelf:
    """An `Inventory` of some devices that counts how it is read, and whose lists lack what `gap` says of each list."""

    def __init__(self, size: int, *, pages: int | None, gap: Callable[[int], range] = lambda _: range(0)) -> None:
        self._devices = {f"SN{number}": Device(f"SN{number}") for number in range(size)}
        self._pages = pages
        self._gap = gap
        self.listed: list[DeviceFilter] = []
        self.single = 0

    async def devices(self, wanted: DeviceFilter = DeviceFilter()) -> AsyncIterator[Device]:  # noqa: B008 - it is frozen
        self.listed.append(wanted)
        gap = self._gap(len(self.listed))
        for number, device in enumerate(self._devices.values()):
            if number not in gap:
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


def test_a_device_that_slipped_through_the_pages_of_a_list_is_not_taken_for_missing() -> None:
    shelf = Shelf(1000, pages=5, gap=lambda _: range(500, 520))
    serials = [*(f"SN{number}" for number in range(400, 600)), "none", "nor this"]
    found = anyio.run(find_devices, shelf, serials)
    assert set(serials) - set(found) == {"none", "nor this"}
    assert len(shelf.listed) == 1
    assert shelf.single == 22


def test_a_list_that_lacks_many_devices_is_read_again() -> None:
    shelf = Shelf(1000, pages=5, gap=lambda turn: range(400) if turn == 1 else range(400, 800))
    found = anyio.run(find_devices, shelf, [f"SN{number}" for number in range(1000)])
    assert len(found) == 1000
    assert len(shelf.listed) == 2
    assert shelf.single == 100


def test_very_many_missing_devices_are_not_all_read_one_by_one() -> None:
    shelf = Shelf(10, pages=1)
    serials = [f"SN{number}" for number in range(5000)]
    assert len(anyio.run(find_devices, shelf, serials)) == 10
    assert len(shelf.listed) == 1
    assert shelf.single == 100


def test_what_does_not_pass_a_filter_is_not_read_by_itself() -> None:
    shelf = Shelf(10, pages=1)
    found = anyio.run(find_devices, shelf, [f"SN{number}" for number in range(20)], DeviceFilter(status=True))
    assert len(found) == 10
    assert shelf.single == 0
