"""Group commit: whatever was noted while the last commit ran is written by the next one.

No timer and no least size: an idle disk serves a single intent at once, and a busy one serves many together.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from fleetops.errors import JournalError
from fleetops.model import Outcome, ReplyKind
from fleetops.scheduler import Finish, Hold, Skip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetops.journal.state import RunLock
    from fleetops.model import Reply
    from fleetops.scheduler import Effect, Notice

_KIND_ACCEPTED: Final = ReplyKind.ACCEPTED
_OUTCOME_ACCEPTED: Final = Outcome.ACCEPTED
_FEW: Final = 16
_QUICK_S: Final = 0.002
"""So few rows are written without a thread, as long as the disk is so quick: to wake one takes longer than the disk."""
_BUSY_MS: Final = 30_000
_MAKE_ROOM: Final = "free the disk or make it writable, then resume: what is not recorded is treated as unknown"
_PUT_BACK: Final = "put it back, with its -wal and .lock files, then resume: what is not recorded is treated as unknown"
_INTENT: Final = "INSERT INTO attempt (step, attempt, process, intent_ns) VALUES (?, ?, ?, ?)"
_WITHDRAW: Final = "DELETE FROM attempt WHERE step = ? AND attempt = ? AND answered_ns IS NULL"
# Nearly every answer is one of these two, and every value that need not be bound is one less to convert.
_ACCEPTED: Final = (
    "UPDATE attempt SET sent_ns = ?, answered_ns = ?, kind = 'accepted', reason = NULL, http_status = ?, "
    "operation_id = ?, detail = '' WHERE step = ? AND attempt = ?"
)
_ACCEPTED_RESULT: Final = (
    "INSERT OR REPLACE INTO result (step, outcome, reason, finished_ns, process) VALUES (?, 'accepted', NULL, ?, ?)"
)
# What an earlier process left without an answer is answered by a later one, whose clock may differ: the time is kept in
# terms of the process that made the attempt, as all times of an attempt are.
_ANSWER: Final = (
    "UPDATE attempt SET sent_ns = ?, answered_ns = ? + coalesce((SELECT its.wall_minus_boot_ns - "
    "ours.wall_minus_boot_ns FROM process its JOIN process ours ON ours.boot_id = its.boot_id AND ours.boot_id <> '' "
    "WHERE its.process = attempt.process AND ours.process = ?), 0), kind = ?, reason = ?, http_status = ?, "
    "operation_id = ?, detail = ? WHERE step = ? AND attempt = ?"
)
# A step that was accepted has its row rewritten once its confirmation has come to something.
_RESULT: Final = "INSERT OR REPLACE INTO result (step, outcome, reason, finished_ns, process) VALUES (?, ?, ?, ?, ?)"
_EVENT: Final = "INSERT INTO event (at_ns, process, event, detail) VALUES (?, ?, ?, ?)"
_FACT: Final = "INSERT OR REPLACE INTO run (key, value) VALUES (?, ?)"
_COUNT: Final = "UPDATE run SET value = value + ? WHERE key = ?"


@dataclass(slots=True)
class Batch:
    """Rows that are to be written by one commit, and what whoever waits for it will learn."""

    intents: list[tuple[int, int, int, int]] = field(default_factory=list)
    withdrawn: list[tuple[int, int]] = field(default_factory=list)
    accepted: list[tuple[int, int, int | None, str | None, int, int]] = field(default_factory=list)
    answers: list[tuple[object, ...]] = field(default_factory=list)
    accepted_results: list[tuple[int, int, int]] = field(default_factory=list)
    results: list[tuple[object, ...]] = field(default_factory=list)
    events: list[tuple[object, ...]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(len(self) or self.facts)

    def __len__(self) -> int:
        """Its rows, but for facts."""
        return (
            len(self.intents)
            + len(self.withdrawn)
            + len(self.accepted)
            + len(self.answers)
            + len(self.accepted_results)
            + len(self.results)
            + len(self.events)
        )

    def ended(self, error: JournalError | None) -> None:
        """Wake those who wait for the commit."""
        for waiter in self.waiting:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def keep_answers_of(self, failed: Batch) -> None:
        """Take over what a failed commit left, but for its intents: those steps are not sent."""
        self.withdrawn[:0] = failed.withdrawn
        self.accepted[:0] = failed.accepted
        self.answers[:0] = failed.answers
        self.accepted_results[:0] = failed.accepted_results
        self.results[:0] = failed.results
        self.events[:0] = failed.events
        self.facts = {**failed.facts, **self.facts}


def fill(connection: sqlite3.Connection, batch: Batch, commits: int) -> None:
    """Write a batch into the open transaction, and with it how many commits, attempts and answers there are now."""
    attempts, answers = len(batch.intents), 0
    if batch.withdrawn:
        attempts -= connection.executemany(_WITHDRAW, batch.withdrawn).rowcount
    if batch.accepted:
        answers = connection.executemany(_ACCEPTED, batch.accepted).rowcount
    if batch.answers:
        answers += connection.executemany(_ANSWER, batch.answers).rowcount
    if batch.accepted_results:
        connection.executemany(_ACCEPTED_RESULT, batch.accepted_results)
    if batch.results:
        connection.executemany(_RESULT, batch.results)
    if batch.events:
        connection.executemany(_EVENT, batch.events)
    if batch.intents:
        connection.executemany(_INTENT, batch.intents)
    connection.executemany(_FACT, [*batch.facts.items(), ("commits", str(commits))])
    connection.executemany(_COUNT, [(attempts, "attempts"), (answers, "answers")])


class GroupCommit:
    """The journal of a run that is being driven, on SQLite."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: RunLock,
        process: int,
        commits: int,
        *,
        in_place: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._in_place = in_place
        self._process = process
        self._commits = commits
        self._batch = Batch()
        self._noted = False
        self._asleep: asyncio.Future[None] | None = None
        self._last_took_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = ThreadPoolExecutor(1, "journal")
        connection.execute("PRAGMA busy_timeout = 0")

    async def intend(self, step: int, attempt: int, now_ns: int) -> None:
        """Make it durable that `step` may be sent from now on; see `Journal.intend`."""
        batch = self._batch
        batch.intents.append((step, attempt, self._process, now_ns))
        # A future for each, since whoever waits may be cancelled; an event costs three times as much.
        waiter = (self._loop or asyncio.get_running_loop()).create_future()
        batch.waiting.append(waiter)
        self._note()
        await waiter

    def _note(self) -> None:
        """Something is there to be written."""
        self._noted = True
        if self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(None)

    def withdrawn(self, step: int, attempt: int) -> None:
        """The intended attempt did not leave."""
        # What a batch withdraws is taken out before its intents go in, so one of its own must not go in at all.
        intents = self._batch.intents
        intents[:] = [intent for intent in intents if intent[:2] != (step, attempt)]
        self._batch.withdrawn.append((step, attempt))
        self._note()

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
        """Note what came of an attempt, and what that changed; both are written by one commit."""
        kind, reason, http_status, operation_id, detail, _ = reply
        # An attempt whose sending is known is this process's own, and so are its times.
        if kind is _KIND_ACCEPTED and sent_ns is not None and reason is None and not detail:
            self._batch.accepted.append((sent_ns, answered_ns, http_status, operation_id, step, attempt))
        else:
            row = (sent_ns, answered_ns, self._process, kind, reason, http_status, operation_id, detail, step, attempt)
            self._batch.answers.append(row)
        self._note_effects(effects, answered_ns)

    def confirmed(self, effects: Sequence[Effect], now_ns: int) -> None:
        """Note what a look into the inventory changed; see `Journal.confirmed`."""
        self._note_effects(effects, now_ns)

    def happened(self, notices: Sequence[Notice]) -> None:
        """Note what happened to the run as a whole; see `Journal.happened`."""
        self._batch.events.extend((notice.at_ns, self._process, notice.event, notice.detail) for notice in notices)
        self._note()

    def _note_effects(self, effects: Sequence[Effect], now_ns: int) -> None:
        batch = self._batch
        for effect in effects:
            if isinstance(effect, Finish):
                step, outcome, reason = effect
                if outcome is _OUTCOME_ACCEPTED and reason is None:
                    batch.accepted_results.append((step, now_ns, self._process))
                else:
                    batch.results.append((step, outcome, reason, now_ns, self._process))
            elif isinstance(effect, Skip):
                batch.results.extend(
                    (skipped, "skipped", effect.reason, now_ns, self._process) for skipped in effect.steps
                )
            elif isinstance(effect, Hold):
                batch.facts["hold_until_ns"] = str(effect.until_ns)
        self._note()

    async def serve(self) -> None:
        """Write what is noted until cancelled."""
        # Which loop runs is known to this one; to look it up for each intent takes a system call.
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                if not self._noted:
                    self._asleep = self._loop.create_future()
                    await self._asleep
                    self._asleep = None
                await self._commit()
        finally:
            self._loop = None

    async def _commit(self) -> JournalError | None:
        """Write what is noted; why that failed, where it did."""
        self._noted = False
        batch, self._batch = self._batch, Batch()
        failed = None
        try:
            with anyio.CancelScope(shield=True):
                await self._write(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must not send
            failed = JournalError(
                f"the journal cannot be written: {error}",
                hint=_PUT_BACK if isinstance(error, FileNotFoundError) else _MAKE_ROOM,
            )
            self._batch.keep_answers_of(batch)
        else:
            self._commits += 1
            # The batch is durable all the same; without the count only a later loss of it would go unnoticed.
            with suppress(OSError):
                self._lock.count_commit(self._commits)
        finally:
            batch.ended(failed)
        return failed

    async def _write(self, batch: Batch) -> None:
        """Write a batch in one durable transaction.

        The rows go in here, where that costs a few microseconds each; the thread is for what waits for the disk, or for
        another process. Were they put in from the thread, it would have to get hold of the interpreter for every one.
        """
        if not self._in_place():
            # SQLite would go on writing into a file that nobody finds any more.
            raise FileNotFoundError("it was removed, moved or replaced")
        connection = self._connection
        try:
            if not self._begin():
                await self._in_thread(self._begin_patiently)
            fill(connection, batch, self._commits + 1)
            began_s = time.monotonic()
            if len(batch) <= _FEW and self._last_took_s < _QUICK_S:
                connection.execute("COMMIT")
            else:
                await self._in_thread(connection.execute, "COMMIT")
            self._last_took_s = time.monotonic() - began_s
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _begin(self) -> bool:
        """Open a transaction where that needs no waiting for another process's; whether it was."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    def _begin_patiently(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        finally:
            self._connection.execute("PRAGMA busy_timeout = 0")

    async def _in_thread(self, function: Callable[..., object], *args: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def close(self, *, now_ns: int, reason: str, detail: str) -> None:
        """Write what is left and note why this process ends; see `Journal.close`."""
        with anyio.CancelScope(shield=True):
            if self._batch and (failed := await self._commit()):
                raise failed
            await self._in_thread(self._end, now_ns, reason, detail)
            self._thread.shutdown()

    def _end(self, now_ns: int, reason: str, detail: str) -> None:
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            self._connection.execute(
                "UPDATE process SET ended_ns = ?, end_reason = ?, end_detail = ? WHERE process = ?",
                (now_ns, reason, detail, self._process),
            )
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal cannot be written: {error}",
                hint="check the rights and the free space of the state directory",
            ) from None
