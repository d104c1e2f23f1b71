"""The rate that a service which throttles is sent at: cut by a share on 429, raised again while it is quiet.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), never above the rate asked for.
"""

from __future__ import annotations

from typing import Final

from fleetops.model import NS_PER_S

CUT: Final = 0.75
"""What a 429 leaves of the rate."""
FLOOR: Final = 0.05
"""The share of the asked rate that it is never cut below."""
RAISE_PER_S: Final = 0.1
"""The share of the asked rate that each quiet second gives back: a hold already keeps the run off the service, and a
rate that comes back slowly would let a few stray 429s in a hundred decide how long a campaign takes."""
_CUTS_APART_NS: Final = NS_PER_S


class Throttled:
    """Since when a service has answered nothing but 429; the schedulers of one run share it.

    Attributes:
        since_ns: Since when; None where it has answered something else last, or nothing.
    """

    __slots__ = ("since_ns",)

    def __init__(self) -> None:
        self.since_ns: int | None = None

    def again_ns(self, now_ns: int) -> int:
        """It answered 429: for how long nothing else by now, in nanoseconds."""
        if self.since_ns is None:
            self.since_ns = now_ns
        return now_ns - self.since_ns


class AdaptiveRate:
    """The rate in force now.

    Attributes:
        asked_per_s: The rate asked for, in operations per second.
        per_s: The rate in force.
    """

    def __init__(self, asked_per_s: float) -> None:
        self.asked_per_s = asked_per_s
        self.per_s = asked_per_s
        self._cut_ns: int | None = None
        self._looked_ns = 0

    def ask(self, per_s: float) -> None:
        """Ask for another rate; it is in force at once."""
        self.asked_per_s = self.per_s = per_s

    def throttled(self, now_ns: int) -> bool:
        """The service answered 429; whether the rate changed. Answers of one volley count once."""
        if self._cut_ns is not None and now_ns < self._cut_ns + _CUTS_APART_NS:
            return False
        self._cut_ns = self._looked_ns = now_ns
        self.per_s = max(self.per_s * CUT, self.asked_per_s * FLOOR)
        return True

    def quiet(self, now_ns: int, hold_until_ns: int) -> bool:
        """Give back what the quiet time since the last look is worth; whether the rate changed."""
        if self.per_s >= self.asked_per_s:
            return False
        quiet_ns = now_ns - max(self._looked_ns, hold_until_ns)
        if quiet_ns < NS_PER_S:
            return False
        self._looked_ns = now_ns
        self.per_s = min(self.asked_per_s, self.per_s + self.asked_per_s * RAISE_PER_S * quiet_ns / NS_PER_S)
        return True
