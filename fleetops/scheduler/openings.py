"""Whether a step may start in a maintenance window: only where it can also finish in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetops.policy.settings import AtEnd
from fleetops.policy.window import Calendar, Interval

if TYPE_CHECKING:
    from fleetops.policy import Policy

_LOOK_AHEAD: Final = 60
"""Openings that are searched for one that is long enough."""


class Openings:
    """The openings of a run's windows, one after another.

    A step needs its connect and read timeouts and its settle time: a device that was told to restart a minute before
    the window closes is not back when it does.
    """

    def __init__(self, policy: Policy) -> None:
        self._calendar = Calendar(policy.window, policy.blackout)
        self._timeout_ns = policy.timeouts.connect_ns + policy.timeouts.read_ns
        self._waits = policy.at_end is AtEnd.WAIT
        self._now: Interval | None = None

    def is_open(self, now_ns: int) -> bool:
        """Whether the opening that was entered last still lasts."""
        opening = self._now
        return opening is not None and opening.start_ns <= now_ns < opening.end_ns

    def enter(self, now_ns: int) -> bool:
        """Enter the opening that `now_ns` is in; whether there is one."""
        opening = self._calendar.opening(now_ns)
        if opening is not None:
            self._now = opening
        return opening is not None

    def fits(self, now_ns: int, settle_ns: int) -> bool:
        """Whether a step that starts now and settles for so long is done before the window closes."""
        return self._now is not None and now_ns + self._timeout_ns + settle_ns <= self._now.end_ns

    def next_start_ns(self, now_ns: int, settle_ns: int) -> int | None:
        """When the next opening begins, None where the run is not to wait for it or nothing would fit into any.

        Args:
            now_ns: The time now.
            settle_ns: The shortest settle time of the steps that wait for it.
        """
        if self._now is not None and not self._waits:
            return None
        after_ns = now_ns if self._now is None else max(now_ns, self._now.end_ns)
        for _ in range(_LOOK_AHEAD):
            opening = self._calendar.next_opening(after_ns)
            if opening is None:
                return None
            if opening.end_ns - opening.start_ns >= self._timeout_ns + settle_ns:
                return opening.start_ns
            after_ns = opening.end_ns
        return None
