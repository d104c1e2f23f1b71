"""Whether the service is down, as the chunks of a worker and the workers of a run see it together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.policy.breaker import CircuitBreaker

if TYPE_CHECKING:
    from fleetops.policy.settings import Breaker


class SharedBreaker(CircuitBreaker):
    """The breaker of all the chunks of a run that a worker has; steps are counted whichever chunk they are of.

    Attributes:
        chunks: The views of it that the chunks' schedulers have.
        news: Whether it opened or closed by what was seen here, and the other workers are still to be told.
    """

    def __init__(self, settings: Breaker, *, has_answered: bool = False) -> None:
        super().__init__(settings, has_answered=has_answered)
        self.chunks: list[ChunkBreaker] = []
        self.news = False
        self._outages_ns = 0

    @property
    def since_ns(self) -> int | None:
        """When the outage began; None where there is none."""
        return self._failing_since_ns if self._is_open else None

    @property
    def outages_ns(self) -> int:
        """How long all outages were that are over."""
        return self._outages_ns

    def answered(self, now_ns: int) -> int:
        """The service has answered; see `CircuitBreaker.answered`."""
        was_open = self._is_open
        outage_ns = super().answered(now_ns)
        if was_open:
            self._outages_ns += outage_ns
            self.news = True
            self._pass_on()
        return outage_ns

    def failed(self, step: int, now_ns: int) -> list[int] | None:
        """An attempt was lost; see `CircuitBreaker.failed`."""
        before = self._is_open, self.until_ns
        theirs = super().failed(step, now_ns)
        if (self._is_open, self.until_ns) != before:
            self.news = True
            self._pass_on()
        return theirs

    def adopt(self, since_ns: int | None, until_ns: int | None, now_ns: int) -> bool:
        """What the workers know of together; whether that is news here."""
        if self.news:
            # They are still to be told what is known here.
            return False
        if since_ns is None or until_ns is None:
            if not self._is_open:
                return False
            super().answered(now_ns)
            self._outages_ns += max(0, now_ns - self._failing_since_ns)
            self._pass_on()
            return True
        opened = not self._is_open
        self._is_open = self._has_answered = True
        self._failing_since_ns = since_ns
        if opened:
            self._hold_ns = self._settings.hold_ns
        # The next request that may be tried is anybody's: who may is for the gate to say.
        self.until_ns = min(until_ns, now_ns) if not opened else until_ns
        self._pass_on()
        return opened

    def _pass_on(self) -> None:
        for chunk in self.chunks:
            chunk.until_ns = self.until_ns if self._is_open else 0


class ChunkBreaker(CircuitBreaker):
    """A chunk's view of the breaker.

    Args:
        shared: The breaker.
        settings: Its settings.
    """

    def __init__(self, shared: SharedBreaker, settings: Breaker) -> None:
        super().__init__(settings)
        self._shared = shared
        self._known_outages_ns = shared.outages_ns
        self.until_ns = shared.until_ns if shared.is_open else 0
        shared.chunks.append(self)

    @property
    def is_open(self) -> bool:
        """Whether requests go one at a time, from `until_ns` on."""
        return self._shared.is_open

    def outage_ns(self, now_ns: int) -> int:
        """How long the service has been failing; 0 while closed."""
        return self._shared.outage_ns(now_ns)

    def gives_up(self, now_ns: int) -> bool:
        """Whether the outage has lasted longer than the policy waits."""
        return self._shared.gives_up(now_ns)

    def answered(self, now_ns: int) -> int:
        """The service has answered; how long the outages were that this chunk has not heard of yet."""
        self._shared.answered(now_ns)
        new_ns = self._shared.outages_ns - self._known_outages_ns
        self._known_outages_ns = self._shared.outages_ns
        return new_ns

    def failed(self, step: int, now_ns: int) -> list[int] | None:
        """An attempt of `step` was lost; see `CircuitBreaker.failed`. Failures of other chunks' steps stay theirs."""
        theirs = self._shared.failed(step, now_ns)
        return None if theirs is None else []

    def leave(self) -> None:
        """The chunk is over."""
        self._shared.chunks.remove(self)
