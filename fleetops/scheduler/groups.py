"""The cap on devices of a group that are disturbed at once: in flight, or in settle after what may have run."""

from __future__ import annotations

from array import array
from collections import Counter
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from fleetops.policy.fields import cap_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetops.policy.waves import Reach


class GroupLoad:
    """How many devices of each group are disturbed, and which wait for a place. Devices without a group have no cap."""

    def __init__(self, groups: Sequence[str], cap: Reach, settling_until_ns: Mapping[int, int]) -> None:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in groups if name))}
        self._group_of = array("i", (numbers[name] if name else -1 for name in groups))
        sizes = Counter(self._group_of)
        self._cap = [cap_of(cap, sizes[number]) for number in range(len(numbers))]
        self._load = [0] * len(numbers)
        self._blocked: list[list[int]] = [[] for _ in numbers]
        self._waiting = 0
        self._in_flight: set[int] = set()
        self._until_ns: dict[int, int] = {}
        self._releases: list[tuple[int, int]] = []
        for device, until_ns in settling_until_ns.items():
            if self._group_of[device] >= 0:
                self._load[self._group_of[device]] += 1
                self._until_ns[device] = until_ns
                self._releases.append((until_ns, device))
        heapify(self._releases)

    def occupy(self, devices: Iterable[int]) -> None:
        """Count devices that are in flight already, whatever the cap."""
        for device in devices:
            group = self._group_of[device]
            if group >= 0:
                self._in_flight.add(device)
                if device not in self._until_ns:
                    self._load[group] += 1
                    self._until_ns[device] = 0

    @property
    def waiting(self) -> int:
        """Devices that wait for a place in their group."""
        return self._waiting

    def next_release_ns(self) -> int | None:
        """When a place may become free, where a device waits for one; None where only an answer can free one."""
        return self._releases[0][0] if self._waiting and self._releases else None

    def take(self, device: int, rank: int) -> bool:
        """Take a place for a device that is about to be sent to; where there is none, it is put in line by `rank`."""
        group = self._group_of[device]
        if group < 0:
            return True
        if device not in self._until_ns:
            if self._load[group] >= self._cap[group]:
                heappush(self._blocked[group], rank)
                self._waiting += 1
                return False
            self._load[group] += 1
            self._until_ns[device] = 0
        self._in_flight.add(device)
        return True

    def landed(self, device: int, until_ns: int, now_ns: int) -> list[int]:
        """The request to a device is over, and the device is disturbed until a moment; the ranks that this lets go."""
        if self._group_of[device] < 0:
            return []
        self._in_flight.discard(device)
        until_ns = max(until_ns, self._until_ns[device])
        if until_ns > now_ns:
            self._until_ns[device] = until_ns
            heappush(self._releases, (until_ns, device))
            return []
        return self._release(device)

    def settled(self, now_ns: int) -> list[int]:
        """Release the devices that have settled by now; the ranks that this lets go."""
        let_go: list[int] = []
        while self._releases and self._releases[0][0] <= now_ns:
            until_ns, device = heappop(self._releases)
            if self._until_ns.get(device) == until_ns and device not in self._in_flight:
                let_go += self._release(device)
        return let_go

    def _release(self, device: int) -> list[int]:
        group = self._group_of[device]
        del self._until_ns[device]
        self._load[group] -= 1
        if not self._blocked[group]:
            return []
        self._waiting -= 1
        return [heappop(self._blocked[group])]
