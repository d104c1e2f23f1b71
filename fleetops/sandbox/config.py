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
        host: Where it listens; a loopback address.
        port: Where it listens; 0 for any free port.
        latency_s: How long a reply takes.
        duration_s: How long a device is down after an operation, by operation.
        jitter: By what share of its duration an operation may take longer.
        offline: The share of devices that are down from the start and stay so.
        busy: What becomes of an operation on a busy device.
        throttle_per_s: Requests a second beyond which it answers 429; None for no limit.
        faults: The faults in force.
        log: A file for a line of JSON for each request; None for none.
    """

    devices: int = 1000
    seed: int = 1
    token: str = field(default=TOKEN, repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    latency_s: float = 0.0
    duration_s: Mapping[Operation, float] = field(default_factory=lambda: DURATIONS_S)
    jitter: float = 0.0
    offline: float = 0.0
    busy: Busy = Busy.ACCEPT
    throttle_per_s: float | None = None
    faults: tuple[Fault, ...] = ()
    log: Path | None = None
