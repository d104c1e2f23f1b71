"""What a sandbox is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetops.model import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleetops.sandbox.faults import Fault

TOKEN: Final = "sandbox-token"  # noqa: S105 - it opens nothing but a sandbox
PREFIX: Final = "/api/v1"
DURATIONS_S: Final = MappingProxyType(
    {
        Operation.REBOOT: 1.0,
        Operation.FACTORY: 1.5,
        Operation.DEVICE_FACTORY: 1.5,
        Operation.SYNC: 0.5,
        Operation.RECONF: 0.5,
    }
)
SERIAL_DIGITS: Final = 9


class Busy(StrEnum):
    """What becomes of an operation on a device on which one runs."""

    ACCEPT = "accept"
    QUEUE = "queue"
    CONFLICT = "conflict"
    UNPROCESSABLE = "unprocessable"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """How a sandbox behaves.

    Attributes:
        devices: How many there are: `ZQ000000001` and so on.
        seed: What decides chance.
        token: The token that is accepted.
        host: Where it listens. What is under `/sandbox/` answers clients on this host only, wherever it listens.
        port: Where it listens; 0 for any free port.
        latency_s: How long a reply takes: always the same, or between two bounds.
        duration_s: How long a device is down after an operation, by operation; `DURATIONS_S` for those left out.
        jitter: By what share of its duration an operation may take longer.
        offline: The share of devices that are down from the start and stay so.
        pending: The share of devices that have settings waiting until their first `sync` or `reconf`.
        busy: What becomes of an operation on a busy device.
        throttle_per_s: Requests a second beyond which it answers 429; None for no limit.
        faults: The faults in force.
        log: A file for a line of JSON for each request, added to where it exists; None for none. It is the only
            thing that outlives a sandbox: devices, operation ids and faults start anew.

    Raises:
        ValueError: There cannot be a sandbox like that.
    """

    devices: int = 1000
    seed: int = 1
    token: str = field(default=TOKEN, repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    latency_s: float | tuple[float, float] = 0.0
    duration_s: Mapping[Operation, float] = field(default_factory=lambda: DURATIONS_S)
    jitter: float = 0.0
    offline: float = 0.0
    pending: float = 0.1
    busy: Busy = Busy.ACCEPT
    throttle_per_s: float | None = None
    faults: tuple[Fault, ...] = ()
    log: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.devices < 10**SERIAL_DIGITS:
            raise ValueError(f"{self.devices:,} devices: their serial numbers have {SERIAL_DIGITS} digits")
        for name in ("offline", "pending"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name):g}")
        least_s, most_s = self.latency_bounds_s
        if not 0 <= least_s <= most_s:
            raise ValueError(f"a latency from {least_s:g} s to {most_s:g} s cannot be")

    @property
    def latency_bounds_s(self) -> tuple[float, float]:
        """The shortest and the longest time that a reply takes."""
        return self.latency_s if isinstance(self.latency_s, tuple) else (self.latency_s, self.latency_s)
