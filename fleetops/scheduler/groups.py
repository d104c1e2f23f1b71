"""The cap on devices of a group that are disturbed at once: in flight, or in settle after what may have run."""

from __future__ import annotations

from array import array
from collections import Counter
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from fleetops.policy.fields import cap_of
from fleetops.scheduler.sequences import DEVICE_BITS, DEVICE_MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetops.policy.waves import Reach

_UNDISTURBED: Final = -1


class GroupLoad:
    """How many devices of each group are disturbed, and which wait for a place. Devices without a group have no cap.

    Attributes:
        waiting: Devices that wait for a place in their group.
    """

    def __init__(self, groups: Sequence[str], cap: Reach, settling_until_ns: Mapping[int, int]) -> None:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in groups if name))}
        self._group_of = array("i", (numbers[name] if name else -1 for name in groups))
        sizes = Counter(self._group_of)
        self._cap = [cap_of(cap, sizes[number]) for number in range(len(numbers))]
        self._load = [0] * len(numbers)
        self._blocked: list[list[int]] = [[] for _ in numbers]
        self._in_flight = bytearray(len(groups))
        self._until_ns = array("q", [_UNDISTURBED]) * len(groups)
        self._releases: list[int] = []
        self.waiting = 0
        for device, until_ns in settling_until_ns.items():
            if self._group_of[device] >= 0:
                self._load[self._group_of[device]] += 1
                self._until_ns[device] = until_ns
                self._releases.append(until_ns << DEVICE_BITS | device)
        heapify(self._releases)

    def occupy(self, devices: Iterable[int]) -> None:
        """Count devices that are in flight already, whatever the cap."""
        for device in devices:
            group = self._group_of[device]
            if group >= 0:
                self._in_flight[device] = 1
                if self._until_ns[device] == _UNDISTURBED:
                    self._load[group] += 1
                    self._until_ns[device] = 0

    def next_release_ns(self) -> int | None:
        """When a place may become free, where a device waits for one; None where only an answer can free one."""
        return self._releases[0] >> DEVICE_BITS if self.waiting and self._releases else None

    def take(self, device: int, rank: int) -> bool:
        """Take a place for a device that is about to be sent to; where there is none, it is put in line by `rank`."""
        group = self._group_of[device]
        if group < 0:
            return True
        if self._until_ns[device] == _UNDISTURBED:
            if self._load[group] >= self._cap[group]:
                heappush(self._blocked[group], rank)
                self.waiting += 1
                return False
            self._load[group] += 1
            self._until_ns[device] = 0
        self._in_flight[device] = 1
        return True

    def landed(self, device: int, until_ns: int, now_ns: int) -> Sequence[int]:
        """The request to a device is over, and the device is disturbed until a moment; the ranks that this lets go."""
        if self._group_of[device] < 0:
            return ()
        self._in_flight[device] = 0
        until_ns = max(until_ns, self._until_ns[device])
        if until_ns > now_ns:
            self._until_ns[device] = until_ns
            heappush(self._releases, until_ns << DEVICE_BITS | device)
            return ()
        return self._release(device)

    def settled(self, now_ns: int) -> Sequence[int]:
        """Release the devices that have settled by now; the ranks that this lets go."""
        releases = self._releases
        if not releases or releases[0] >> DEVICE_BITS > now_ns:
            return ()
        let_go: list[int] = []
        over = now_ns + 1 << DEVICE_BITS
        while releases and releases[0] < over:
            release = heappop(releases)
            device = release & DEVICE_MASK
            if self._until_ns[device] == release >> DEVICE_BITS and not self._in_flight[device]:
                let_go += self._release(device)
        return let_go

    def _release(self, device: int) -> Sequence[int]:
        group = self._group_of[device]
        self._until_ns[device] = _UNDISTURBED
        self._load[group] -= 1
        if not self._blocked[group]:
            return ()
        self.waiting -= 1
        return (heappop(self._blocked[group]),)
