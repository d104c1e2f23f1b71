"""Devices that are watched in the inventory until they have come back from an operation."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from fleetops.model import Operation
    from fleetops.policy.settings import Confirm


class Look(NamedTuple):
    """Look a device up in the inventory.

    Attributes:
        device: The device.
        step: The step that it is to have come back from.
        sent_ns: When that was sent.
    """

    device: int
    step: int
    sent_ns: int


class Watchlist:
    """Which devices are looked for, and when.

    A device has come back where it is up and its status changed after the step was sent: it went down, and it is no
    longer. It is looked for from the end of the settle time on, until it has come back or the limit is over. Where the
    inventory cannot be read, nothing is known of the device, and it is looked for up to twice as long.

    Services that tell times in whole seconds leave out when in its second a change came: one in the second of the send
    counts, unless it is the change by which the device came back from its step before.
    """

    def __init__(self, confirm: Confirm) -> None:
        self._confirm = confirm
        self._operations = frozenset(confirm.operations if confirm.enabled else ())
        self._watched: dict[int, tuple[Look, int]] = {}
        self._due: list[tuple[int, int]] = []
        self._came_back_ns: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def wants(self, operation: Operation) -> bool:
        """Whether devices are watched after `operation`."""
        return operation in self._operations

    def watch(self, look: Look, from_ns: int) -> None:
        """Look for a device from a moment on."""
        self._watched[look.device] = (look, from_ns + self._confirm.limit_ns)
        heappush(self._due, (from_ns, look.device))

    @property
    def next_look_ns(self) -> int | None:
        """When a device is to be looked for next; None where none is, or all are being looked for."""
        return self._due[0][0] if self._due else None

    def due(self, now_ns: int) -> list[Look]:
        """The devices to look for now; each is to be told of by `seen`."""
        looks = []
        while self._due and self._due[0][0] <= now_ns:
            looks.append(self._watched[heappop(self._due)[1]][0])
        return looks

    def seen(self, look: Look, *, up: bool | None, changed_ns: int | None, now_ns: int) -> bool | None:
        """What the inventory says of a device; whether it has come back, None where it is looked for again."""
        came_back = up is True and changed_ns is not None and self._is_after(changed_ns, look)
        _, until_ns = self._watched[look.device]
        if up is None:
            until_ns += self._confirm.limit_ns
        if not came_back and now_ns < until_ns:
            heappush(self._due, (min(now_ns + self._confirm.every_ns, until_ns), look.device))
            return None
        del self._watched[look.device]
        if changed_ns is not None:
            self._came_back_ns[look.device] = changed_ns
        return came_back

    def _is_after(self, changed_ns: int, look: Look) -> bool:
        if changed_ns % NS_PER_S:
            return changed_ns > look.sent_ns
        return changed_ns > look.sent_ns - NS_PER_S and changed_ns != self._came_back_ns.get(look.device)
