"""When the next send may leave, on a real event loop."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import anyio
from aiolimiter import AsyncLimiter

from fleetops.policy.pacing import PACED_SHARE, SlidingSecond, bucket_size

if TYPE_CHECKING:
    from fleetops.policy import Policy


_AT_ONCE_S: Final = 0.02
"""For how much time slots are taken from the limiter in one go, in seconds of the rate. What is taken together wakes
the process once, is made durable by one commit, and is answered at about the same time: at 500/s that is half of the
processor time. It is less than the bucket may make up for (`CATCH_UP_S`), so no second has more sends for it."""


SHORTEST_SLEEP_S: Final = 0.001
"""What timers of every event loop can tell from nothing, in seconds."""
_PARTS: Final = 64
"""Of a slot: how finely it is looked how much room there is."""


class Pacing(Protocol):
    """What a runner asks when its next send may leave.

    A send takes a slot first, so that its intent is made durable in time, and passes the exact bound last of all.
    """

    def ask(self, per_s: float) -> None:
        """From now on another rate is asked for, in operations per second."""

    def take_slot(self, per_s: float) -> bool:
        """Take up one more operation now, where that needs no waiting; whether it was."""

    async def slot(self, per_s: float) -> None:
        """Wait until one more operation may be taken up, at the rate in force, in operations per second."""

    def free_at_ns(self) -> int:
        """The earliest moment at which a send may leave, or at which to ask again."""

    def is_free(self, now_ns: int) -> bool:
        """Whether a send may leave now."""

    def sent(self, now_ns: int) -> None:
        """A send leaves now, of which `is_free` has just said that it may."""


class Gate:
    """A slot to send, and when: aiolimiter paces, and the sliding second bounds.

    The limiter alone lets a little more than the rate through after a pause, and what it let through can pile up
    behind a slow disk; so each send passes the exact bound last of all.
    """

    def __init__(self, policy: Policy) -> None:
        self._burst = policy.burst
        self._bound = SlidingSecond(policy.rate.per_s, policy.burst)
        self._per_s = 0.0
        self._slots = 0
        self._slots_at_once = 1
        self._limiter = AsyncLimiter(1)

    def ask(self, per_s: float) -> None:
        """From now on no sliding second may carry more than this rate; what left before counts against it."""
        self._bound.change(per_s, self._burst)

    def take_slot(self, per_s: float) -> bool:
        """Take up one more operation now, where that needs no waiting; whether it was."""
        return per_s == self._per_s and self._take()

    def _take(self) -> bool:
        """Take a slot at the rate that the limiter is at, where there is one; whether there was."""
        if not self._slots:
            if not self._limiter.has_capacity(self._slots_at_once):
                return False
            # What is free is taken without a wait: the coroutine is over at its first step.
            with suppress(StopIteration):
                self._limiter.acquire(self._slots_at_once).send(None)
            self._slots = self._slots_at_once
        self._slots -= 1
        return True

    async def slot(self, per_s: float) -> None:
        """Wait until one more operation may be taken up, at the rate in force, in operations per second."""
        if per_s != self._per_s:
            await self._pace(per_s)
        # Whoever else waits may have gone on to another rate meanwhile: a slot at that one will do.
        while not self._take():  # noqa: ASYNC110 - time passes, nothing happens
            await anyio.sleep(self._until_free_s())

    def _until_free_s(self) -> float:
        """When the limiter will have room, never too soon for a timer of any event loop to tell from now.

        It is not waited for in the limiter itself: that sets its timers to the microsecond, and a loop whose timers go
        by the millisecond, as uvloop's do, runs round and round until they are due.
        """
        parts = range(1, _PARTS * self._slots_at_once + 1)
        room = bisect_left(parts, 1, key=lambda part: not self._limiter.has_capacity(part / _PARTS)) / _PARTS
        return max(SHORTEST_SLEEP_S, (self._slots_at_once - room) / (self._per_s * PACED_SHARE))

    async def _pace(self, per_s: float) -> None:
        size = bucket_size(per_s, self._burst)
        slots = range(1, self._burst + 2)
        # What the old bucket had room for goes over to the new one: an empty one would be a burst nobody asked for.
        room = (
            bisect_left(slots, 1, key=lambda slot: not self._limiter.has_capacity(slot)) if self._per_s else len(slots)
        )
        self._limiter = AsyncLimiter(size, size / (per_s * PACED_SHARE))
        await self._limiter.acquire(size - room)
        self._per_s = per_s
        self._slots = 0
        self._slots_at_once = max(1, int(per_s * _AT_ONCE_S))

    def free_at_ns(self) -> int:
        """The earliest moment at which a send keeps the bound; 0 where any does."""
        return self._bound.free_at_ns()

    def is_free(self, now_ns: int) -> bool:
        """Whether a send that leaves now keeps the bound."""
        return self._bound.free_at_ns() <= now_ns

    def sent(self, now_ns: int) -> None:
        """A send leaves now."""
        self._bound.sent(now_ns)
