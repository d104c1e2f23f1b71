"""Faults on demand: what they are, how they are written, and which request meets one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from fleetops.policy.units import parse_duration_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

FAULTS: Final = {
    "throttle": "429 with Retry-After in seconds (throttle=2%:5s)",
    "throttle_date": "429 with Retry-After as an HTTP date",
    "throttle_bare": "429 without Retry-After",
    "error_500": "500 as HTML; nothing is started",
    "bad_gateway": "502 as HTML; nothing is started",
    "unavailable": "503 as HTML; nothing is started",
    "gateway_timeout": "504 as HTML; the operation is started",
    "slow": "a reply after a while (slow=5%:3s)",
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
    "revoke_token": "the token is refused from so many requests on (revoke_token=500)",
}
"""The kinds of fault, with what happens."""

_SHAPE: Final = re.compile(
    r"(?P<kind>\w+)(?:=(?P<share>[\d.]+)(?P<percent>%?)|@(?P<serial>[^:\s]+))?(?::(?P<wait>\S+))?"
)
_COUNTED: Final = "revoke_token"
_HASH_RANGE: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and which requests meet it.

    Attributes:
        kind: A key of `FAULTS`.
        share: The share of requests that meet it, from 0 to 1.
        serial: The device whose requests all meet it, instead of a share.
        wait_s: How long it takes, for those that take time; None for the usual.
        after: The number of requests after which it sets in, for `revoke_token`.
    """

    kind: str
    share: float = 0.0
    serial: str | None = None
    wait_s: float | None = None
    after: int | None = None


def parse_fault(text: str) -> Fault:
    """Read a fault such as `throttle=2%:5s`, `hang=0.01`, `close_after@ZQ000000007` or `revoke_token=500`.

    Raises:
        ValueError: It is not one; the message says what to write.
    """
    found = _SHAPE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:60]!r} is not a fault: write throttle=2%, slow=5%:3s or hang@SERIAL")
    kind = found["kind"]
    if kind not in FAULTS:
        close = get_close_matches(kind, FAULTS, n=1)
        raise ValueError(f"there is no fault {kind!r}: " + (f"did you mean {close[0]}?" if close else "see --help"))
    wait_s = parse_duration_ns(found["wait"]) / 1e9 if found["wait"] else None
    if found["serial"]:
        return Fault(kind, serial=found["serial"], wait_s=wait_s)
    if not found["share"]:
        raise ValueError(f"{kind} needs a share or a serial number: write {kind}=2% or {kind}@SERIAL")
    if kind == _COUNTED:
        if found["percent"] or not found["share"].isdecimal():
            raise ValueError(f"{kind} needs a number of requests: write {kind}=500")
        return Fault(kind, after=int(found["share"]))
    share = float(found["share"]) / (100 if found["percent"] else 1)
    if not 0 <= share <= 1:
        raise ValueError(f"{text[:60]!r}: a share is from 0% to 100%")
    return Fault(kind, share=share, wait_s=wait_s)


def draw(seed: int, serial: str, arrival: int) -> float:
    """A number in [0, 1) that is the same for the same arrival of a device's requests, whatever else arrives."""
    digest = blake2b(f"{seed}/{arrival}/{serial}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _HASH_RANGE


def choose(faults: Iterable[Fault], serial: str, number: float, requests: int) -> Fault | None:
    """The fault that a request meets, if any.

    Args:
        faults: The faults in force; shares add up.
        serial: The request's device.
        number: As `draw` gives it.
        requests: How many requests there were, this one included.
    """
    below = 0.0
    for fault in faults:
        if fault.after is not None:
            if requests > fault.after:
                return fault
        elif fault.serial is not None:
            if fault.serial == serial:
                return fault
        else:
            below += fault.share
            if number < below:
                return fault
    return None
