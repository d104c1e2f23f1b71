"""What a rate allows: the bucket that paces, and the bound on every sliding second."""

from __future__ import annotations

from array import array
from math import ceil
from typing import TYPE_CHECKING, Final

from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from fleetops.policy import Policy

CATCH_UP_S: Final = 0.04
"""How much time a late timer may make up for: the slack of the bucket that paces, in seconds of the rate."""

PACED_SHARE: Final = 0.996
"""What is paced of the rate asked for, so that jitter on the way seldom has to be made up for at the exact bound."""


def bucket_size(per_s: float, burst: int = 0) -> float:
    """How many operations the leaky bucket that paces holds."""
    return 1 + per_s * CATCH_UP_S + burst


DISK_PATIENCE_NS: Final = 60 * NS_PER_S
"""How long a commit may take before an attempt is reckoned to be over too soon."""


def longest_attempt_ns(policy: Policy) -> int:
    """How long after its intent an attempt may last: it waits for the disk, the bound of the rate, and the service."""
    timeouts = policy.timeouts
    return DISK_PATIENCE_NS + round(NS_PER_S / min(1.0, policy.rate.per_s)) + timeouts.connect_ns + timeouts.read_ns


class SlidingSecond:
    """Remembers the last sends, so that no sliding second carries more than the rate (plus the burst).

    A rate below one a second is kept by spacing alone: one send per period of that rate.
    """

    def __init__(self, per_s: float, burst: int = 0) -> None:
        self._set(per_s, burst)
        self._sent_ns = array("q", bytes(8 * self._size))
        self._next = 0
        self._total = 0

    def _set(self, per_s: float, burst: int) -> None:
        self._size = max(1, ceil(per_s)) + burst
        self._span_ns = NS_PER_S if per_s >= 1 else round(NS_PER_S / per_s)

    def free_at_ns(self) -> int:
        """The earliest moment at which one more send keeps the bound; 0 where any moment does."""
        if self._total < self._size:
            return 0
        return self._sent_ns[self._next] + self._span_ns

    def sent(self, now_ns: int) -> None:
        """A send leaves at `now_ns`, which is not before an earlier one."""
        self._sent_ns[self._next] = now_ns
        self._next = (self._next + 1) % self._size
        self._total += 1

    def change(self, per_s: float, burst: int = 0) -> None:
        """Go on at another rate; sends of the last second count against it."""
        held = min(self._total, self._size)
        recent = [self._sent_ns[(self._next - held + i) % self._size] for i in range(held)]
        self._set(per_s, burst)
        self._sent_ns = array("q", bytes(8 * self._size))
        self._next = self._total = 0
        for moment_ns in recent[-self._size :]:
            self.sent(moment_ns)
