"""The service that a simulated run talks to: what becomes of each request, and when.

What happens to an attempt depends on the seed, the step and the attempt alone, never on the order in which
requests arrive, so that a change to the scheduler does not deal every step a new hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from fleetops.model import Reason, Reply, ReplyKind

if TYPE_CHECKING:
    from fleetops.model import Steps
    from fleetops.policy import Policy

_HASH_RANGE: Final = 1 << 32
_ACCEPTED: Final = Reply(ReplyKind.ACCEPTED, http_status=200)


class Seen(NamedTuple):
    """What the inventory says of a device.

    Attributes:
        up: Whether it is up.
        changed_ns: When it last went up or down; None where that is not known.
    """

    up: bool
    changed_ns: int | None


class World(Protocol):
    """Where simulated requests go."""

    def attempt(self, step: int, attempt: int, sent_ns: int) -> tuple[int, Reply]:
        """When the sender learns what came of an attempt that leaves at `sent_ns`, and what it learns."""

    def look(self, device: int, now_ns: int) -> tuple[int, Seen]:
        """When the inventory answers a look at a device at `now_ns`, and what it says."""


class SteadyWorld:
    """A service that accepts everything after the same time: what a plan reckons with."""

    def __init__(self, latency_ns: int) -> None:
        self._latency_ns = latency_ns

    def attempt(self, step: int, attempt: int, sent_ns: int) -> tuple[int, Reply]:  # noqa: ARG002 - the seam's shape
        """Accept it after the latency; see `World.attempt`."""
        return sent_ns + self._latency_ns, _ACCEPTED

    def look(self, device: int, now_ns: int) -> tuple[int, Seen]:  # noqa: ARG002 - the seam's shape
        """Every device is back once it has settled; see `World.look`."""
        return now_ns + self._latency_ns, Seen(up=True, changed_ns=now_ns)


@dataclass(frozen=True, slots=True)
class Faults:
    """How a hostile service behaves. Shares are of attempts, or of devices where it says so, from 0 to 1.

    Attributes:
        latency_ns: The median time to a reply; the rest spreads around it with a long tail.
        unreachable: No connection comes about.
        lost: The request arrives, the reply does not: the connection breaks.
        server_error: 500, 502, 503 or 504; half of them have started the operation.
        throttled: 429.
        bad_reply: 200 with a body that cannot be understood.
        rejected: 422.
        no_such_device: Share of devices that get 404 each time.
        retry_after_s: What a 429 or 503 asks for; None where it does not say.
        token_refused_ns: From when on the token is refused; None for never.
        misdirected_ns: From when on every request is redirected; None for never.
        outages_ns: From and until when nothing can be reached.
        throttling_ns: From and until when every request gets 429.
        away_ns: How long most devices are down after an operation.
        stays_down: Share of operations from which a device does not come back by itself.
    """

    latency_ns: int = 200_000_000
    unreachable: float = 0.0
    lost: float = 0.0
    server_error: float = 0.0
    throttled: float = 0.0
    bad_reply: float = 0.0
    rejected: float = 0.0
    no_such_device: float = 0.0
    retry_after_s: float | None = None
    token_refused_ns: int | None = None
    misdirected_ns: int | None = None
    outages_ns: tuple[tuple[int, int], ...] = ()
    throttling_ns: tuple[tuple[int, int], ...] = ()
    away_ns: int = 30_000_000_000
    stays_down: float = 0.0


class Arrival(NamedTuple):
    """A request that reached the service.

    Attributes:
        at_ns: When it left its sender; it arrives within the connect timeout.
        step: Its step.
        attempt: Its attempt.
        ran: Whether the operation was started on the device.
    """

    at_ns: int
    step: int
    attempt: int
    ran: bool


_SERVER_ERRORS: Final = (
    Reply(ReplyKind.MAYBE, Reason.SERVER_ERROR, http_status=500),
    Reply(ReplyKind.MAYBE, Reason.BAD_GATEWAY, http_status=502),
    Reply(ReplyKind.MAYBE, Reason.UNAVAILABLE, http_status=503),
    Reply(ReplyKind.MAYBE, Reason.GATEWAY_TIMEOUT, http_status=504),
)
_UNREACHABLE: Final = Reply(ReplyKind.NOT_REACHED, Reason.UNREACHABLE)
_LOST: Final = Reply(ReplyKind.MAYBE, Reason.CONNECTION_LOST)
_TIMED_OUT: Final = Reply(ReplyKind.MAYBE, Reason.READ_TIMEOUT)
_BAD: Final = Reply(ReplyKind.BAD_REPLY, Reason.BAD_REPLY, http_status=200)
_REJECTED: Final = Reply(ReplyKind.REFUSED, Reason.INVALID, http_status=422, detail="not in this state")
_NOT_FOUND: Final = Reply(ReplyKind.REFUSED, Reason.NOT_FOUND, http_status=404)
_REVOKED: Final = Reply(ReplyKind.TOKEN_REFUSED, Reason.TOKEN_REFUSED, http_status=401)
_MOVED: Final = Reply(ReplyKind.MISDIRECTED, Reason.MISDIRECTED, http_status=301)


class HostileWorld:
    """A service with faults.

    Attributes:
        faults: How it behaves; may be exchanged while it runs, as when the token is renewed.
        arrivals: Every request that reached it, in order.
    """

    def __init__(self, seed: int, steps: Steps, policy: Policy, faults: Faults) -> None:
        self._seed = b"%d" % seed
        self._steps = steps
        self._timeouts = policy.timeouts
        self.faults = faults
        self.arrivals: list[Arrival] = []
        self._down_ns: dict[int, tuple[int, int | None]] = {}

    def attempt(self, step: int, attempt: int, sent_ns: int) -> tuple[int, Reply]:
        """Decide its fate; see `World.attempt`."""
        choice, speed, coin = self._draws(b"%d/%d" % (step, attempt))
        faults, timeouts = self.faults, self._timeouts
        if choice < faults.unreachable or _during(faults.outages_ns, sent_ns):
            return sent_ns + 1 + int(speed * timeouts.connect_ns), _UNREACHABLE
        reply, ran = self._reply(step, choice - faults.unreachable, coin, sent_ns)
        latency_ns = 1 + int(-faults.latency_ns * log(1 - speed) / log(2))
        self.arrivals.append(Arrival(sent_ns, step, attempt, ran))
        if ran:
            back_ns = sent_ns + 1 + int(coin * 2 * faults.away_ns)
            self._down_ns[self._steps.device_of[step]] = (sent_ns, None if coin < faults.stays_down else back_ns)
        if latency_ns >= timeouts.read_ns:
            return sent_ns + timeouts.read_ns, _TIMED_OUT
        return sent_ns + latency_ns, reply

    def look(self, device: int, now_ns: int) -> tuple[int, Seen]:
        """A device is down for a while after an operation; see `World.look`."""
        down_ns, back_ns = self._down_ns.get(device, (None, None))
        answered_ns = now_ns + self.faults.latency_ns
        if back_ns is not None and back_ns <= now_ns:
            return answered_ns, Seen(up=True, changed_ns=back_ns)
        return answered_ns, Seen(up=down_ns is None, changed_ns=down_ns)

    def _reply(self, step: int, choice: float, coin: float, sent_ns: int) -> tuple[Reply, bool]:
        """What the service answers, and whether the operation starts."""
        faults = self.faults
        if faults.misdirected_ns is not None and sent_ns >= faults.misdirected_ns:
            return _MOVED, False
        if faults.token_refused_ns is not None and sent_ns >= faults.token_refused_ns:
            return _REVOKED, False
        if _during(faults.throttling_ns, sent_ns):
            return self._throttled(), False
        if self._draws(b"device %d" % self._steps.device_of[step])[0] < faults.no_such_device:
            return _NOT_FOUND, False
        for share, reply, ran in (
            (faults.throttled, self._throttled(), False),
            (faults.lost, _LOST, coin < 0.75),  # noqa: PLR2004 - most requests whose reply is lost had arrived
            (faults.server_error, self._server_error(coin), coin < 0.5),  # noqa: PLR2004 - half of them
            (faults.bad_reply, _BAD, True),
            (faults.rejected, _REJECTED, False),
        ):
            if choice < share:
                return reply, ran
            choice -= share
        return _ACCEPTED, True

    def _throttled(self) -> Reply:
        return Reply(ReplyKind.THROTTLED, Reason.THROTTLED, http_status=429, retry_after_s=self.faults.retry_after_s)

    def _server_error(self, coin: float) -> Reply:
        reply = _SERVER_ERRORS[int(coin * 8) % 4]
        return reply._replace(retry_after_s=self.faults.retry_after_s) if reply.reason is Reason.UNAVAILABLE else reply

    def _draws(self, about: bytes) -> tuple[float, float, float]:
        """Three numbers in [0, 1) that are the same whenever the question is."""
        digest = blake2b(about, digest_size=12, key=self._seed).digest()
        parts = (digest[:4], digest[4:8], digest[8:])
        first, second, third = (int.from_bytes(part, "big") / _HASH_RANGE for part in parts)
        return first, second, third


def _during(spans_ns: tuple[tuple[int, int], ...], now_ns: int) -> bool:
    return any(from_ns <= now_ns < until_ns for from_ns, until_ns in spans_ns)
