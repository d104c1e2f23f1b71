"""What a plan reckons with: how fast the service answers, how often it fails, and how much it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from fleetops.errors import UsageError
from fleetops.model import NS_PER_S, Reason, Reply, ReplyKind
from fleetops.policy import parse_duration_ns, parse_rate
from fleetops.policy.budget import PPM, parse_percent_ppm
from fleetops.policy.pacing import SlidingSecond
from fleetops.simulation import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

_ACCEPTED: Final = Reply(ReplyKind.ACCEPTED, http_status=200)
_UNAVAILABLE: Final = Reply(ReplyKind.MAYBE, Reason.UNAVAILABLE, http_status=503)
_EXAMPLE: Final = "write latency=200ms, failing=2%, limit=20/s, retry_after=5s, host=6ms, or some of these"
_HASH_BITS: Final = 32

Seconds = Annotated[float, Field(ge=0, le=1e9)]


class Part(BaseModel):
    """A part of a plan: it does not change, and knows all of its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Assumptions(Part):
    """How the service is expected to behave.

    Attributes:
        latency_s: Times to an answer, each as likely as the others, in seconds.
        failing: Share of attempts that are answered with a 503.
        limit_per_s: What the service takes in a second before it answers 429; None where nothing is known of a limit.
        retry_after_s: What a 429 asks to wait, in seconds.
        host_s: What this host adds to each request, in seconds: its intent is made durable, its reply taken up.
        run_id: The run that this was measured in; None where it was not measured.
        samples: Answers that it was measured from.
    """

    latency_s: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=1000)] = (0.3,)
    failing: float = Field(0.0, ge=0, le=1)
    limit_per_s: float | None = Field(None, gt=0, le=1e6)
    retry_after_s: Seconds = 1.0
    host_s: Seconds = 0.006
    run_id: str | None = Field(None, max_length=64)
    samples: int = Field(0, ge=0)

    @property
    def mean_latency_s(self) -> float:
        """The mean time to an answer, in seconds."""
        return sum(self.latency_s) / len(self.latency_s)

    @property
    def mean_busy_s(self) -> float:
        """How long a request is under way on average, with what the host adds, in seconds."""
        return self.mean_latency_s + self.host_s

    @property
    def is_certain(self) -> bool:
        """Whether chance has no part in it."""
        return not self.failing and len(set(self.latency_s)) == 1

    def fast(self) -> Assumptions:
        """The good case: answers in half the time, nothing fails, nothing is throttled."""
        latency_s = tuple(latency_s / 2 for latency_s in self.latency_s)
        return self.model_copy(update={"latency_s": latency_s, "failing": 0.0, "limit_per_s": None})

    def slow(self) -> Assumptions:
        """The bad case: answers in twice the time, twice the failures, four fifths of the limit."""
        return self.model_copy(
            update={
                "latency_s": tuple(2 * latency_s for latency_s in self.latency_s),
                "failing": min(1.0, 2 * self.failing),
                "limit_per_s": None if self.limit_per_s is None else 0.8 * self.limit_per_s,
            }
        )

    def __str__(self) -> str:
        latency = f"{self.mean_latency_s * 1000:.0f} ms to an answer"
        if len(self.latency_s) > 1:
            latency += f" ({self.latency_s[0] * 1000:.0f} to {self.latency_s[-1] * 1000:.0f} ms)"
        parts = [latency, f"{self.failing:.2%} of the attempts fail" if self.failing else "nothing fails"]
        if self.limit_per_s is not None:
            parts.append(f"429 above {self.limit_per_s:g}/s, to wait {self.retry_after_s:g} s")
        origin = f"measured in run {self.run_id}, {self.samples} answers" if self.run_id else "assumed, not measured"
        return f"{', '.join(parts)} ({origin})"


def parse_assumptions(text: str, base: Assumptions) -> Assumptions:
    """Read assumptions such as `latency=200ms, failing=2%, limit=20/s`; what is left out is as in `base`.

    Raises:
        UsageError: They cannot be read; the hint says what to write.
    """
    values: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        field = _FIELDS.get(name)
        if not equals or field is None or field[0] in values:
            raise UsageError(f"{part.strip()[:40]!r} is not an assumption", hint=_EXAMPLE)
        try:
            values[field[0]] = field[1](value)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", hint=_EXAMPLE) from None
    return Assumptions.model_validate({**base.model_dump(), "run_id": None, "samples": 0, **values})


def _seconds(text: str) -> float:
    return parse_duration_ns(text) / NS_PER_S


_FIELDS: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "latency": ("latency_s", lambda text: (_seconds(text),)),
    "failing": ("failing", lambda text: parse_percent_ppm(text) / PPM),
    "limit": ("limit_per_s", lambda text: parse_rate(text).per_s),
    "retry_after": ("retry_after_s", _seconds),
    "host": ("host_s", _seconds),
}


class AssumedWorld:
    """A service that behaves as assumed.

    What becomes of an attempt depends on its step and its number alone, so that two passes that differ in one setting
    are dealt the same hand.

    Args:
        assumptions: What is assumed.
        hand: Another number deals another hand.
    """

    def __init__(self, assumptions: Assumptions, hand: int = 0) -> None:
        self._hand = _mixed(hand)
        self._latency_ns = [round((latency_s + assumptions.host_s) * NS_PER_S) for latency_s in assumptions.latency_s]
        self._is_certain = assumptions.is_certain and assumptions.limit_per_s is None
        self._failing_below = round(assumptions.failing * (1 << _HASH_BITS))
        # Refused requests do not count against the limit, those that were taken within a second do.
        self._taken = None if assumptions.limit_per_s is None else SlidingSecond(assumptions.limit_per_s)
        self._throttled = Reply(
            ReplyKind.THROTTLED, Reason.THROTTLED, http_status=429, retry_after_s=assumptions.retry_after_s
        )

    def attempt(self, step: int, attempt: int, sent_ns: int) -> tuple[int, Reply]:
        """What becomes of an attempt; see `World.attempt`."""
        if self._is_certain:
            return sent_ns + self._latency_ns[0], _ACCEPTED
        draw = _mixed(step << 8 ^ attempt ^ self._hand)
        answered_ns = sent_ns + self._latency_ns[draw % len(self._latency_ns)]
        if self._taken is not None:
            if self._taken.free_at_ns() > sent_ns:
                return answered_ns, self._throttled
            self._taken.sent(sent_ns)
        if self._failing_below and _mixed(draw) < self._failing_below:
            return answered_ns, _UNAVAILABLE
        return answered_ns, _ACCEPTED

    def look(self, device: int, now_ns: int) -> tuple[int, Seen]:  # noqa: ARG002 - the seam's shape
        """Every device is back once it has settled; see `World.look`."""
        return now_ns + self._latency_ns[len(self._latency_ns) // 2], Seen(up=True, changed_ns=now_ns)


def _mixed(number: int) -> int:
    """Thirty-two bits that look like chance (the finaliser of MurmurHash3)."""
    number = (number ^ number >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    number = (number ^ number >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return number ^ number >> 16
