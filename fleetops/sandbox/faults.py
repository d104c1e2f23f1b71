"""Faults on demand: what they are, how they are written, and which request meets one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from fleetops.model import NS_PER_S
from fleetops.policy.units import format_duration, parse_duration_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

FAULTS: Final = {
    "throttle": "429 with Retry-After in seconds (throttle=2%:5s)",
    "throttle_date": "429 with Retry-After as an HTTP date",
    "throttle_bare": "429 without Retry-After",
    "error_500": "500 as HTML; nothing is started",
    "bad_gateway": "502 as HTML; nothing is started",
    "unavailable": "503 as HTML, with Retry-After where a time is given; nothing is started",
    "gateway_timeout": "504 as HTML; the operation is started",
    "slow": "a reply after a while (slow=5%:3s); the operation is started at once",
    "hang": "the request is read and never answered; nothing is started",
    "hang_after": "the operation is started and never answered",
    "close_before": "the connection is closed without a reply; nothing is started",
    "close_after": "the operation is started, and the connection closed without a reply",
    "reset": "the operation is started, and the connection reset in the middle of the reply",
    "bad_json": "200 with a body that is not JSON; the operation is started",
    "wrong_operation": "200 that names another operation; the operation is started",
    "truncated": "200 with less body than announced; the operation is started",
    "oversized": "200 with a body of megabytes; the operation is started",
    "drip": "200 a byte at a time (drip=1%:100ms a byte); the operation is started",
    "redirect": "302 to elsewhere",
    "not_found": "404",
    "refuse": "400",
    "forbid": "403",
    "revoke_token": "the token is refused from so many requests on (revoke_token=500)",
}
"""The kinds of fault, with what happens."""

STARTS: Final = frozenset(
    {"gateway_timeout", "slow", "hang_after", "close_after", "reset", "bad_json", "wrong_operation", "truncated"}
    | {"oversized", "drip"}
)
"""Faults that come after the operation was started."""

REVOKED: Final = "revoke_token"
_TAKES_TIME: Final = frozenset({"throttle", "throttle_date", "unavailable", "slow", "drip"})
_SHAPE: Final = re.compile(
    r"(?P<kind>\w+)(?:=(?P<share>\d*\.?\d+)(?P<percent>%?)|@(?P<serial>[^:\s]+))?"
    r"(?::(?P<times>\d{1,9})x)?(?::(?P<wait>\S+))?",
    re.ASCII,
)
_HASH_RANGE: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and which requests meet it. As text it is what `parse_fault` reads.

    Attributes:
        kind: A key of `FAULTS`.
        share: The share of requests that meet it, from 0 to 1.
        serial: The device whose requests all meet it, instead of a share.
        wait_s: How long it takes, for those that take time; None for the usual.
        after: The number of requests after which it sets in, for `revoke_token`.
        times: How many requests meet it before it is over; None for any number.

    Raises:
        ValueError: There is no such fault.
    """

    kind: str
    share: float = 0.0
    serial: str | None = None
    wait_s: float | None = None
    after: int | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            close = get_close_matches(self.kind, FAULTS, n=1)
            raise ValueError(
                f"there is no fault {self.kind[:60]!r}: " + (f"did you mean {close[0]}?" if close else "see --help")
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"{self.kind}: a share is from 0% to 100%")
        if self.wait_s is not None and self.kind not in _TAKES_TIME:
            raise ValueError(f"{self.kind} takes no time: leave {self.wait_s:g}s out")

    def __str__(self) -> str:
        if self.serial is not None:
            text = f"{self.kind}@{self.serial}"
        elif self.after is not None:
            text = f"{self.kind}={self.after}"
        else:
            text = f"{self.kind}={Decimal(repr(self.share)):f}"
        if self.times is not None:
            text += f":{self.times}x"
        return text if self.wait_s is None else f"{text}:{format_duration(round(self.wait_s * NS_PER_S))}"


def parse_fault(text: str) -> Fault:
    """Read a fault such as `throttle=2%:5s`, `hang=0.01`, `close_after@ZQ000000007` or `revoke_token=500`.

    `unavailable@ZQ000000007:2x` and `throttle=100%:3x:5s` are over once that many requests have met them.

    Raises:
        ValueError: It is not one; the message says what to write.
    """
    found = _SHAPE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:60]!r} is not a fault: write throttle=2%, slow=5%:3s or hang@SERIAL")
    kind, share = found["kind"], found["share"]
    wait_s = parse_duration_ns(found["wait"]) / NS_PER_S if found["wait"] else None
    times = int(found["times"]) if found["times"] else None
    if found["serial"]:
        return Fault(kind, serial=found["serial"], wait_s=wait_s, times=times)
    if kind in FAULTS and not share:
        raise ValueError(f"{kind} needs a share or a serial number: write {kind}=2% or {kind}@SERIAL")
    if kind != REVOKED:
        number = float(share or 0) / (100 if found["percent"] else 1)
        return Fault(kind, share=number, wait_s=wait_s, times=times)
    if found["percent"] or times is not None or not share.isdecimal():
        raise ValueError(f"{kind} needs a number of requests: write {kind}=500")
    return Fault(kind, after=int(share), wait_s=wait_s)


def draw(seed: int, serial: str, arrival: int) -> float:
    """A number in [0, 1) that is the same for the same arrival of a device's requests, whatever else arrives."""
    digest = blake2b(f"{seed}/{arrival}/{serial}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _HASH_RANGE


class FaultsInForce:
    """The faults that requests may meet, and how often each was met."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.listed = tuple(faults)
        self._met = [0] * len(self.listed)

    def choose(self, serial: str, number: float) -> Fault | None:
        """The fault that an acceptable request for an operation meets, if any; it counts as met.

        Args:
            serial: The request's device.
            number: As `draw` gives it; shares add up against it.
        """
        below = 0.0
        for index, fault in enumerate(self.listed):
            if fault.kind == REVOKED:
                continue
            least, below = below, below + fault.share
            hit = fault.serial == serial if fault.serial is not None else least <= number < below
            if hit and (fault.times is None or self._met[index] < fault.times):
                self._met[index] += 1
                return fault
        return None

    def revokes(self, serial: str, requests: int) -> bool:
        """Whether the token of a request is refused, which is the one of that number and for that device."""
        return any(
            fault.kind == REVOKED and (fault.serial == serial if fault.after is None else requests > fault.after)
            for fault in self.listed
        )
