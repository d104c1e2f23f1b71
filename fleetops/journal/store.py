"""Opening a run's journal to drive the run."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from array import array
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from fleetops.errors import JournalError, UsageError
from fleetops.journal.commits import GroupCommit
from fleetops.journal.records import Loaded, RunFacts
from fleetops.journal.schema import APPLICATION_ID, SCHEMA_VERSION
from fleetops.journal.state import same_file
from fleetops.model import CODE_OF, NS_PER_S, OPERATIONS, OUTCOMES, Outcome, Reason, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.policy.exclusion import excluded
from fleetops.policy.pacing import longest_attempt_ns
from fleetops.scheduler import Progress, StopReason, Trouble
from fleetops.scheduler.progress import finished_steps_matter
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence
    from pathlib import Path

    from fleetops.journal.clock import RunClock
    from fleetops.journal.state import RunLock

_BUSY_S: Final = 30.0
_FEW_ROWS: Final = 500
_NOT_ALIKE: Final = "SELECT EXISTS (SELECT 1 FROM step WHERE device <> step OR settle_ns <> ? OR operation <> ?)"
"""Whether the steps are anything else than one for each device, the same on all."""
_COUNTS_AS_FAILURE: Final = frozenset({ReplyKind.NOT_REACHED, ReplyKind.MAYBE})


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
            steps = self._steps()
            return Loaded(facts, self._policy(), steps, self._progress(steps, now_ns))
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
        troubles, lost = self._troubles(now_ns)
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

    def _steps(self) -> Steps:
        execute = self._connection.execute
        # No more rows than a few are ever held: the garbage collector would go through all of them time and again.
        serials = list(chain.from_iterable(execute("SELECT serial FROM device ORDER BY device")))
        groups: Sequence[str] = ()
        if execute("SELECT EXISTS (SELECT 1 FROM device WHERE grp <> '')").fetchone()[0]:
            groups = list(chain.from_iterable(execute("SELECT grp FROM device ORDER BY device")))
        codes = {operation.value: code for operation, code in CODE_OF.items()}
        count = execute("SELECT count(*) FROM step").fetchone()[0]
        alike = execute("SELECT settle_ns, operation FROM step LIMIT 1").fetchone()
        if alike is None or not execute(_NOT_ALIKE, alike).fetchone()[0]:
            settle_ns, name = alike or (0, OPERATIONS[0].value)
            return Steps(
                serials, groups, array("I", range(count)), bytes([codes[name]]) * count, array("q", [settle_ns]) * count
            )
        device_of, settle_ns_of, operations = array("I"), array("q"), bytearray()
        rows = execute("SELECT device, settle_ns, operation FROM step ORDER BY step")
        while chunk := rows.fetchmany(_FEW_ROWS):
            of_device, settle_ns, names = zip(*chunk, strict=True)
            device_of.extend(of_device)
            settle_ns_of.extend(settle_ns)
            operations.extend(map(codes.__getitem__, names))
        return Steps(serials, groups, device_of, bytes(operations), settle_ns_of)

    def _outcomes(self, steps: int) -> bytearray:
        """As `Progress.outcomes`. Nearly always, either few steps have one or few have another than `accepted`."""
        code_of: dict[str | None, int] = {outcome.value: code for code, outcome in enumerate(OUTCOMES, start=1)}
        code_of[None] = 0
        most, query = None, "SELECT step, outcome FROM result"
        if 2 * self._connection.execute("SELECT count(*) FROM result").fetchone()[0] > steps:
            most = Outcome.ACCEPTED.value
            query = "SELECT step, outcome FROM step LEFT JOIN result USING (step) WHERE outcome IS NOT 'accepted'"
        outcomes = bytearray([code_of[most]]) * steps
        for step, outcome in self._connection.execute(query):
            outcomes[step] = code_of[outcome]
        return outcomes

    def _progress(self, steps: Steps, now_ns: int) -> Progress:
        outcomes = self._outcomes(len(steps))
        troubles, lost = self._troubles(now_ns)
        settling = settling_devices(
            self._connection, self._clock, now_ns=now_ns, finished=finished_steps_matter(steps, self._policy())
        )
        return Progress(
            outcomes=outcomes,
            troubles=troubles,
            lost=lost,
            not_before_ns=settling.after_finished_ns,
            disturbed_until_ns=settling.after_any_ns,
            hold_until_ns=self._hold_until_ns(now_ns),
            unconfirmed=self._unconfirmed(steps, outcomes, troubles),
            gate_waived=self.last_end() == StopReason.GATE_FAILED,
            left_out_since=self._left_out_since(),
        )

    def _left_out_since(self) -> frozenset[int]:
        """The devices that a resume has left out."""
        rows = self._connection.execute(
            "SELECT DISTINCT device FROM result JOIN step USING (step) "
            "WHERE outcome = 'skipped' AND reason = 'excluded' AND result.process IS NOT NULL"
        )
        return frozenset(device for (device,) in rows)

    def _unconfirmed(self, steps: Steps, outcomes: bytearray, tried: Container[int]) -> dict[int, int]:
        """The accepted steps that are still to be confirmed: the last of their device that anything was done about."""
        confirm = self._policy().confirm
        if not confirm.enabled:
            return {}
        latest = array("I", bytes(4 * len(steps.serials)))
        for step, device in enumerate(steps.device_of):
            if outcomes[step] or step in tried:
                latest[device] = step
        accepted = self._connection.execute(
            "SELECT r.step, a.sent_ns FROM result r CROSS JOIN attempt a USING (step) "
            "WHERE r.outcome = 'accepted' AND r.reason IS NULL AND a.kind = 'accepted' ORDER BY r.step"
        )
        wanted = frozenset(confirm.operations)
        return {
            step: sent_ns
            for step, sent_ns in accepted
            if latest[steps.device_of[step]] == step and steps.operation(step) in wanted
        }

    def last_end(self) -> str | None:
        """Why the last process that drove the run ended: a `StopReason`, or `crashed`; None where there was none."""
        row = self._connection.execute("SELECT end_reason FROM process ORDER BY process DESC LIMIT 1").fetchone()
        return None if row is None else str(row[0] or "crashed")

    def _troubles(self, now_ns: int) -> tuple[dict[int, Trouble], list[int]]:
        """What open steps have behind them; the time a step may take in all starts anew."""
        troubles: dict[int, Trouble] = {}
        lost: list[int] = []
        rows = self._connection.execute(
            "SELECT step, kind, reason FROM attempt WHERE step NOT IN (SELECT step FROM result) ORDER BY step, attempt"
        )
        for step, kind_text, reason in rows:
            trouble = troubles.setdefault(step, Trouble(first_ns=now_ns))
            if kind_text is None:
                lost.append(step)
                continue
            kind = ReplyKind(kind_text)
            trouble.sends += 1
            trouble.failures += kind in _COUNTS_AS_FAILURE
            if kind.may_have_run:
                trouble.may_have_run = Reason(reason)
        return troubles, lost

    def _hold_until_ns(self, now_ns: int) -> int:
        """The hold that an earlier process was under, or the quiet time after its last send that keeps the rate."""
        last = self._connection.execute(
            "SELECT boot_id, wall_minus_boot_ns, process FROM process "
            "WHERE process = coalesce((SELECT max(process) FROM attempt), (SELECT max(process) FROM process))"
        ).fetchone()
        if last is None:
            return 0
        boot, wall_minus_boot_ns, process = last
        shift_ns = self._clock.shift_ns(boot, wall_minus_boot_ns)
        # An attempt without an answer left at some time before now.
        last_sent_ns: int = self._connection.execute(
            "SELECT coalesce(max(coalesce(sent_ns, answered_ns, ?)), 0) FROM attempt WHERE process = ?",
            (now_ns - shift_ns, process),
        ).fetchone()[0]
        row = self._connection.execute("SELECT value FROM run WHERE key = 'hold_until_ns'").fetchone()
        policy = self._policy()
        spacing_ns = round(NS_PER_S / min(1.0, policy.rate.per_s))
        quiet_until_ns = min(last_sent_ns + shift_ns, now_ns) + spacing_ns
        held_until_ns = int(row[0]) + shift_ns if row else 0
        return min(max(quiet_until_ns, held_until_ns), now_ns + max(policy.throttling.longest_hold_ns, spacing_ns))


class Settling(NamedTuple):
    """When devices will have settled from what a run last told them; those that have are left out.

    Attributes:
        after_finished_ns: By device, from steps that have their outcome.
        after_any_ns: By device, from whatever may have run, steps without an outcome included: within a run these back
            off for a shorter time, towards other runs and to its group the device is disturbed.
    """

    after_finished_ns: dict[int, int]
    after_any_ns: dict[int, int]


def settling_devices(
    connection: sqlite3.Connection, clock: RunClock, *, now_ns: int, finished: bool = True
) -> Settling:
    """The devices of a journal that still settle.

    Args:
        connection: The journal, of this run or of another.
        clock: The clock whose terms the times are wanted in.
        now_ns: The time now.
        finished: Whether steps that have their outcome count.
    """
    frames: dict[int, tuple[int, int]] = {}
    for process, boot, wall_minus_boot_ns, policy_json in connection.execute(
        "SELECT process, boot_id, wall_minus_boot_ns, policy FROM process"
    ):
        longest_ns = longest_attempt_ns(Policy.from_json(policy_json))
        frames[process] = (clock.shift_ns(boot, wall_minus_boot_ns), longest_ns)
    settling = Settling({}, {})
    # Coarse, so that one pass over the attempts does for all processes: settled in the terms of whichever of them.
    settled_ns = now_ns - max((shift_ns + lost_ns for shift_ns, lost_ns in frames.values()), default=0)
    longest_settle_ns = int(connection.execute("SELECT value FROM run WHERE key = 'longest_settle_ns'").fetchone()[0])
    rows = connection.execute(
        "SELECT s.device, s.settle_ns, a.process, a.answered_ns, coalesce(a.sent_ns, a.intent_ns) AS left_ns, "
        "r.step IS NOT NULL FROM attempt a CROSS JOIN step s USING (step) LEFT JOIN result r USING (step) "
        "WHERE (a.kind IS NULL OR a.kind IN ('accepted', 'maybe', 'bad_reply')) "
        # What is known of the attempt alone comes first, and spares most of them the look at their steps.
        "AND (? OR a.step NOT IN (SELECT step FROM result)) "
        "AND coalesce(a.answered_ns, a.sent_ns, a.intent_ns) > ? "
        "AND coalesce(a.answered_ns, a.sent_ns, a.intent_ns) + s.settle_ns > ?",
        (finished, settled_ns - longest_settle_ns, settled_ns),
    )
    for device, settle_ns, process, answered_ns, left_ns, has_outcome in rows:
        shift_ns, lost_ns = frames[process]
        over_ns = (left_ns + lost_ns if answered_ns is None else answered_ns) + shift_ns
        if over_ns + settle_ns > now_ns:
            due_ns = min(over_ns, now_ns) + settle_ns
            for due in settling if has_outcome else settling[1:]:
                due[device] = max(due.get(device, 0), due_ns)
    return settling


def final_outcomes(connection: sqlite3.Connection) -> dict[Outcome, int]:
    """How many steps have each final outcome."""
    rows = connection.execute("SELECT outcome, count(*) FROM result GROUP BY outcome")
    return {Outcome(outcome): count for outcome, count in rows}


def unfinished_serials(connection: sqlite3.Connection) -> Iterable[str]:
    """The serial numbers of the devices that have a step without an outcome."""
    rows = connection.execute(
        "SELECT serial FROM device WHERE device IN "
        "(SELECT device FROM step LEFT JOIN result USING (step) WHERE result.step IS NULL)"
    )
    return (serial for (serial,) in rows)
