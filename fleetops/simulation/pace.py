"""The runner's gate on a virtual clock: the same bucket and the same bound, without waiting."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

from fleetops.model import NS_PER_S
from fleetops.policy.pacing import PACED_SHARE, SlidingSecond, bucket_size

if TYPE_CHECKING:
    from fleetops.policy import Policy


class VirtualGate:
    """When the next send may be taken up, and when it may leave.

    Attributes:
        bound: What no sliding second exceeds.
    """

    def __init__(self, policy: Policy) -> None:
        self._burst = policy.burst
        self.bound = SlidingSecond(policy.rate.per_s, policy.burst)
        self._per_s = 0.0
        self._size = 0.0
        self._leak_per_ns = 0.0
        self._level = 0.0
        self._looked_ns = 0

    def ask(self, per_s: float) -> None:
        """From now on no sliding second may carry more than this rate; what left before counts against it."""
        self.bound.change(per_s, self._burst)

    def slot_ns(self, now_ns: int, per_s: float) -> int:
        """When one more operation may be taken up, at the rate in force, in operations per second; it is, then."""
        if per_s != self._per_s:
            self._pace(now_ns, per_s)
        left = self._level - (now_ns - self._looked_ns) * self._leak_per_ns
        level = 1 + left if left > 0 else 1.0
        over = level - self._size
        if over <= 0:
            self._level = level
            self._looked_ns = now_ns
            return now_ns
        slot_ns = now_ns + ceil(over / self._leak_per_ns)
        self._level, self._looked_ns = self._size, slot_ns
        return slot_ns

    def _pace(self, now_ns: int, per_s: float) -> None:
        """Go on at another rate with the whole slots that are left: a change of rate is no reason for a burst."""
        left = 1 + self._burst
        if self._per_s:
            level = max(0.0, self._level - (now_ns - self._looked_ns) * self._leak_per_ns)
            left = min(left, floor(self._size - level))
        self._per_s = per_s
        self._size = bucket_size(per_s, self._burst)
        self._leak_per_ns = per_s * PACED_SHARE / NS_PER_S
        self._level = self._size - left
        self._looked_ns = now_ns
