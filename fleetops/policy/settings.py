"""The policy: how a campaign is run. One schema for files, embedded policies and command line options."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import ConfigDict, Field, model_validator

from fleetops.model import DESTRUCTIVE, NS_PER_S, OPERATIONS, SERIAL_PATTERN, Operation
from fleetops.policy.fields import (
    Budgets,
    Duration,
    GroupCap,
    Pattern,
    Patterns,
    RateSetting,
    Settings,
    WaveGate,
    WaveSizes,
    Windows,
)
from fleetops.policy.units import Rate
from fleetops.policy.waves import Gate

if TYPE_CHECKING:
    from collections.abc import Mapping


class OnFailure(StrEnum):
    """What a device's sequence does after a step that was neither accepted nor confirmed."""

    SKIP_REST = "skip_rest"
    CONTINUE = "continue"


class Timeouts(Settings):
    """How long to wait for the control plane."""

    connect_ns: Duration = Field(
        10 * NS_PER_S, alias="connect", gt=0, description="To resolve, connect and agree on TLS."
    )
    read_ns: Duration = Field(
        30 * NS_PER_S, alias="read", gt=0, description="From sending the request to having the whole reply."
    )


def _settle(seconds: int, operation: Operation) -> Any:
    return Field(
        seconds * NS_PER_S,
        alias=operation.value,
        description=f"How long a device is left alone after {operation}.",
    )


class Settle(Settings):
    """How long a device is left alone after an operation before its next one."""

    reboot_ns: Duration = _settle(180, Operation.REBOOT)
    factory_ns: Duration = _settle(300, Operation.FACTORY)
    device_factory_ns: Duration = _settle(300, Operation.DEVICE_FACTORY)
    sync_ns: Duration = _settle(60, Operation.SYNC)
    reconf_ns: Duration = _settle(60, Operation.RECONF)

    def after_ns(self, operation: Operation) -> int:
        """The settle time after `operation`, in nanoseconds."""
        settle_ns: int = getattr(self, f"{operation.value}_ns")
        return settle_ns


