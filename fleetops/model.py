"""The words of a campaign: operations, outcomes, and what one answer of the control plane means."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

NS_PER_S: Final = 1_000_000_000

SERIAL_PATTERN: Final = r"[A-Za-z0-9._:\-]{1,128}"
"""What a serial number looks like unless a policy says otherwise; `.` and `..` are refused besides."""


class Operation(StrEnum):
    """What a device can be told to do, by the name the control API gives it."""

    REBOOT = "reboot"
    FACTORY = "factory"
    DEVICE_FACTORY = "device_factory"
    SYNC = "sync"
    RECONF = "reconf"

    @property
    def destructive(self) -> bool:
        """Whether the operation removes user data or configuration."""
        return self in DESTRUCTIVE


DESTRUCTIVE: Final = frozenset({Operation.FACTORY, Operation.DEVICE_FACTORY})

OPERATIONS: Final = tuple(Operation)
"""Operations by code: the code of an operation is its index here."""

CODE_OF: Final = {operation: code for code, operation in enumerate(OPERATIONS)}


class Outcome(StrEnum):
    """What became of a step."""

    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    NOT_STARTED = "not_started"


OUTCOMES: Final = tuple(Outcome)

GOOD: Final = frozenset({Outcome.ACCEPTED, Outcome.CONFIRMED})
"""The outcomes after which a device's sequence goes on."""


class Reason(StrEnum):
    """Why a step has its outcome, in one word for the report."""

    NOT_FOUND = "not_found"
    INVALID = "invalid"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    THROTTLED = "throttled"

    READ_TIMEOUT = "read_timeout"
    CONNECTION_LOST = "connection_lost"
    SERVER_ERROR = "server_error"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    BAD_REPLY = "bad_reply"
    CRASHED = "crashed"

    EARLIER_STEP_FAILED = "earlier_step_failed"
    EARLIER_STEP_UNKNOWN = "earlier_step_unknown"
    OFFLINE = "offline"
    EXCLUDED = "excluded"

    WINDOW_CLOSED = "window_closed"
    ABORTED = "aborted"
    INTERRUPTED = "interrupted"

    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a reason, not a secret
    MISDIRECTED = "misdirected"
    NOT_CONFIRMED = "not_confirmed"
    ASSUMED = "assumed"

    IN_FLIGHT = "in_flight"
    PENDING = "pending"


class ReplyKind(StrEnum):
    """What the result of one attempt means for its step.

    `NOT_REACHED`: the request cannot have reached the service. `THROTTLED`: 429, refused for now.
    `MAYBE`: it may have run, the reply was lost or was a server error. `BAD_REPLY`: 200 that does not
    say what was asked, so it may have run. `REFUSED`: refused for good. `TOKEN_REFUSED` and
    `MISDIRECTED`: refused, and so will be every other request of this run.
    """

    ACCEPTED = "accepted"
    NOT_REACHED = "not_reached"
    THROTTLED = "throttled"
    MAYBE = "maybe"
    BAD_REPLY = "bad_reply"
    REFUSED = "refused"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a kind of reply, not a secret
    MISDIRECTED = "misdirected"

    @property
    def may_have_run(self) -> bool:
        """Whether the operation may have been started on the device."""
        return self in _MAY_HAVE_RUN


_MAY_HAVE_RUN: Final = frozenset({ReplyKind.ACCEPTED, ReplyKind.MAYBE, ReplyKind.BAD_REPLY})


class Reply(NamedTuple):
    """The result of one attempt, whether an answer or the lack of one.

    Attributes:
        kind: What it means for the step.
        reason: The word for the report; None where accepted.
        http_status: The status, or None where no status line was understood.
        operation_id: The id the service gave the operation, as text; None where it gave none.
        detail: The service's or the transport's own words, bounded and printable; empty where there are none.
        retry_after_s: How long a 429 or 503 asked us to wait, in seconds from now; None where it did not say.
    """

    kind: ReplyKind
    reason: Reason | None = None
    http_status: int | None = None
    operation_id: str | None = None
    detail: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a campaign by column: step `i` is the manifest's row `i + 1`.

    Columns rather than objects, so that a million steps fit in tens of megabytes.

    Attributes:
        serials: Serial number by device; devices are numbered in the order the manifest first names them.
        groups: Group by device, empty where it has none; an empty sequence where no device has one.
        device_of: Device by step.
        operation_of: Operation code (index into `OPERATIONS`) by step.
        settle_ns_of: How long the device is left alone after the step, in nanoseconds, by step.
    """

    serials: Sequence[str]
    groups: Sequence[str]
    device_of: array[int]
    operation_of: bytes
    settle_ns_of: array[int]

    def __len__(self) -> int:
        return len(self.device_of)

    def serial(self, step: int) -> str:
        """The serial number of the device of `step`."""
        return self.serials[self.device_of[step]]

    def operation(self, step: int) -> Operation:
        """The operation of `step`."""
        return OPERATIONS[self.operation_of[step]]

    @classmethod
    def of(cls, rows: Sequence[tuple[str, Operation, int]], groups: Sequence[str] = ()) -> Steps:
        """Build from (serial, operation, settle in ns) rows in manifest order; `groups` is by device."""
        devices: dict[str, int] = {}
        device_of = array("I", (devices.setdefault(serial, len(devices)) for serial, _, _ in rows))
        return cls(
            serials=list(devices),
            groups=groups,
            device_of=device_of,
            operation_of=bytes(CODE_OF[operation] for _, operation, _ in rows),
            settle_ns_of=array("q", (settle_ns for _, _, settle_ns in rows)),
        )
