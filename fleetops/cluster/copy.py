"""A run of the database as a journal file: whatever reads a journal on one host then reads it unchanged."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from fleetops.cluster.database import no_such_run
from fleetops.journal.clock import boot_id, since_boot_ns
from fleetops.journal.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    Connection = psycopg.Connection[Any]

_BLOCK: Final = 50_000
_OVERLAP_NS: Final = 15_000_000_000
"""What was noted at one moment may be committed after what was noted later: so much of it is read again."""
_FIXED: Final = {
    "device": "SELECT device, serial, grp FROM device WHERE run_id = %s ORDER BY device",
    "step": "SELECT step, device, operation, settle_ns, note, carried FROM step WHERE run_id = %s ORDER BY step",
}
_GROWING: Final = {
    "attempt": "SELECT step, attempt, drive, intent_ns, sent_ns, answered_ns, kind, reason, http_status, "
    "operation_id, detail FROM attempt WHERE run_id = %s AND (intent_ns >= %s OR answered_ns >= %s)",
    "result": "SELECT step, outcome, reason, finished_ns, drive FROM result WHERE run_id = %s AND "
    "(finished_ns >= %s OR finished_ns >= %s)",
}
_SMALL: Final = {
    "event": "SELECT at_ns, drive, event, detail FROM event WHERE run_id = %s ORDER BY event_id",
    "command": "SELECT command, asked_ns, action, argument FROM command WHERE run_id = %s ORDER BY command",
    "evidence": "SELECT step, at_ns, found, before, after FROM evidence WHERE run_id = %s ORDER BY at_ns",
}
_DRIVES: Final = (
    "SELECT drive, version, started_ns, policy, ended_ns, end_reason, end_detail FROM drive "
    "WHERE run_id = %s ORDER BY drive"
)


class RunCopy:
    """A run's copy in a file, made once and then brought up to date.

    Args:
        path: The file, which is not there yet.
        run_id: The run.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self._run_id = run_id
        self._seen_ns = 0
        self._made = False

    def refresh(self, connection: Connection) -> None:
        """Bring the file up to the state of the database.

        Raises:
            UsageError: There is no such run.
        """
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            row = connection.execute(
                "SELECT facts, policy, now_ns() FROM run WHERE run_id = %s", (self._run_id,)
            ).fetchone()
            if row is None:
                raise no_such_run(self._run_id)
            facts, policy, now_ns = row
            with closing(sqlite3.connect(self.path, isolation_level=None)) as journal:
                journal.execute("PRAGMA synchronous = OFF")
                journal.execute("BEGIN")
                if not self._made:
                    self._make(connection, journal)
                self._follow(connection, journal, facts, policy, now_ns)
                journal.execute("COMMIT")
        self._made = True
        self._seen_ns = now_ns

    def _make(self, connection: Connection, journal: sqlite3.Connection) -> None:
        self.path.chmod(0o600)
        journal.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        journal.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in TABLES.split(";\n"):
            journal.execute(statement)
        for table, query in _FIXED.items():
            self._fill(connection, journal, table, query, (self._run_id,))

    def _follow(
        self, connection: Connection, journal: sqlite3.Connection, facts: str, policy: str, now_ns: int
    ) -> None:
        since_ns = max(0, self._seen_ns - _OVERLAP_NS)
        if self._made:
            # What was withdrawn since has no row any more.
            journal.execute("DELETE FROM attempt WHERE answered_ns IS NULL")
            unanswered = f"{_GROWING['attempt']} OR (run_id = %s AND answered_ns IS NULL)"
            self._fill(connection, journal, "attempt", unanswered, (self._run_id, since_ns, since_ns, self._run_id))
        else:
            self._fill(connection, journal, "attempt", _GROWING["attempt"], (self._run_id, since_ns, since_ns))
        self._fill(connection, journal, "result", _GROWING["result"], (self._run_id, since_ns, since_ns))
        for table, query in _SMALL.items():
            journal.execute(f"DELETE FROM {table}")  # noqa: S608 - one of the names above
            self._fill(connection, journal, table, query, (self._run_id,))
        longest_ns = journal.execute("SELECT coalesce(max(settle_ns), 0) FROM step").fetchone()[0]
        values = {name: json.dumps(value) for name, value in json.loads(facts).items()}
        values |= {
            "policy": policy,
            "longest_settle_ns": str(longest_ns),
            "commits": "0",
            "attempts": "0",
            "answers": "0",
        }
        journal.executemany("INSERT OR REPLACE INTO run VALUES (?, ?)", values.items())
        journal.execute("DELETE FROM process")
        journal.executemany(
            "INSERT INTO process VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (drive, version, boot_id(), now_ns - since_boot_ns(), *rest)
                for drive, version, *rest in connection.execute(_DRIVES, (self._run_id,))
            ),
        )

    @staticmethod
    def _fill(
        connection: Connection, journal: sqlite3.Connection, table: str, query: str, values: tuple[object, ...]
    ) -> None:
        with connection.cursor(name=f"copy_{table}") as cursor:
            cursor.itersize = _BLOCK
            cursor.execute(query, values)
            rows: Iterator[tuple[Any, ...]] = iter(cursor)
            while block := list(islice(rows, _BLOCK)):
                marks = ", ".join("?" * len(block[0]))
                journal.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", block)  # noqa: S608 - as above