class Backoff(StrEnum):
    """How the delay grows from one retry of a step to the next."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIXED = "fixed"


class Retries(Settings):
    """What happens after an attempt that may be repeated."""

    attempts: int = Field(5, ge=1, le=1000, description="Sends of one step at most; 1 means no retry.")
    backoff: Backoff = Field(Backoff.EXPONENTIAL, description="How the delay grows.")
    initial_ns: Duration = Field(1 * NS_PER_S, alias="initial", gt=0, description="The first delay.")
    cap_ns: Duration = Field(60 * NS_PER_S, alias="cap", gt=0, description="The longest delay.")
    jitter: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of the delay by which it may be longer, so that retries spread out.",
    )
    total_ns: Duration = Field(
        900 * NS_PER_S,
        alias="total",
        gt=0,
        description="No attempt of a step starts later than this after its first one.",
    )


class Throttling(Settings):
    """What happens when the service answers 429."""

    hold_ns: Duration = Field(
        30 * NS_PER_S,
        alias="hold",
        gt=0,
        description="How long the run holds where the reply has no Retry-After.",
    )
    longest_hold_ns: Duration = Field(
        600 * NS_PER_S, alias="longest_hold", gt=0, description="A longer Retry-After is cut to this."
    )
    give_up_ns: Duration = Field(
        3600 * NS_PER_S,
        alias="give_up",
        gt=0,
        description="The run stops where the service has answered nothing but 429 for this long.",
    )


class Resend(Settings):
    """Whether a step that may have run is sent again.

    A factory reset is sent again only where `destructive` allows it as well.
    """

    reboot: bool = Field(False, description="A device whose reply was lost may reboot twice.")
    factory: bool = Field(False, description="Needs `destructive: true` as well.")
    device_factory: bool = Field(False, description="Needs `destructive: true` as well.")
    sync: bool = Field(True, description="Synchronising twice does no harm.")
    reconf: bool = Field(True, description="Reconfiguring twice does no harm.")
    destructive: bool = Field(False, description="Lets `factory` and `device_factory` be sent again.")

    @model_validator(mode="after")
    def _destructive_is_explicit(self) -> Self:
        for operation in sorted(DESTRUCTIVE):
            if getattr(self, operation.value) and not self.destructive:
                raise ValueError(
                    f"resending {operation} may reset a device twice: it needs `destructive: true` as well"
                )
        return self

    def allows(self, operation: Operation) -> bool:
        """Whether a step of `operation` that may have run is sent again."""
        return bool(getattr(self, operation.value))


class AtEnd(StrEnum):
    """What a run does when its maintenance window closes before it is done."""

    STOP = "stop"
    WAIT = "wait"


class OnGateFailed(StrEnum):
    """What a run does when a wave does not pass its gate."""

    ABORT = "abort"
    PAUSE = "pause"


class Breaker(Settings):
    """What happens when the service seems to be down.

    Once it has answered at all, requests that fail in a row open the breaker: the run holds, then tries one request at
    a time until one is answered. Those failures cost no step its retries.
    """

    failures: int = Field(10, ge=0, le=100_000, description="Failures in a row that open it; 0 means never.")
    hold_ns: Duration = Field(5 * NS_PER_S, alias="hold", gt=0, description="The first hold; each further one doubles.")
    longest_hold_ns: Duration = Field(60 * NS_PER_S, alias="longest_hold", gt=0, description="No hold is longer.")
    give_up_ns: Duration = Field(
        3600 * NS_PER_S, alias="give_up", gt=0, description="The run stops after an outage of this length."
    )


class Offline(StrEnum):
    """What is done about devices that the inventory says are down before the run."""

    SEND = "send"
    SKIP = "skip"
    FAIL = "fail"


class Confirm(Settings):
    """Whether a device is watched until it has come back after an operation."""

    enabled: bool = Field(False, description="Look for the device in the inventory after the settle time.")
    limit_ns: Duration = Field(
        600 * NS_PER_S, alias="limit", gt=0, description="How long after the settle time it is looked for."
    )
    every_ns: Duration = Field(10 * NS_PER_S, alias="every", gt=0, description="How often it is looked for.")
    operations: tuple[Operation, ...] = Field(OPERATIONS, description="After which operations.")

    @model_validator(mode="before")
    @classmethod
    def _plain_yes_or_no(cls, value: object) -> object:
        return {"enabled": value} if isinstance(value, bool) else value


class Policy(Settings):
    """How to run a campaign. Every setting has a safe default."""

    model_config = ConfigDict(title="fleetops policy")

    rate: RateSetting = Field(Rate(5), description="Operations sent at most in a period.")
    burst: int = Field(0, ge=0, le=100_000, description="Operations that may be sent at once on top of the rate.")
    concurrency: int = Field(16, ge=1, le=4096, description="Requests in flight at most.")
    timeouts: Timeouts = Timeouts()
    settle: Settle = Settle()
    retries: Retries = Retries()
    throttling: Throttling = Throttling()
    breaker: Breaker = Breaker()
    resend: Resend = Resend()
    on_failure: OnFailure = Field(
        OnFailure.SKIP_REST, description="What a device's sequence does after a step that was not accepted."
    )
    window: Windows = Field((), description="When operations may be started; empty means at any time.")
    blackout: tuple[date, ...] = Field((), description="Dates on which no window opens, in each window's own zone.")
    at_end: AtEnd = Field(AtEnd.STOP, description="What happens to the rest when the window closes.")
    waves: WaveSizes = Field(None, description="How many devices are let in by the end of each wave.")
    gate: WaveGate = Field(
        Gate(failed_max_ppm=50_000, unknown_max_ppm=50_000), description="What a wave has to show before the next."
    )
    on_gate_failed: OnGateFailed = Field(OnGateFailed.ABORT, description="What happens where it does not.")
    abort_when: Budgets = Field((), description="How much may go wrong before the run stops.")
    group_cap: GroupCap = Field(
        None, description="Devices of one group that are disturbed at once, at most: a number, or a share such as 5%."
    )
    preflight: bool = Field(False, description="Look every device up in the inventory before anything is sent.")
    offline: Offline = Field(Offline.SEND, description="What is done about devices that are down before the run.")
    confirm: Confirm = Confirm()
    max_devices: int | None = Field(None, ge=1, description="A campaign with more devices is refused.")
    allow: Patterns = Field((), description="Only devices whose serial number matches one of these.")
    deny: Patterns = Field((), description="No device whose serial number matches one of these.")
    serial_pattern: Pattern = Field(
        SERIAL_PATTERN, description="Regular expression that a whole serial number has to match."
    )

    @model_validator(mode="after")
    def _blackout_needs_a_window(self) -> Self:
        if self.blackout and not self.window:
            raise ValueError("blackout dates need a window, whose time zone says when such a date begins")
        return self

    @property
    def looks_before(self) -> bool:
        """Whether the inventory has to be read before anything is sent."""
        return self.preflight or self.offline is not Offline.SEND

    def to_json(self) -> str:
        """The policy as JSON text, every setting spelled out; `from_json` reads it back."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Read what `to_json` wrote."""
        return cls.model_validate_json(text)


DEFAULTS: Final = Policy()


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `over` sets, key by key into nested mappings; neither is changed."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        result[key] = merged(below, value) if both and isinstance(below, dict) else value
    return result


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a policy file."""
    schema = Policy.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
