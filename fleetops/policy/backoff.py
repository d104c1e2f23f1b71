"""How long a step waits before it is tried again, and when it is given up.

The strategies are tenacity's, asked for a number after a failure; nothing here sleeps. Their random
jitter is replaced by a hash of (run, step, attempt), so that a plan and a run decide alike.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from tenacity.stop import stop_after_attempt, stop_before_delay
from tenacity.wait import wait_exponential, wait_fixed, wait_incrementing

from fleetops.model import NS_PER_S
from fleetops.policy.settings import Backoff

if TYPE_CHECKING:
    from tenacity import RetryCallState
    from tenacity.stop import stop_base
    from tenacity.wait import wait_base

    from fleetops.policy.settings import Retries

_HASH_RANGE: Final = 1 << 64


class _Attempts(NamedTuple):
    """The part of tenacity's call state that its strategies look at."""

    attempt_number: int
    seconds_since_start: float
    upcoming_sleep: float


def _wait(retries: Retries) -> wait_base:
    initial_s, cap_s = retries.initial_ns / NS_PER_S, retries.cap_ns / NS_PER_S
    match retries.backoff:
        case Backoff.EXPONENTIAL:
            return wait_exponential(multiplier=initial_s, max=cap_s)
        case Backoff.LINEAR:
            return wait_incrementing(start=initial_s, increment=initial_s, max=cap_s)
        case _:
            return wait_fixed(min(initial_s, cap_s))


def jitter_share(run_key: bytes, step: int, attempt: int) -> float:
    """A number in [0, 1) that is the same whenever (run, step, attempt) is."""
    digest = blake2b(b"%d/%d" % (step, attempt), digest_size=8, key=run_key[:64]).digest()
    return int.from_bytes(digest, "big") / _HASH_RANGE


class RetryRule:
    """The delay before a step's next attempt, by the retry settings of a policy."""

    def __init__(self, retries: Retries, run_key: bytes) -> None:
        self._wait = _wait(retries)
        self._stop: stop_base = stop_after_attempt(retries.attempts) | stop_before_delay(retries.total_ns / NS_PER_S)
        self._jitter = retries.jitter
        self._total_ns = retries.total_ns
        self._run_key = run_key

    def delay_ns(self, step: int, failures: int, since_first_ns: int) -> int | None:
        """How long to wait before the next attempt, in nanoseconds, or None to give up.

        Args:
            step: The step, for its jitter.
            failures: Attempts so far that count as failures; throttled ones do not.
            since_first_ns: Time since the first attempt of the step was sent.
        """
        state = _Attempts(failures, since_first_ns / NS_PER_S, 0.0)
        delay_s = self._wait(cast("RetryCallState", state))
        delay_s *= 1 + self._jitter * jitter_share(self._run_key, step, failures)
        state = _Attempts(failures, since_first_ns / NS_PER_S, delay_s)
        return None if self._stop(cast("RetryCallState", state)) else round(delay_s * NS_PER_S)

    def may_wait(self, since_first_ns: int, delay_ns: int) -> bool:
        """Whether an attempt `delay_ns` from now still lies within the time a step may take in all."""
        return since_first_ns + delay_ns < self._total_ns
