"""Opening a run's journal to drive the run."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from typing import TYPE_CHECKING, Final, Self

from fleetops.errors import JournalError, UsageError
from fleetops.journal.commits import GroupCommit
from fleetops.journal.progress import last_end, read_progress, read_steps, read_troubles
from fleetops.journal.records import Loaded, RunFacts
from fleetops.journal.schema import APPLICATION_ID, SCHEMA_VERSION
from fleetops.journal.state import same_file
from fleetops.model import OPERATIONS, Outcome, Reason
from fleetops.policy import Policy
from fleetops.policy.exclusion import excluded
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleetops.journal.clock import RunClock
    from fleetops.journal.state import RunLock

_BUSY_S: Final = 30.0


def connect(path: Path, *, writable: bool, at_rest: bool = False) -> sqlite3.Connection:
    """Open a journal file.

    Args:
        path: The file.
        writable: Whether it is to be written.
        at_rest: Whether nobody else has it open, and it has no -wal file: then none is made for reading it, which
            nobody would clear away.

    Raises:
        UsageError: There is none.
        JournalError: It is not one of ours, or it is damaged.
    """
    mode = "rw" if writable else "ro&immutable=1" if at_rest else "ro"
    connection = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=_BUSY_S,
            check_same_thread=False,
        )
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if writable:
            connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if not path.exists():
            raise no_such_run(path.stem) from None
        raise damaged(path, error) from None
    if (application_id, version) != (APPLICATION_ID, SCHEMA_VERSION):
        connection.close()
        raise _not_ours(path, application_id, version)
    return connection


def _not_ours(path: Path, application_id: int, version: int) -> JournalError:
    if application_id == APPLICATION_ID and version > SCHEMA_VERSION:
        return JournalError(
            f"the journal {path} was written by a newer version of fleetops",
            hint="nothing was sent; use that version for this run",
        )
    return JournalError(
        f"{path} is not a journal that this version of fleetops can read",
        hint="nothing was sent. The file was cut or overwritten: put it back from where it was saved",
    )


def no_such_run(run_id: str) -> UsageError:
    """What to say where there is no journal of that run."""
    return UsageError(f"there is no run {run_id} on this host", hint="`fleetops runs` lists those there are")


UNREADABLE: Final = (sqlite3.Error, ValueError, TypeError, LookupError)
"""What comes of reading a damaged journal: SQLite's own errors, and rows that do not hold what the schema says."""


def cannot_write(path: Path, error: Exception) -> JournalError:
    """What to say of a journal that cannot be written, before anything is sent."""
    return JournalError(
        f"the journal {path} cannot be written: {error}",
        hint="nothing was sent; free the disk or make it writable, or name another place in FLEETOPS_STATE_DIR",
    )


def damaged(path: Path, error: Exception) -> JournalError:
    """What to say of a journal that cannot be read."""
    return JournalError(
        f"the journal {path} cannot be read: {error}",
        hint="nothing was sent. What can be saved of it: "
        f"`sqlite3 {path} .recover | sqlite3 recovered.db` (or .dump where that fails); do not start the campaign "
        "anew before the tables `attempt` and `result` in there were looked at",
    )


def read_facts(connection: sqlite3.Connection) -> RunFacts:
    """What the run is."""
    rows = {"plan": '""', **dict(connection.execute("SELECT key, value FROM run").fetchall())}
    values = {name: json.loads(rows[name]) for name in RunFacts.__slots__}
    values["carried_columns"] = tuple(values["carried_columns"])
    return RunFacts(**values)


