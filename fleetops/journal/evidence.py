"""Steps whose outcome is unknown, and what was found out about them after the run."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetops.errors import JournalError
from fleetops.journal.store import connect, damaged
from fleetops.model import Operation, Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_UNKNOWN: Final = """
SELECT s.step, d.serial, s.operation, s.settle_ns, max(coalesce(a.sent_ns, a.intent_ns)),
       EXISTS (SELECT 1 FROM step later JOIN attempt USING (step) WHERE later.device = s.device AND later.step > s.step)
FROM result r JOIN step s USING (step) JOIN device d USING (device) JOIN attempt a USING (step)
WHERE r.outcome = 'unknown' GROUP BY s.step ORDER BY s.step
"""


@dataclass(frozen=True, slots=True)
class UnknownStep:
    """A step that may have run.

    Attributes:
        step: The step.
        serial: Its device.
        operation: Its operation.
        settle_ns: How long the device is left alone after it.
        sent_ns: When it was sent last.
        followed: Whether a later step of the device was sent.
    """

    step: int
    serial: str
    operation: Operation
    settle_ns: int
    sent_ns: int
    followed: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about an unknown step.

    Attributes:
        step: The step.
        outcome: The outcome that it has from now on.
        reason: The reason that goes with it; None leaves the one it has where it stays unknown.
        found: What was found, or who decided.
    """

    step: UnknownStep
    outcome: Outcome
    reason: Reason | None
    found: str


def unknown_steps(path: Path) -> list[UnknownStep]:
    """The steps of a run whose outcome is unknown, in manifest order.

    Raises:
        UsageError: There is no such run.
        JournalError: The journal cannot be read.
    """
    with closing(connect(path, writable=False)) as connection:
        try:
            rows = connection.execute(_UNKNOWN).fetchall()
        except sqlite3.Error as error:
            raise damaged(path, error) from None
    return [
        UnknownStep(step, serial, Operation(operation), settle_ns, sent_ns, bool(followed))
        for step, serial, operation, settle_ns, sent_ns, followed in rows
    ]


def record_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Put what was found on record, and change the outcomes that it changes; called by whoever holds the run.

    Raises:
        JournalError: The journal cannot be written.
    """
    with closing(connect(path, writable=True)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO evidence (step, at_ns, found, before, after) VALUES (?, ?, ?, 'unknown', ?)",
                [(one.step.step, time.time_ns(), one.found, one.outcome) for one in findings],
            )
            connection.executemany(
                "UPDATE result SET outcome = ?, reason = ? WHERE step = ?",
                [(one.outcome, one.reason, one.step.step) for one in findings if one.outcome is not Outcome.UNKNOWN],
            )
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} cannot be written: {error}", hint="nothing was changed") from None
