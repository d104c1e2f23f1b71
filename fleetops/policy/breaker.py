"""The circuit breaker: whether the service is down, and when to try it again.

Closed, it counts failures in a row. Open, it holds, then lets one request at a time through, each hold twice as
long as the one before; the first answer closes it. A service that has never answered is not "down" but perhaps
not there at all: until its first answer, failures count as the failures of their steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetops.policy.settings import Breaker


class CircuitBreaker:
    """The state of the service as far as its answers tell.

    Attributes:
        until_ns: While open: no request before this moment; 0 while closed.
    """

    def __init__(self, settings: Breaker, *, has_answered: bool = False) -> None:
        """Start closed; `has_answered` where the service has answered an earlier process of the run."""
        self._settings = settings
        self._has_answered = has_answered
        self._streak: list[int] = []
        self._failing_since_ns = 0
        self._hold_ns = settings.hold_ns
        self._is_open = False
        self.until_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether requests go one at a time, from `until_ns` on."""
        return self._is_open

    def outage_ns(self, now_ns: int) -> int:
        """How long the service has been failing; 0 while closed."""
        return now_ns - self._failing_since_ns if self._is_open else 0

    def gives_up(self, now_ns: int) -> bool:
        """Whether the outage has lasted longer than the policy waits."""
        return self.outage_ns(now_ns) >= self._settings.give_up_ns if self._is_open else False

    def answered(self, now_ns: int) -> int:
        """The service has answered; how long the outage was that this ends, in nanoseconds, 0 where there was none."""
        outage_ns = now_ns - self._failing_since_ns if self._is_open else 0
        self._has_answered = True
        if self._is_open:
            self._is_open = False
            # An answer to a request from before it opened may come while it holds.
            self.until_ns = 0
        if self._streak:
            self._streak.clear()
        return outage_ns

    def failed(self, step: int, now_ns: int) -> list[int] | None:
        """An attempt of `step` was lost, did not get through, or was answered with what is not understood.

        Returns:
            None where the failure is the step's own. Otherwise it is the service's, as were those of the steps
            returned, which had been taken for their own: they are given back to them.
        """
        if not self._has_answered or not self._settings.failures:
            return None
        if self._is_open:
            # Answers to requests from before it opened come in while it holds; they say nothing new.
            if now_ns >= self.until_ns:
                self._hold_ns = min(2 * self._hold_ns, self._settings.longest_hold_ns)
                self.until_ns = now_ns + self._hold_ns
            return []
        if not self._streak:
            self._failing_since_ns = now_ns
        self._streak.append(step)
        if len(self._streak) < self._settings.failures:
            return None
        *earlier, _ = self._streak
        self._streak.clear()
        self._is_open = True
        self._hold_ns = min(self._settings.hold_ns, self._settings.longest_hold_ns)
        self.until_ns = now_ns + self._hold_ns
        return earlier
