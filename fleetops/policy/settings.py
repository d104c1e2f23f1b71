"""The policy: how a campaign is run. One schema for files, embedded policies and command line options."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fleetops.model import DESTRUCTIVE, NS_PER_S, SERIAL_PATTERN, Operation
from fleetops.policy.units import Rate, format_duration, parse_duration_ns, parse_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

Duration = Annotated[
    int,
    BeforeValidator(parse_duration_ns),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h)?\s*)+$"},
                {"type": "number", "minimum": 0},
            ],
            "description": "500ms, 90s, 2m, 1h, 1h30m, or a number of seconds.",
        }
    ),
]
"""Nanoseconds inside, `90s` outside."""


def _read_rate(value: object) -> object:
    return value if isinstance(value, Rate) else parse_rate(value)  # type: ignore[arg-type]


RateSetting = Annotated[
    Rate,
    BeforeValidator(_read_rate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(/\s*[smh])?\s*$"},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "description": "20/s, 90/m, 500/h, or a number per second.",
        }
    ),
]


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )


class OnFailure(StrEnum):
    """What a device's sequence does after a step that was neither accepted nor confirmed."""

    SKIP_REST = "skip_rest"
    CONTINUE = "continue"


class Timeouts(_Settings):
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


class Settle(_Settings):
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


class Retries(_Settings):
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


class Throttling(_Settings):
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


class Resend(_Settings):
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


class Policy(_Settings):
    """How to run a campaign. Every setting has a safe default."""

    model_config = ConfigDict(title="fleetops policy")

    rate: RateSetting = Field(Rate(5), description="Operations sent at most in a period.")
    burst: int = Field(0, ge=0, le=100_000, description="Operations that may be sent at once on top of the rate.")
    concurrency: int = Field(16, ge=1, le=4096, description="Requests in flight at most.")
    timeouts: Timeouts = Timeouts()
    settle: Settle = Settle()
    retries: Retries = Retries()
    throttling: Throttling = Throttling()
    resend: Resend = Resend()
    on_failure: OnFailure = Field(
        OnFailure.SKIP_REST, description="What a device's sequence does after a step that was not accepted."
    )
    serial_pattern: str = Field(
        SERIAL_PATTERN, description="Regular expression that a whole serial number has to match."
    )

    @field_validator("serial_pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

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
