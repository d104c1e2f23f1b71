"""Steps whose outcome is unknown, and what was found out about them after the run."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetops.errors import FleetopsError, JournalError
from fleetops.journal.readonly import connect_readonly
from fleetops.journal.store import UNREADABLE, connect, damaged, read_facts
from fleetops.model import Operation, Outcome, Reason, ReplyKind
from fleetops.policy import Policy
from fleetops.policy.settings import OnFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleetops.journal.state import StateDir

_MAY_HAVE_RUN: Final = ", ".join(f"'{kind}'" for kind in ReplyKind if kind.may_have_run)
_COLUMNS: Final = """
s.step, d.serial, s.operation, s.settle_ns, max(coalesce(a.sent_ns, a.intent_ns)),
EXISTS (SELECT 1 FROM step later JOIN attempt USING (step) WHERE later.device = s.device AND later.step > s.step)
"""
_UNKNOWN: Final = f"""
SELECT {_COLUMNS}, 0
FROM result r JOIN step s USING (step) JOIN device d USING (device) JOIN attempt a USING (step)
WHERE r.outcome = 'unknown' GROUP BY s.step
UNION ALL
SELECT {_COLUMNS}, 1
FROM attempt a JOIN step s USING (step) JOIN device d USING (device)
WHERE NOT EXISTS (SELECT 1 FROM result r WHERE r.step = s.step) GROUP BY s.step
HAVING max(a.answered_ns IS NULL) OR max(a.kind IN ({_MAY_HAVE_RUN}))
ORDER BY 1
"""  # noqa: S608 - made of constants
_SENT_SINCE: Final = """
SELECT d.serial, max(a.intent_ns) FROM attempt a JOIN step s USING (step) JOIN device d USING (device)
WHERE a.intent_ns > ? GROUP BY d.device
"""
_SKIP_REST: Final = """
INSERT INTO result
SELECT later.step, 'skipped', 'earlier_step_failed', ?, (SELECT max(process) FROM process)
FROM step s JOIN step later ON later.device = s.device AND later.step > s.step
WHERE s.step = ? AND NOT EXISTS (SELECT 1 FROM result r WHERE r.step = later.step)
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
        followed: Whether something else was sent to the device since.
        is_open: Whether it has no outcome yet: its process died, or was stopped before it could be sent again.
    """

    step: int
    serial: str
    operation: Operation
    settle_ns: int
    sent_ns: int
    followed: bool
    is_open: bool = False


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
    """The steps of a run whose outcome is unknown, in manifest order, those included that a resume would take up.

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
        UnknownStep(step, serial, Operation(operation), settle_ns, sent_ns, bool(followed), bool(is_open))
        for step, serial, operation, settle_ns, sent_ns, followed, is_open in rows
    ]


def sent_to_since(state: StateDir, run_id: str, since_ns: Mapping[str, int]) -> set[str]:
    """The devices to which another run on this host has sent something since, on the same control plane.

    Args:
        state: Where the runs are.
        run_id: The run that asks.
        since_ns: By serial number, since when.

    Raises:
        UsageError: There is no such run.
        JournalError: Its journal cannot be read.
    """
    with closing(connect_readonly(state.journal_path(run_id))) as connection:
        base_url = read_facts(connection).base_url
    found: set[str] = set()
    earliest_ns = min(since_ns.values(), default=0)
    for other in state.run_ids():
        if other == run_id:
            continue
        # A journal that cannot be read says nothing, and is no reason to look no further.
        with suppress(FleetopsError, *UNREADABLE), closing(connect_readonly(state.journal_path(other))) as connection:
            if read_facts(connection).base_url == base_url and _ran_since(connection, earliest_ns):
                sent = connection.execute(_SENT_SINCE, (earliest_ns,))
                found.update(serial for serial, at_ns in sent if at_ns > since_ns.get(serial, at_ns))
    return found


def _ran_since(connection: sqlite3.Connection, since_ns: int) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM process WHERE ended_ns IS NULL OR ended_ns > ?)", (since_ns,)
    ).fetchone()
    return bool(row[0])


def record_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Put what was found on record, and change the outcomes that it changes; called by whoever holds the run.

    A step that is still open and that turns out not to have run ends its device's sequence, as it would in a run.

    Raises:
        JournalError: The journal cannot be written.
    """
    now_ns = time.time_ns()
    decided = [one for one in findings if one.outcome is not Outcome.UNKNOWN]
    with closing(connect(path, writable=True)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO evidence (step, at_ns, found, before, after) VALUES (?, ?, ?, 'unknown', ?)",
                [(one.step.step, now_ns, one.found, one.outcome) for one in findings],
            )
            connection.executemany(
                "UPDATE result SET outcome = ?, reason = ? WHERE step = ?",
                [(one.outcome, one.reason, one.step.step) for one in decided if not one.step.is_open],
            )
            connection.executemany(
                "INSERT INTO result VALUES (?, ?, ?, ?, (SELECT max(process) FROM process))",
                [(one.step.step, one.outcome, one.reason, now_ns) for one in decided if one.step.is_open],
            )
            if _skips_rest(connection):
                ended = [one for one in decided if one.step.is_open and one.outcome is Outcome.FAILED]
                connection.executemany(_SKIP_REST, [(now_ns, one.step.step) for one in ended])
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} cannot be written: {error}", hint="nothing was changed") from None


def _skips_rest(connection: sqlite3.Connection) -> bool:
    policy = Policy.from_json(connection.execute("SELECT value FROM run WHERE key = 'policy'").fetchone()[0])
    return policy.on_failure is OnFailure.SKIP_REST
