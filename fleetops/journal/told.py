"""A journal that also tells what goes into it, as it happens: for logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetops.model import NS_PER_S, Outcome, ReplyKind
from fleetops.scheduler import Event, Finish, Hold, Retry, Skip, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleetops.journal.records import Journal
    from fleetops.model import Reply, Steps
    from fleetops.scheduler import Effect, Notice

    Tell = Callable[[str, str, int, Mapping[str, Any]], None]
    """Is told a level, an event, when it happened in nanoseconds since the epoch, and the fields that apply."""

INFO: Final = "info"
WARNING: Final = "warning"
ERROR: Final = "error"

_LEVELS: Final = {
    Outcome.ACCEPTED: INFO,
    Outcome.CONFIRMED: INFO,
    Outcome.FAILED: ERROR,
    Outcome.UNKNOWN: ERROR,
    Outcome.SKIPPED: WARNING,
    Outcome.NOT_STARTED: WARNING,
}
_ALARMING: Final = frozenset({Event.GATE_FAILED, Event.PAUSED, Event.OUTAGE, Event.WINDOW_CLOSED, Event.WINDOW_IGNORED})


class ToldJournal:
    """A journal, and somebody who is told of attempts, of what they lead to, and of what happens to the run.

    Args:
        journal: What keeps it all.
        steps: The campaign's steps.
        tell: Is told, after the journal.
        numbers: By step, its number in the campaign, where the steps are only some of it.
    """

    def __init__(self, journal: Journal, steps: Steps, tell: Tell, numbers: Sequence[int] | None = None) -> None:
        self._journal = journal
        self._numbers = numbers
        self._steps = steps
        self._tell = tell
        self.intend = journal.intend
        self.withdrawn = journal.withdrawn
        self.serve = journal.serve
        self.close = journal.close

    def answered(
        self,
        step: int,
        attempt: int,
        *,
        sent_ns: int | None,
        answered_ns: int,
        reply: Reply,
        effects: Sequence[Effect],
    ) -> None:
        """Note what came of an attempt, and tell it."""
        self._journal.answered(step, attempt, sent_ns=sent_ns, answered_ns=answered_ns, reply=reply, effects=effects)
        known = {
            "reason": reply.reason,
            "http_status": reply.http_status,
            "operation_id": reply.operation_id,
            "detail": reply.detail or None,
            "duration_s": None if sent_ns is None else round((answered_ns - sent_ns) / NS_PER_S, 6),
        }
        told = {**self._step(step), "attempt": attempt, "result": reply.kind}
        told |= {name: value for name, value in known.items() if value is not None}
        self._tell(INFO if reply.kind is ReplyKind.ACCEPTED else WARNING, "attempt", answered_ns, told)
        self._tell_effects(effects, answered_ns, attempt)

    def confirmed(self, effects: Sequence[Effect], now_ns: int) -> None:
        """Note what a look into the inventory changed, and tell it."""
        self._journal.confirmed(effects, now_ns)
        self._tell_effects(effects, now_ns)

    def happened(self, notices: Sequence[Notice]) -> None:
        """Note what happened to the run as a whole, and tell it."""
        self._journal.happened(notices)
        for notice in notices:
            fields = {"detail": notice.detail} if notice.detail else {}
            self._tell(WARNING if notice.event in _ALARMING else INFO, notice.event, notice.at_ns, fields)

    def _tell_effects(self, effects: Sequence[Effect], now_ns: int, attempt: int | None = None) -> None:
        sends = {} if attempt is None else {"attempt": attempt}
        for effect in effects:
            match effect:
                case Finish():
                    self._tell_outcome(effect.step, effect.outcome, effect.reason, now_ns, sends)
                case Skip():
                    for step in effect.steps:
                        self._tell_outcome(step, Outcome.SKIPPED, effect.reason, now_ns, {})
                case Retry():
                    wait_s = (effect.due_ns - now_ns) / NS_PER_S
                    self._tell(WARNING, "retry", now_ns, {**self._step(effect.step), **sends, "wait_s": wait_s})
                case Hold():
                    self._tell(WARNING, "hold", now_ns, {"wait_s": (effect.until_ns - now_ns) / NS_PER_S})
                case Stop():
                    fields = {"detail": effect.detail} if effect.detail else {}
                    self._tell(ERROR, "stop", now_ns, {"reason": effect.reason, **fields})

    def _tell_outcome(
        self, step: int, outcome: Outcome, reason: str | None, now_ns: int, sends: Mapping[str, Any]
    ) -> None:
        why = {} if reason is None else {"reason": reason}
        self._tell(_LEVELS[outcome], "outcome", now_ns, {**self._step(step), **sends, "outcome": outcome, **why})

    def _step(self, step: int) -> dict[str, Any]:
        row = 1 + (step if self._numbers is None else self._numbers[step])
        return {"row": row, "serial": self._steps.serial(step), "operation": self._steps.operation(step)}
