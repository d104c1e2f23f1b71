"""A worker's lease: until when it may be sure that nobody else has its chunks."""

from __future__ import annotations

from typing import Final

from fleetops.model import NS_PER_S

LEASE_NS: Final = 8 * NS_PER_S
"""How long a lease lasts; others may take the worker's chunks once that is over."""
RENEW_S: Final = 1.5
"""How often it is renewed."""
_MARGIN_NS: Final = NS_PER_S
"""How much earlier the worker itself takes it for over: clocks run unevenly, and a send takes its time."""


class Lease:
    """What a worker knows of its lease, by the time since its host's boot; it is over before others may think so."""

    def __init__(self) -> None:
        self._until_ns = 0

    def renewed(self, asked_ns: int) -> None:
        """It was renewed by a request that was made at this moment, so it began no earlier."""
        self._until_ns = asked_ns + LEASE_NS - _MARGIN_NS

    def lasts(self, now_ns: int) -> bool:
        """Whether it lasts at this moment."""
        return now_ns < self._until_ns

    def give_up(self) -> None:
        """It is over."""
        self._until_ns = 0
