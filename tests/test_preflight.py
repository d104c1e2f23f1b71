from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from fleetops.control import Device, DeviceFilter
from fleetops.model import Reason
from fleetops.policy import Policy
from fleetops.preflight import Sighting, left_out, look_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Shelf:
    """An inventory in memory that counts its reads."""

    def __init__(self, devices: list[Device]) -> None:
        self._devices = {device.serial_number: device for device in devices}
        self.reads = 0

    async def devices(self, wanted: DeviceFilter = DeviceFilter()) -> AsyncIterator[Device]:  # noqa: B008
        self.reads += 1
        for device in self._devices.values():
            if wanted.status is None or device.status is wanted.status:
                yield device

    async def pages(self, wanted: DeviceFilter = DeviceFilter()) -> int | None:  # noqa: B008
        self.reads += 1
        return -(-len(self._devices) // 200)

    async def device(self, serial: str) -> Device | None:
        self.reads += 1
        return self._devices.get(serial)


def test_many_devices_are_looked_up_in_pages_and_not_one_by_one() -> None:
    shelf = Shelf([Device(serial_number=f"D{n}", status=n % 10 != 0) for n in range(1000)])
    serials = {number: f"D{number}" for number in range(990, 1010)}
    sighting = anyio.run(look_up, shelf, serials)
    assert sighting == Sighting(missing=frozenset(range(1000, 1010)), offline=frozenset({990}))
    # How many there are, the list, and each that it lacks.
    assert shelf.reads == 2 + 10


def test_few_devices_of_a_large_inventory_are_read_one_by_one() -> None:
    shelf = Shelf([Device(serial_number=f"D{n}", status=True) for n in range(5000)])
    sighting = anyio.run(look_up, shelf, {0: "D1", 1: "D2", 2: "D3", 3: "D4", 4: "X"})
    assert sighting == Sighting(missing=frozenset({4}), offline=frozenset())
    assert shelf.reads == 1 + 5


def test_a_device_of_which_the_inventory_does_not_say_whether_it_is_up_is_not_offline() -> None:
    shelf = Shelf([Device(serial_number="D1", status=None)])
    assert anyio.run(look_up, shelf, {0: "D1"}) == Sighting(frozenset(), frozenset())


def test_devices_that_are_down_are_left_out_only_where_the_policy_says_so() -> None:
    sighting = Sighting(missing=frozenset(), offline=frozenset({3, 1}))
    assert left_out(Policy.model_validate({"offline": "skip"}), sighting) == {1: Reason.OFFLINE, 3: Reason.OFFLINE}
    assert left_out(Policy.model_validate({"offline": "send"}), sighting) == {}