class RunStore:
    """A run's journal, opened by the process that drives the run.

    Attributes:
        path: The file.
        asked_before: The number of the last command that was asked of an earlier process; 0 where there is none.
    """

    def __init__(self, connection: sqlite3.Connection, lock: RunLock, path: Path, clock: RunClock) -> None:
        self._connection = connection
        self._lock = lock
        self.path = path
        self._clock = clock
        self._file = path.stat()
        self.asked_before: int = connection.execute("SELECT coalesce(max(command), 0) FROM command").fetchone()[0]

    @classmethod
    def open(cls, path: Path, lock: RunLock, clock: RunClock) -> Self:
        """Open the journal of a run whose lock is held.

        Raises:
            JournalError: It is damaged, or it has lost its newest commits.
            UsageError: There is none.
        """
        with contextlib.ExitStack() as failed:
            connection = connect(path, writable=True)
            failed.callback(connection.close)
            try:
                store = cls(connection, lock, path, clock)
                commits, counted = store.commits(), lock.counted_commits()
                whole = store._has_all_attempts()
            except (OSError, *UNREADABLE) as error:
                raise damaged(path, error) from None
            if commits < counted:
                raise JournalError(
                    f"the journal {path} has lost its newest entries: it holds {commits} commits of {counted}",
                    hint="it was replaced by an older one, or its -wal file was removed or cut. Put them back from "
                    "where they were saved; resuming without them could send answered steps again",
                )
            if not whole:
                raise JournalError(
                    f"the journal {path} and its -wal file are not of one age: attempts that were counted are missing",
                    hint="one of the two was replaced by an older one. Put both back as they were saved together; "
                    "resuming without could send answered steps again",
                )
            failed.pop_all()
        return store

    def commits(self) -> int:
        """How many commits the journal holds."""
        row = self._connection.execute("SELECT value FROM run WHERE key = 'commits'").fetchone()
        return int(row[0])

    def _has_all_attempts(self) -> bool:
        """Whether no attempt or answer is missing; an older file under a newer -wal has the newest commits too."""
        attempts, answers = self._connection.execute("SELECT count(*), count(answered_ns) FROM attempt").fetchone()
        counted = dict(self._connection.execute("SELECT key, value FROM run WHERE key IN ('attempts', 'answers')"))
        return bool(attempts >= int(counted["attempts"]) and answers >= int(counted["answers"]))

    def load(self, *, now_ns: int) -> Loaded:
        """The run as the journal has it, with times in terms of this process's clock.

        Raises:
            JournalError: It is damaged.
        """
        try:
            facts = read_facts(self._connection)
            policy, steps = self._policy(), read_steps(self._connection)
            progress = read_progress(self._connection, self._clock, policy, steps, now_ns=now_ns)
            return Loaded(facts, policy, steps, progress)
        except UNREADABLE as error:
            raise damaged(self.path, error) from None

    @contextlib.contextmanager
    def changing(self, base_url: str | None, change_policy: Callable[[Policy], Policy]) -> Iterator[None]:
        """Set what the run goes on with where it differs from what it was started with.

        What is loaded in the body is so already; it stays so where the body ends well.

        Raises:
            JournalError: The journal cannot be read or written.
        """
        try:
            before = self._policy()
        except UNREADABLE as error:
            raise damaged(self.path, error) from None
        policy = change_policy(before)
        if policy == before and base_url is None:
            yield
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._change(base_url, before, policy)
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise cannot_write(self.path, error) from None
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _change(self, base_url: str | None, before: Policy, policy: Policy) -> None:
        self._write_fact("policy", policy.to_json())
        if base_url is not None:
            self._write_fact("base_url", json.dumps(base_url))
        for operation in OPERATIONS:
            before_ns, after_ns = before.settle.after_ns(operation), policy.settle.after_ns(operation)
            if before_ns != after_ns:
                self._connection.execute(
                    "UPDATE step SET settle_ns = ? WHERE operation = ? AND settle_ns = ?",
                    (after_ns, operation, before_ns),
                )
        longest_ns = self._connection.execute("SELECT coalesce(max(settle_ns), 0) FROM step").fetchone()[0]
        self._write_fact("longest_settle_ns", str(longest_ns))
        if (policy.allow, policy.deny) != (before.allow, before.deny):
            self._leave_out(policy)

    def _leave_out(self, policy: Policy) -> None:
        """End the open steps of the devices that the policy leaves out; a later policy does not let them in again."""
        serials = [serial for (serial,) in self._connection.execute("SELECT serial FROM device ORDER BY device")]
        left_out = excluded(policy, serials)
        now_ns = self._clock.now_ns()
        troubles, lost = read_troubles(self._connection, now_ns)
        crashed = frozenset(lost)
        rows = []
        for step, device in self._connection.execute(
            "SELECT step, device FROM step WHERE step NOT IN (SELECT step FROM result)"
        ).fetchall():
            if device not in left_out:
                continue
            trouble = troubles.get(step)
            may_have_run = Reason.CRASHED if step in crashed else trouble and trouble.may_have_run
            if may_have_run:
                rows.append((step, Outcome.UNKNOWN, may_have_run, now_ns))
            else:
                rows.append((step, Outcome.SKIPPED, left_out[device], now_ns))
        # Decided after the last process: what is decided before the first one has none, and is in no wave.
        self._connection.executemany("INSERT INTO result VALUES (?, ?, ?, ?, (SELECT max(process) FROM process))", rows)

    def _write_fact(self, key: str, value: str) -> None:
        self._connection.execute("UPDATE run SET value = ? WHERE key = ?", (value, key))

    def begin(self, policy: Policy, *, now_ns: int) -> GroupCommit:
        """Note that this process drives the run from now on, and take its notes.

        Raises:
            JournalError: The journal cannot be written.
        """
        try:
            cursor = self._connection.execute(
                "INSERT INTO process (pid, version, boot_id, wall_minus_boot_ns, started_ns, policy) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    os.getpid(),
                    __version__,
                    self._clock.boot_id,
                    self._clock.wall_minus_boot_ns,
                    now_ns,
                    policy.to_json(),
                ),
            )
            commits = self.commits()
            # The place for the count is taken while nothing is sent yet: on a full disk there may be none later.
            self._lock.count_commit(commits)
        except (OSError, sqlite3.Error) as error:
            raise cannot_write(self.path, error) from None
        process = cursor.lastrowid
        assert process is not None, "SQLite numbers the row"  # noqa: S101 - what an INSERT promises
        return GroupCommit(self._connection, self._lock, process, commits, in_place=self._in_place)

    def _in_place(self) -> bool:
        """Whether the journal and its lock are still the files that whoever takes up the run will find."""
        return self._lock.in_place() and same_file(self.path, self._file)

    def close(self) -> None:
        """Close the file and let go of the run."""
        try:
            self._connection.close()
        finally:
            self._lock.release()

    def _policy(self) -> Policy:
        row = self._connection.execute("SELECT value FROM run WHERE key = 'policy'").fetchone()
        return Policy.from_json(row[0])

    def last_end(self) -> str | None:
        """Why the last process that drove the run ended: a `StopReason`, or `crashed`; None where there was none."""
        return last_end(self._connection)
