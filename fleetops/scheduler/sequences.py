"""The order in which devices are served: their sequences, and how long each has still to go."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fleetops.model import Steps

_DEVICE_BITS: Final = 32
_DEVICE_MASK: Final = (1 << _DEVICE_BITS) - 1
_LONGEST_TAIL: Final = 1 << 80


class Sequences:
    """Each device's steps in manifest order, with a cursor at the step that is to be done next.

    Attributes:
        devices: How many devices there are.
    """

    def __init__(self, steps: Steps) -> None:
        self.devices = len(steps.serials)
        self._steps = steps
        self._first = self._starts(steps)
        self._order = self._by_device(steps, self._first)
        self._cursor = array("I", self._first[:-1])
        self._tail_ns = self._tails(steps)

    @staticmethod
    def _starts(steps: Steps) -> array[int]:
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
        if len(steps) == self.devices:
            return tails
        settle_ns_of, order, first = steps.settle_ns_of, self._order, self._first
        for device in range(self.devices):
            tail_ns = 0
            for place in range(first[device + 1] - 2, first[device] - 1, -1):
                tail_ns += settle_ns_of[order[place]] + 1
                tails[place] = tail_ns
        return tails

    def current(self, device: int) -> int | None:
        """The step that `device` is to do next or is doing, or None at the end of its sequence."""
        place = self._cursor[device]
        return self._order[place] if place < self._first[device + 1] else None

    def has_further(self, device: int) -> bool:
        """Whether another step follows the current one."""
        return self._cursor[device] + 1 < self._first[device + 1]

    def advance(self, device: int) -> bool:
        """Move to the next step; whether there is one."""
        self._cursor[device] += 1
        return self._cursor[device] < self._first[device + 1]

    def drop_rest(self, device: int) -> array[int]:
        """End the sequence after the current step; the steps that are left out, in order."""
        start, end = self._cursor[device] + 1, self._first[device + 1]
        self._cursor[device] = end
        return self._order[start:end]

    def rank(self, device: int) -> int:
        """A sort key: devices with more still to go come first, manifest order among equals."""
        return (_LONGEST_TAIL - self._tail_ns[self._cursor[device]]) << _DEVICE_BITS | device

    @staticmethod
    def device_of_rank(rank: int) -> int:
        """The device that `rank` is the key of."""
        return rank & _DEVICE_MASK
