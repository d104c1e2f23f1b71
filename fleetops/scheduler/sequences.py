"""The order in which devices are served: their sequences, and how long each has still to go."""

from __future__ import annotations

from array import array
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from fleetops.model import Steps

DEVICE_BITS: Final = 32
DEVICE_MASK: Final = (1 << DEVICE_BITS) - 1
"""Heaps hold a key and a device in one number: half the size of a pair, and faster to compare."""

_ONE_WHERE_DONE: Final = bytes([0]) + bytes([1]) * 255


class Sequences:
    """Each device's steps in manifest order, with a cursor at the step that is to be done next.

    Attributes:
        devices: How many devices there are.
        order: The steps, device by device.
        cursor: By device, the place in `order` of its current step; past its last one at the end of its sequence.
    """

    def __init__(self, steps: Steps) -> None:
        self.devices = len(steps.serials)
        self._steps = steps
        self._one_each = len(steps) == self.devices
        self._first = self._starts(steps)
        self.order = self._by_device(steps, self._first)
        self.cursor = array("I", self._first[:-1])
        self._class_of = array("I", bytes(4 * len(steps))) if self._one_each else self._classes(self._tails(steps))

    @staticmethod
    def _starts(steps: Steps) -> array[int]:
        if len(steps.serials) == len(steps):
            return array("I", range(len(steps) + 1))
        lengths = [0] * len(steps.serials)
        for device in steps.device_of:
            lengths[device] += 1
        return array("I", accumulate(lengths, initial=0))

    @staticmethod
    def _by_device(steps: Steps, first: array[int]) -> array[int]:
        if len(first) == len(steps) + 1:
            return array("I", range(len(steps)))
        place = list(first)
        order = array("I", bytes(4 * len(steps)))
        for step, device in enumerate(steps.device_of):
            order[place[device]] = step
            place[device] += 1
        return order

    def _tails(self, steps: Steps) -> array[int]:
        """By place: the settle times between here and the device's last step, plus 1 ns a step for ties."""
        tails = array("q", bytes(8 * len(steps)))
        settle_ns_of, order, first = steps.settle_ns_of, self.order, self._first
        for device in range(self.devices):
            tail_ns = 0
            for place in range(first[device + 1] - 2, first[device] - 1, -1):
                tail_ns += settle_ns_of[order[place]] + 1
                tails[place] = tail_ns
        return tails

    @staticmethod
    def _classes(tails_ns: array[int]) -> array[int]:
        """By place: how many lengths of tail there are that are longer; a number that keeps ranks small."""
        class_of = {tail_ns: number for number, tail_ns in enumerate(sorted(set(tails_ns), reverse=True))}
        return array("I", map(class_of.__getitem__, tails_ns))

    def pass_by(self, outcomes: bytes | bytearray, waiting: Collection[int]) -> tuple[bytearray, bytearray]:
        """Move all devices past their first steps that have an outcome.

        Args:
            outcomes: As `Progress.outcomes`.
            waiting: Steps that have an outcome and are not passed for all that.

        Returns:
            By device, 1 where its sequence is at its end, and 1 where it has passed a step; else 0.
        """
        if self._one_each and not waiting:
            passed = bytearray(outcomes.translate(_ONE_WHERE_DONE))
            self.cursor = array("I", map(add, self.cursor, passed))
            return passed, passed[:]
        ended, passed = bytearray(self.devices), bytearray(self.devices)
        order, first, cursor = self.order, self._first, self.cursor
        for device, start in enumerate(cursor):
            place, end = start, first[device + 1]
            while place < end and outcomes[order[place]] and order[place] not in waiting:
                place += 1
            cursor[device] = place
            ended[device], passed[device] = place == end, place > start
        return ended, passed

    def current(self, device: int) -> int | None:
        """The step that `device` is to do next or is doing, or None at the end of its sequence."""
        place = self.cursor[device]
        return self.order[place] if place < self._first[device + 1] else None

    def has_further(self, device: int) -> bool:
        """Whether another step follows the current one."""
        return self.cursor[device] + 1 < self._first[device + 1]

    def advance(self, device: int) -> bool:
        """Move to the next step; whether there is one."""
        self.cursor[device] += 1
        return self.cursor[device] < self._first[device + 1]

    def drop_rest(self, device: int) -> array[int]:
        """End the sequence after the current step; the steps that are left out, in order."""
        start, end = self.cursor[device] + 1, self._first[device + 1]
        self.cursor[device] = end
        return self.order[start:end]

    def ranks(self, devices: Iterable[int]) -> Iterable[int]:
        """The rank of each device."""
        return devices if self._one_each else map(self.rank, devices)

    def rank(self, device: int) -> int:
        """A sort key below 2**64: devices with more still to go come first, manifest order among equals."""
        return self._class_of[self.cursor[device]] << DEVICE_BITS | device
