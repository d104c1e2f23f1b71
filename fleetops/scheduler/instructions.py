"""What the scheduler tells its shell to do, and what it says of an answer."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.model import Outcome, Reason


class StopReason(StrEnum):
    """Why a run sends nothing more."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a reason, not a secret
    MISDIRECTED = "misdirected"
    THROTTLED = "throttled"
    OUTAGE = "outage"
    BUDGET_SPENT = "budget_spent"
    GATE_FAILED = "gate_failed"
    ABORTED = "aborted"
    WINDOW_CLOSED = "window_closed"
    HOST_FAILED = "host_failed"

    @property
    def aborts(self) -> bool:
        """Whether the run was stopped because going on would do harm or is pointless."""
        return self in _ABORTING


_ABORTING: Final = frozenset(
    {
        StopReason.TOKEN_REFUSED,
        StopReason.MISDIRECTED,
        StopReason.THROTTLED,
        StopReason.OUTAGE,
        StopReason.BUDGET_SPENT,
        StopReason.GATE_FAILED,
        StopReason.ABORTED,
    }
)


class Send(NamedTuple):
    """Make the intent durable, then send this step.

    Attributes:
        step: The step.
        attempt: 1 for its first send.
    """

    step: int
    attempt: int


class WaitFor(StrEnum):
    """What a run waits for."""

    ANSWERS = "answers"
    CONCURRENCY = "concurrency"
    DEVICES = "devices"
    HOLD = "hold"
    OUTAGE = "outage"
    WINDOW = "window"
    SOAK = "soak"
    CONTINUE = "continue"


class Wait(NamedTuple):
    """Nothing can be sent now.

    Attributes:
        until_ns: Look again then; None where only an answer, or the operator, can change anything.
        what_for: What is waited for.
    """

    until_ns: int | None
    what_for: WaitFor = WaitFor.ANSWERS


class Done(NamedTuple):
    """Nothing is in flight and nothing more will be sent."""

    reason: StopReason


Instruction = Send | Wait | Done


class Finish(NamedTuple):
    """The step has its outcome and will never be sent again."""

    step: int
    outcome: Outcome
    reason: Reason | None = None


class Skip(NamedTuple):
    """These steps will not be sent, because of what became of an earlier step of their device."""

    steps: Sequence[int]
    reason: Reason


class Retry(NamedTuple):
    """The step is sent again, not before `due_ns`."""

    step: int
    due_ns: int


class Hold(NamedTuple):
    """No sends until a moment, for the whole run."""

    until_ns: int


class Stop(NamedTuple):
    """The run sends nothing more; what is in flight finishes.

    Attributes:
        reason: Why.
        detail: In the service's words, where it gave any.
    """

    reason: StopReason
    detail: str = ""


class Event(StrEnum):
    """What happened to a run as a whole."""

    RESUMED = "resumed"
    WAVE_STARTED = "wave_started"
    GATE_PASSED = "gate_passed"
    GATE_FAILED = "gate_failed"
    PAUSED = "paused"
    CONTINUED = "continued"
    OUTAGE = "outage"
    OUTAGE_OVER = "outage_over"
    RATE = "rate"
    WINDOW_OPEN = "window_open"
    WINDOW_CLOSED = "window_closed"
    WINDOW_IGNORED = "window_ignored"


class Notice(NamedTuple):
    """Something that the operator and the journal are to be told.

    Attributes:
        at_ns: When it happened.
        event: What.
        detail: The figures behind it; empty where there are none.
    """

    at_ns: int
    event: Event
    detail: str = ""


Effect = Finish | Skip | Retry | Hold | Stop
