from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.errors import JournalError
from fleetops.journal.evidence import Finding, UnknownStep, record_findings, unknown_steps
from fleetops.model import Operation, Outcome, Reason
from fleetops.policy import Policy
from fleetops.scheduler import Finish
from tests.journal.runs import LOST, RUN_ID, S, create, new_run, open_store, state_dir
from tests.journal.test_store import T0, send

if TYPE_CHECKING:
    from pathlib import Path

STEPS = [("A", Operation.REBOOT, 7 * S), ("B", Operation.SYNC, S), ("A", Operation.SYNC, S)]


def with_unknown_steps(root: Path) -> Path:
    state = state_dir(root)
    path = create(state, new_run(STEPS))
    store = open_store(state)
    journal = store.begin(Policy(), now_ns=T0)
    for step in range(3):
        send(journal, step, LOST, T0 + step, Outcome.UNKNOWN)
    store.close()
    return path


def test_unknown_steps_come_with_what_is_needed_to_find_out_about_them(tmp_path: Path) -> None:
    assert unknown_steps(with_unknown_steps(tmp_path)) == [
        UnknownStep(0, "A", Operation.REBOOT, 7 * S, T0, followed=True),
        UnknownStep(1, "B", Operation.SYNC, S, T0 + 1, followed=False),
        UnknownStep(2, "A", Operation.SYNC, S, T0 + 2, followed=False),
    ]


def test_a_finding_is_kept_and_changes_the_outcome_where_it_says_so(tmp_path: Path) -> None:
    path = with_unknown_steps(tmp_path)
    first, second, third = unknown_steps(path)
    record_findings(
        path,
        [
            Finding(first, Outcome.CONFIRMED, None, "up since 02:03"),
            Finding(second, Outcome.UNKNOWN, None, "nothing"),
            Finding(third, Outcome.ACCEPTED, Reason.ASSUMED, "the operator"),
        ],
    )
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT step, outcome, reason FROM result ORDER BY step").fetchall() == [
        (0, "confirmed", None),
        (1, "unknown", "connection_lost"),
        (2, "accepted", "assumed"),
    ]
    assert connection.execute("SELECT step, found, before, after FROM evidence ORDER BY step").fetchall() == [
        (0, "up since 02:03", "unknown", "confirmed"),
        (1, "nothing", "unknown", "unknown"),
        (2, "the operator", "unknown", "accepted"),
    ]
    connection.close()
    store = open_store(state_dir(tmp_path))
    assert bytes(store.load(now_ns=T0).progress.outcomes) == bytes((2, 4, 1))
    store.close()


def test_findings_are_kept_all_or_none(tmp_path: Path) -> None:
    path = with_unknown_steps(tmp_path)
    first, second, _ = unknown_steps(path)
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON evidence WHEN NEW.step = 1 BEGIN SELECT RAISE(FAIL, 'disk full'); END"
    )
    connection.commit()
    findings = [Finding(one, Outcome.CONFIRMED, None, "up") for one in (first, second)]
    with pytest.raises(JournalError, match="disk full") as caught:
        record_findings(path, findings)
    assert caught.value.hint == "nothing was changed"
    assert connection.execute("SELECT count(*) FROM evidence").fetchone() == (0,)
    connection.execute("DROP TABLE evidence")
    connection.execute("DROP TABLE result")
    connection.close()
    with pytest.raises(JournalError, match="cannot be read"):
        unknown_steps(path)


def test_a_journal_may_be_looked_at_while_its_run_is_driven(tmp_path: Path) -> None:
    path = with_unknown_steps(tmp_path)
    store = open_store(state_dir(tmp_path), RUN_ID)
    journal = store.begin(Policy(), now_ns=T0)
    journal.confirmed([Finish(1, Outcome.CONFIRMED)], T0 + 9)
    anyio.run(_close, journal)
    assert [one.step for one in unknown_steps(path)] == [0, 2]
    store.close()


async def _close(journal: object) -> None:
    await journal.close(now_ns=T0, reason="complete", detail="")  # type: ignore[attr-defined]  # a journal
