"""What happened in a simulated run."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fleetops.model import OUTCOMES, Outcome, ReplyKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetops.scheduler import Notice, StopReason

KINDS: Final = tuple(ReplyKind)
KIND_CODE: Final = {kind: code for code, kind in enumerate(KINDS, start=1)}
OUTCOME_CODE: Final = {outcome: code for code, outcome in enumerate(OUTCOMES, start=1)}


@dataclass(slots=True)
class Trace:
    """What happened in one process's drive of a run.

    The columns have an entry per send, in the order in which the requests left.

    Attributes:
        start_ns: When it began.
        step: The step that was sent.
        attempt: Which attempt of it.
        intent_ns: When its intent was noted.
        sent_ns: When it left.
        answered_ns: When its answer was there; 0 where the process ended first.
        kind: What the answer meant, as `reply_kind` reads it; 0 where there was none.
        outcomes: Final outcomes by step, each an index into `OUTCOMES` plus one; those of earlier processes included.
        holds: When each hold was learnt of, and until when it lasts.
        notices: What happened to the run as a whole.
        stopped_ns: When it was stopped; None where it was not, or stopped by itself while nothing was under way.
        ended: Why it ended; None where it crashed.
        end_ns: When it ended.
        detail: Why, in figures or in the service's words.
        most_in_flight: The most requests that were under way at once.
        events: How many events it took.
    """

    start_ns: int
    outcomes: bytearray
    step: array[int] = field(default_factory=lambda: array("I"))
    attempt: array[int] = field(default_factory=lambda: array("I"))
    intent_ns: array[int] = field(default_factory=lambda: array("q"))
    sent_ns: array[int] = field(default_factory=lambda: array("q"))
    answered_ns: array[int] = field(default_factory=lambda: array("q"))
    kind: bytearray = field(default_factory=bytearray)
    holds: list[tuple[int, int]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    stopped_ns: int | None = None
    ended: StopReason | None = None
    end_ns: int = 0
    detail: str = ""
    most_in_flight: int = 0
    events: int = 0

    def __len__(self) -> int:
        return len(self.step)

    def appenders(self) -> tuple[Callable[[int], None], ...]:
        """What adds to each column, in their order: a send is written down column by column."""
        columns = (self.step, self.attempt, self.intent_ns, self.sent_ns, self.answered_ns, self.kind)
        return tuple(column.append for column in columns)

    def reply_kind(self, index: int) -> ReplyKind | None:
        """What the answer to a send meant; None where there was none."""
        code = self.kind[index]
        return KINDS[code - 1] if code else None

    @property
    def makespan_ns(self) -> int:
        """From its beginning to its end."""
        return self.end_ns - self.start_ns

    def counts(self) -> dict[Outcome, int]:
        """Steps by final outcome."""
        return {outcome: self.outcomes.count(code) for outcome, code in OUTCOME_CODE.items()}
