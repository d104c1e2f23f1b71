"""Journals of runs that never were, written as the schema says."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetops.journal import NewRun, RunFacts, StateDir, create_journal
from fleetops.model import Operation, Outcome, Steps
from fleetops.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RUN_ID = "20260102-030405-6f7a"
S = 1_000_000_000
T0 = 1_767_322_800 * S
"""2026-01-02T03:00:00Z."""

Row = tuple[str, Operation]


def rows(count: int, operation: Operation = Operation.REBOOT) -> list[Row]:
    return [(f"SN{number:04}", operation) for number in range(1, count + 1)]


@dataclass
class Made:
    """A run's journal, to be filled by hand."""

    state: StateDir
    run_id: str = RUN_ID
    _open: sqlite3.Connection | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write all that comes at once: a transaction for each row takes its time."""
        with closing(self._connected()) as self._open, self._open:
            yield
        self._open = None

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.state.journal_path(self.run_id))
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def _write(self, statement: str, *values: object) -> None:
        if self._open is not None:
            self._open.execute(statement, values)
            return
        with closing(self._connected()) as connection, connection:
            connection.execute(statement, values)

    def process(
        self,
        *,
        started_ns: int = T0,
        ended_ns: int | None = None,
        reason: str | None = None,
        detail: str = "",
        boot_id: str = "boot",
        wall_minus_boot_ns: int = 0,
    ) -> None:
        self._write(
            "INSERT INTO process (pid, version, boot_id, wall_minus_boot_ns, started_ns, policy, ended_ns, end_reason, "
            "end_detail) VALUES (7, '1', ?, ?, ?, ?, ?, ?, ?)",
            boot_id,
            wall_minus_boot_ns,
            started_ns,
            Policy().to_json(),
            ended_ns,
            reason,
            detail,
        )

    def attempt(
        self,
        step: int,
        kind: str | None,
        reason: str | None = None,
        *,
        attempt: int = 1,
        process: int = 1,
        at_ns: int = T0 + S,
        sent: bool = True,
        http_status: int | None = None,
        operation_id: str | None = None,
        detail: str | None = None,
    ) -> None:
        answered = None if kind is None else at_ns + S
        self._write(
            "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            step,
            attempt,
            process,
            at_ns - 1_000_000,
            at_ns if sent and kind is not None else None,
            answered,
            kind,
            reason,
            http_status,
            operation_id,
            detail,
        )

    def event(self, event: str, detail: str = "", *, at_ns: int = T0 + S) -> None:
        self._write("INSERT INTO event SELECT ?, max(process), ?, ? FROM process", at_ns, event, detail)

    def result(
        self, step: int, outcome: Outcome, reason: str | None = None, *, at_ns: int = T0 + 2 * S, process: int = 1
    ) -> None:
        self._write("INSERT INTO result VALUES (?, ?, ?, ?, ?)", step, outcome, reason, at_ns, process)


def make_journal(
    root: Path,
    steps: Sequence[Row] | Steps,
    *,
    groups: Sequence[str] = (),
    notes: Sequence[str] = (),
    carried_columns: tuple[str, ...] = (),
    carried: Sequence[Sequence[str]] = (),
    policy: Policy | None = None,
    run_id: str = RUN_ID,
    campaign: str = "",
) -> Made:
    state = StateDir(root)
    state.prepare()
    policy = policy or Policy()
    if not isinstance(steps, Steps):
        steps = Steps.of([(serial, op, policy.settle.after_ns(op)) for serial, op in steps], groups)
    facts = RunFacts(run_id, "routers.csv", "0" * 64, campaign, "http://127.0.0.1:1/api/v1", T0, carried_columns)
    new = NewRun(facts, policy, steps, notes, [json.dumps(list(cells)) for cells in carried])
    create_journal(state.journal_path(run_id), new)
    return Made(state, run_id)
