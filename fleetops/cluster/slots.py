"""The moments at which a worker may send, as they were given out to it."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import TYPE_CHECKING, Final

from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

SPREAD_NS: Final = 10_000_000
"""How much more than a second the slots of a second take: what workers use late, or read from a clock that is off, has
room in it."""
LATEST_NS: Final = 50_000_000
"""How late a slot may be used where nothing else bounds that."""
AHEAD_NS: Final = 5_000_000
"""How far ahead of the database's clock slots begin, since the answer has to arrive first."""


def late_ns(per_s: float, apart_ns: int) -> int:
    """How late a slot may be used; then it is lost.

    Slots that workers use as late as they like, up to this, and then on time again, come to no more in any second than
    the rate and one operation, or one in a hundred. Up to one a second they are a period apart all the same.

    Args:
        per_s: The rate, in operations per second.
        apart_ns: By how much a slot itself may lie later than the rate has it.
    """
    if per_s <= 1:
        return min(LATEST_NS, int(SPREAD_NS / per_s))
    most = ceil(per_s) + max(1, int(per_s / 100))
    room_ns = most * (NS_PER_S + SPREAD_NS) / per_s - NS_PER_S - apart_ns
    return min(LATEST_NS, int(room_ns))


class Slots:
    """Slots in the order of their moments.

    One may be used a little late, as timers are. So that a second which begins with late ones does not carry more than
    the rate, this worker's last second never has more sends than a second and what it is spread to have slots.

    Attributes:
        span_ns: The second, or the time between two sends where that is longer.
        late_ns: How late a slot may be used; then it is lost.
        expired: How many slots were lost.
    """

    def __init__(self) -> None:
        self._coming: deque[int] = deque()
        self._free: deque[int] = deque()
        self._lately: deque[int] = deque()
        self._sent: deque[int] = deque()
        self._told = 0
        self.span_ns = NS_PER_S
        self.late_ns = LATEST_NS
        self.expired = 0

    def __len__(self) -> int:
        return len(self._free) + len(self._coming)

    def add(self, moments_ns: Iterable[int], granted_ns: int) -> None:
        """Take slots that were given out, in order; the first may lie in the past where a burst is allowed."""
        new = [max(moment_ns, granted_ns + AHEAD_NS) for moment_ns in moments_ns]
        if self._coming and new and new[0] < self._coming[-1]:
            # What a slower run has passed over lies before what is known here.
            self._coming = deque(sorted((*self._coming, *new)))
        else:
            self._coming += new

    def drop_until(self, moment_ns: int) -> None:
        """Give up the slots before a moment: the service asked to be left alone until then."""
        self._free.clear()
        while self._coming and self._coming[0] < moment_ns:
            self._coming.popleft()
        self._told = 0

    def clear(self) -> None:
        """Give up all of them."""
        self._free.clear()
        self._coming.clear()
        self._told = 0

    def due_by(self, moment_ns: int) -> int:
        """How many will have come by a moment."""
        count = len(self._free)
        for slot_ns in self._coming:
            if slot_ns > moment_ns:
                break
            count += 1
        return count

    def moment_ns(self, number: int) -> int | None:
        """When the slot with this number, from 0, comes; None where there are not so many."""
        if number < len(self._free):
            return self._free[number]
        number -= len(self._free)
        return self._coming[number] if number < len(self._coming) else None

    def expire(self, now_ns: int) -> None:
        """See which have come, and which are lost."""
        while self._coming and self._coming[0] <= now_ns:
            moment_ns = self._coming.popleft()
            self._free.append(moment_ns)
            self._lately.append(moment_ns)
        while self._free and self._free[0] + self.late_ns < now_ns:
            self._free.popleft()
            self.expired += 1
            self._told = 0
        while self._sent and self._sent[0] <= now_ns - self.span_ns:
            self._sent.popleft()
        # So much longer, the slots of a second are as many as the rate.
        while self._lately and self._lately[0] <= now_ns - self.span_ns - SPREAD_NS:
            self._lately.popleft()

    def is_free(self, now_ns: int) -> bool:
        """Whether one may be used now."""
        self.expire(now_ns)
        return bool(self._free) and (len(self._sent) < len(self._lately) or not self._sent)

    def wait_ns(self, now_ns: int) -> int | None:
        """How long to wait for a slot; 0 where one is there, None where there is none at all.

        Of those who wait each is told a slot of its own, so that not all of them wake for each.
        """
        if self.is_free(now_ns):
            return 0
        if self._free:
            return max(1, self._sent[0] + self.span_ns - now_ns)
        if not self._coming:
            return None
        number = min(self._told, len(self._coming) - 1)
        self._told += 1
        return max(1, self._coming[number] - now_ns)

    def take(self, now_ns: int) -> None:
        """Use the first slot that has come."""
        if self._free:
            self._free.popleft()
        self._sent.append(now_ns)
        self._told = max(0, self._told - 1)
