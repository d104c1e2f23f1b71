from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetops.journal.told import ToldJournal
from fleetops.model import Operation, Outcome, Reason, Reply, ReplyKind, Steps
from fleetops.scheduler import Event, Finish, Hold, Notice, Retry, Skip, Stop, StopReason
from tests.journal.runs import ACCEPTED, LOST, S

if TYPE_CHECKING:
    from collections.abc import Mapping

STEPS = Steps.of([("A1", Operation.SYNC, 0), ("A1", Operation.REBOOT, 0), ("B2", Operation.SYNC, 0)])
A1 = {"row": 1, "serial": "A1", "operation": "sync"}


class Kept:
    """A journal that keeps the names of what it is told."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self.noted.append(name)


class Log:
    """What was told, and a journal to tell."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self.kept = Kept()
        self.journal = ToldJournal(self.kept, STEPS, self._tell)

    def _tell(self, level: str, event: str, at_ns: int, fields: Mapping[str, Any]) -> None:
        assert self.kept.noted, "the journal comes first"
        assert at_ns == 7 * S
        self.lines.append((level, event, dict(fields)))

    def answered(self, reply: Reply, *effects: Any, sent_ns: int | None = 5 * S) -> None:
        self.journal.answered(0, 2, sent_ns=sent_ns, answered_ns=7 * S, reply=reply, effects=effects)


def test_an_attempt_is_told_with_what_is_known_of_it_and_then_its_outcome() -> None:
    log = Log()
    log.answered(ACCEPTED, Finish(0, Outcome.ACCEPTED))
    assert log.kept.noted == ["answered"]
    assert log.lines == [
        (
            "info",
            "attempt",
            {**A1, "attempt": 2, "result": "accepted", "http_status": 200, "operation_id": "17", "duration_s": 2.0},
        ),
        ("info", "outcome", {**A1, "attempt": 2, "outcome": "accepted"}),
    ]


def test_what_fails_is_told_with_why_and_with_what_it_leaves_out() -> None:
    log = Log()
    log.answered(LOST, Finish(0, Outcome.UNKNOWN, Reason.CONNECTION_LOST), Skip([1], Reason.EARLIER_STEP_UNKNOWN))
    assert [(level, event) for level, event, _ in log.lines] == [
        ("warning", "attempt"),
        ("error", "outcome"),
        ("warning", "outcome"),
    ]
    assert log.lines[1][2]["reason"] == "connection_lost"
    assert log.lines[2][2] == {
        "row": 2,
        "serial": "A1",
        "operation": "reboot",
        "outcome": "skipped",
        "reason": "earlier_step_unknown",
    }


def test_retries_holds_and_stops_are_told() -> None:
    log = Log()
    refused = Reply(ReplyKind.THROTTLED, Reason.THROTTLED, 429, detail="slowly")
    log.answered(refused, Retry(0, 9 * S), Hold(8 * S), Stop(StopReason.THROTTLED, "enough"), sent_ns=None)
    assert log.lines[0][2]["detail"] == "slowly"
    assert "duration_s" not in log.lines[0][2]
    assert log.lines[1:] == [
        ("warning", "retry", {**A1, "attempt": 2, "wait_s": 2.0}),
        ("warning", "hold", {"wait_s": 1.0}),
        ("error", "stop", {"reason": "throttled", "detail": "enough"}),
    ]
    log.answered(refused, Stop(StopReason.ABORTED))
    assert log.lines[-1][2] == {"reason": "aborted"}


def test_confirmations_and_notices_are_told() -> None:
    log = Log()
    log.journal.confirmed([Finish(0, Outcome.CONFIRMED)], 7 * S)
    log.journal.happened([Notice(7 * S, Event.GATE_FAILED, "failed 3 of 9"), Notice(7 * S, Event.CONTINUED)])
    assert log.kept.noted == ["confirmed", "happened"]
    assert log.lines == [
        ("info", "outcome", {**A1, "outcome": "confirmed"}),
        ("warning", "gate_failed", {"detail": "failed 3 of 9"}),
        ("info", "continued", {}),
    ]
