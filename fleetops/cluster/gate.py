"""When a worker's next send may leave: the one rate of a control plane, whatever the number of workers and of runs.

Slots are moments, reserved in small blocks from one row in the database. Without a slot nothing is sent, so where the
database cannot be reached, or the worker's lease is over, nothing is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

from fleetops.cluster.slots import Slots, late_ns
from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TICKET_NS: Final = NS_PER_S
"""After so long a send that took a slot's place is taken for withdrawn."""
_BLOCK_S: Final = 0.1
"""The largest block of slots, in seconds of the rate."""
_EMPTY_NS: Final = 5_000_000
_SHUT_NS: Final = 100_000_000
_LOOK_S: Final = 0.25
_FIRST_COMMIT_NS: Final = 5_000_000
_SHORTEST_NS: Final = 30_000_000
_LONGEST_NS: Final = 400_000_000
_COMMITS_AHEAD: Final = 4


class SharedGate:
    """The `Pacing` of all the chunks of a run that a worker has.

    Args:
        now_ns: The database's clock.
        alive: Whether the worker's lease lasts.
        demand: How many sends wait for a slot, as far as is known.

    Attributes:
        hold_until_ns: No sends before.
        shut: Whether nothing may be sent at all.
        in_flight: Requests of this worker that are not answered.
        most_in_flight: How many there may be.
        per_s: The rate in force, in operations per second.
        sends: How many were sent.
    """

    def __init__(self, now_ns: Callable[[], int], alive: Callable[[], bool], demand: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._alive = alive
        self._demand = demand
        self._slots = Slots()
        self._tickets: deque[int] = deque()
        self._changed = anyio.Event()
        self._hungry = anyio.Event()
        self._commit_ns = _FIRST_COMMIT_NS
        self._waiting = 0
        self._stranded = 0
        self.hold_until_ns = 0
        self.shut = False
        self.in_flight = 0
        self.most_in_flight = 1
        self.per_s = 1.0
        self.sends = 0

    def ask(self, per_s: float) -> None:
        """The rate is asked for in the database, for all workers."""

    def take_slot(self, per_s: float) -> bool:  # noqa: ARG002 - the rate in force is the run's
        """Take up one more operation now, where that needs no waiting; whether it was."""
        now_ns = self._now_ns()
        self._slots.expire(now_ns)
        while self._tickets and self._tickets[0] < now_ns - _TICKET_NS:
            self._tickets.popleft()
        if self.shut or now_ns < self.hold_until_ns or not self._alive():
            return False
        if self.in_flight + len(self._tickets) >= self.most_in_flight:
            return False
        if len(self._tickets) < self._slots.due_by(now_ns + self.ahead_ns):
            self._tickets.append(now_ns)
            return True
        self._hungry.set()
        return False

    async def slot(self, per_s: float) -> None:
        """Wait until one more operation may be taken up."""
        self._waiting += 1
        try:
            while not self.take_slot(per_s):
                changed, moment_ns = self._changed, self._slots.moment_ns(len(self._tickets))
                wait_s = _LOOK_S
                if moment_ns is not None:
                    wait_s = min(wait_s, max(1e-3, (moment_ns - self.ahead_ns - self._now_ns()) / NS_PER_S))
                with anyio.move_on_after(wait_s):
                    await changed.wait()
        finally:
            self._waiting -= 1

    def free_at_ns(self) -> int:
        """The earliest moment at which a send may leave, or at which to ask again."""
        now_ns = self._now_ns()
        if self.shut or not self._alive():
            return now_ns + _SHUT_NS
        if now_ns < self.hold_until_ns:
            return self.hold_until_ns
        wait_ns = self._slots.wait_ns(now_ns)
        if wait_ns is None:
            self._stranded += 1
            self._hungry.set()
            return now_ns + _EMPTY_NS
        return now_ns + wait_ns

    def is_free(self, now_ns: int) -> bool:
        """Whether a send may leave now."""
        return not self.shut and now_ns >= self.hold_until_ns and self._alive() and self._slots.is_free(now_ns)

    def sent(self, now_ns: int) -> None:
        """A send leaves now, of which `is_free` has just said that it may."""
        self._slots.take(now_ns)
        if self._tickets:
            self._tickets.popleft()
        self.sends += 1

    def look_again(self) -> None:
        """Something has changed that may let a send leave."""
        self._changed.set()
        self._changed = anyio.Event()

    def wake(self) -> None:
        """Have `hungry` return: there is something to tell."""
        self._hungry.set()

    def committed(self, took_ns: int) -> None:
        """A commit took so long: sends are taken up that much ahead, so that their intents are durable in time."""
        self._commit_ns += (took_ns - self._commit_ns) // 8

    @property
    def ahead_ns(self) -> int:
        """How much ahead of its slot a send is taken up."""
        return min(_SHORTEST_NS + _COMMITS_AHEAD * self._commit_ns, _LONGEST_NS)

    @property
    def lead_ns(self) -> int:
        """How far ahead of now slots are reserved."""
        return self.ahead_ns + round(_BLOCK_S * NS_PER_S)

    @property
    def expired(self) -> int:
        """Slots that were not used in time."""
        return self._slots.expired

    def wanted(self) -> int:
        """How many slots to reserve now."""
        if self.shut or not self._alive():
            return 0
        most = max(1, int(self.per_s * _BLOCK_S))
        # A send whose slot was lost while it waited for the disk or the database waits for another one.
        missing = max(len(self._tickets), self._stranded) + self._waiting - len(self._slots)
        if missing <= 0 and not self._waiting:
            return 0
        behind = self._demand() if self._waiting else 0
        # A slot that comes while everything that may be is in flight would be lost to the other workers.
        free = self.most_in_flight - self.in_flight - len(self._slots)
        return max(0, min(most, missing + behind, free))

    def set_rate(self, per_s: float, gate_per_s: float) -> None:
        """The rates in force, in operations per second: the run's, and its control plane's, which others may share."""
        self.per_s = per_s
        self._slots.span_ns = max(NS_PER_S, round(NS_PER_S / per_s))
        apart_ns = round(NS_PER_S / gate_per_s) if per_s < gate_per_s else 0
        self._slots.late_ns = min(late_ns(gate_per_s, 0), late_ns(per_s, apart_ns))

    def granted(self, moments_ns: Sequence[int], at_ns: int) -> None:
        """Slots were given out."""
        self._stranded = 0
        self._slots.add(moments_ns, at_ns)
        self.look_again()

    def hold(self, until_ns: int) -> None:
        """Send nothing before a moment."""
        if until_ns > self.hold_until_ns:
            self.hold_until_ns = until_ns
            self._slots.drop_until(until_ns)

    def drop_slots(self) -> None:
        """Give up what was reserved: it was for another state of the run."""
        self._slots.clear()

    async def hungry(self, longest_s: float) -> None:
        """Wait until a slot is missing, for so long at most."""
        with anyio.move_on_after(longest_s):
            await self._hungry.wait()
        self._hungry = anyio.Event()
