"""A worker's lease: until when it may be sure that nobody else has its chunks."""

from __future__ import annotations

from typing import Final

from fleetops.errors import UsageError
from fleetops.model import NS_PER_S
from fleetops.policy.units import format_duration

LEASE_NS: Final = 8 * NS_PER_S
"""How long a lease lasts, unless a worker is told otherwise; others may take its chunks once that is over."""
SHORTEST_NS: Final = 3 * NS_PER_S
"""A shorter one would be lost by every pause of a host or of the database."""
LONGEST_NS: Final = 12 * NS_PER_S
"""As long as a write may wait for the database; what reads a run while it goes on counts on no more."""
_MARGIN_NS: Final = NS_PER_S
"""How much earlier the worker itself takes it for over: clocks run unevenly, and a send takes its time."""


class Lease:
    """What a worker knows of its lease, by the time since its host's boot; it is over before others may think so.

    Args:
        lasts_ns: How long it lasts from each renewal on.

    Attributes:
        lasts_ns: As above.

    Raises:
        UsageError: That is too short or too long.
    """

    def __init__(self, lasts_ns: int = LEASE_NS) -> None:
        if not SHORTEST_NS <= lasts_ns <= LONGEST_NS:
            raise UsageError(
                f"a lease of {format_duration(lasts_ns)} is none that works",
                hint=f"from {format_duration(SHORTEST_NS)} to {format_duration(LONGEST_NS)}; "
                f"{format_duration(LEASE_NS)} is the usual one",
            )
        self.lasts_ns = lasts_ns
        self._until_ns = 0

    @property
    def renew_s(self) -> float:
        """How often it is renewed."""
        return 3 / 16 * self.lasts_ns / NS_PER_S

    @property
    def try_s(self) -> float:
        """How long a renewal may take before another one is tried."""
        return self.lasts_ns / 2 / NS_PER_S

    @property
    def look_s(self) -> float:
        """How often to look for leases of others that are over."""
        return self.lasts_ns / 4 / NS_PER_S

    def renewed(self, asked_ns: int) -> None:
        """It was renewed by a request that was made at this moment, so it began no earlier."""
        self._until_ns = asked_ns + self.lasts_ns - _MARGIN_NS

    def left_s(self, now_ns: int) -> float:
        """For how long it lasts from this moment on, in seconds."""
        return max(0, self._until_ns - now_ns) / NS_PER_S

    def lasts(self, now_ns: int) -> bool:
        """Whether it lasts at this moment."""
        return now_ns < self._until_ns
