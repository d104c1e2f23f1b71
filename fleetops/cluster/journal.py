"""The journal of a chunk that is being run, in the database.

Every write is one statement and one transaction, which carries the worker's hold on the chunk and is refused where
that was lost. It also has a number, so that one whose commit was not heard of can be told again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import psycopg

from fleetops.cluster.database import UNREACHABLE, first_line
from fleetops.errors import JournalError
from fleetops.model import Outcome, Reason
from fleetops.scheduler import Finish, Skip
from fleetops.scheduler import Hold as HoldEffect

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Sequence

    from psycopg_pool import AsyncConnectionPool

    from fleetops.model import Reply, Steps
    from fleetops.scheduler import Effect, Notice

_AGAIN_S: Final = 0.2
"""How long to wait before a database that is not there is tried again."""
_LEASE_LOST: Final = "FL001"
_TYPES: Final = {
    "withdrawn": ("int4", "int4"),
    "answers": ("int4", "int4", "int8", "int8", "text", "text", "int4", "text", "text"),
    "results": ("int4", "text", "text", "int8"),
    "tallies": ("int4", "text", "int4", "int8"),
    "events": ("int8", "text", "text"),
    "intents": ("int4", "int4", "int8"),
}
_WRITE: Final = (
    "SELECT write_chunk(%s, %s, %s, %s, %s, %s, %s, "
    + ", ".join(f"%s::{one}[]" for types in _TYPES.values() for one in types)
    + ")"
)


@dataclass(frozen=True, slots=True)
class Hold:
    """A worker's hold on a chunk.

    Attributes:
        run_id: The run.
        chunk: The chunk.
        worker: The worker.
        epoch: The number of the hold.
        drive: The drive of the run that it belongs to.
    """

    run_id: str
    chunk: int
    worker: int
    epoch: int
    drive: int


@dataclass(slots=True)
class _Batch:
    """Rows that are to be written by one commit, and what whoever waits for it will learn."""

    withdrawn: list[tuple[int, int]] = field(default_factory=list)
    answers: list[tuple[Any, ...]] = field(default_factory=list)
    results: list[tuple[Any, ...]] = field(default_factory=list)
    tallies: list[tuple[int, str, int, int]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    intents: list[tuple[int, int, int]] = field(default_factory=list)
    hold_until_ns: int = 0
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    error: JournalError | None = None

    def __bool__(self) -> bool:
        return bool(self.withdrawn or self.answers or self.results or self.events or self.intents)

    async def written(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        await waiter
        if self.error is not None:
            raise self.error

    def ended(self) -> None:
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)

    def keep_answers_of(self, failed: _Batch) -> None:
        """Take over what a failed commit left, but for its intents: those steps are not sent."""
        for name in ("withdrawn", "answers", "results", "tallies", "events"):
            getattr(self, name)[:0] = getattr(failed, name)
        self.hold_until_ns = max(self.hold_until_ns, failed.hold_until_ns)

    def values(self) -> list[list[Any]]:
        """The rows as columns, for as many arrays."""
        columns: list[list[Any]] = []
        for name, types in _TYPES.items():
            rows = self._summed() if name == "tallies" else getattr(self, name)
            columns += [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in types]
        return columns

    def _summed(self) -> list[tuple[int, str, int, int]]:
        counts: Counter[tuple[int, str]] = Counter()
        last: dict[tuple[int, str], int] = {}
        for operation, outcome, steps, at_ns in self.tallies:
            counts[operation, outcome] += steps
            last[operation, outcome] = max(last.get((operation, outcome), 0), at_ns)
        return [(operation, outcome, steps, last[operation, outcome]) for (operation, outcome), steps in counts.items()]


class ChunkJournal:
    """The `Journal` of a chunk.

    Args:
        pool: Connections to the database.
        hold: The hold on the chunk.
        numbers: By step of the chunk, its number in the campaign.
        steps: The chunk's steps.
        confident: Whether the lease may still last. While it does, a database that cannot be reached is waited for.
        committed: Called after each commit, with whether a step that failed or may have run was in it.

    Attributes:
        failed: Whether something could not be written.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        hold: Hold,
        numbers: array[int],
        steps: Steps,
        *,
        confident: Callable[[], bool],
        committed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._hold = hold
        self._numbers = numbers
        self._steps = steps
        self._confident = confident
        self._committed = committed
        self.failed = False
        self._number = 0
        self._batch = _Batch()
        self._noted = anyio.Event()

    async def intend(self, step: int, attempt: int, now_ns: int) -> None:
        """Make it durable that `step` may be sent from now on; see `Journal.intend`."""
        batch = self._batch
        batch.intents.append((self._numbers[step], attempt, now_ns))
        self._noted.set()
        await batch.written()

    def withdrawn(self, step: int, attempt: int) -> None:
        """The intended attempt did not leave."""
        number = self._numbers[step]
        intents = self._batch.intents
        intents[:] = [intent for intent in intents if intent[:2] != (number, attempt)]
        self._batch.withdrawn.append((number, attempt))
        self._noted.set()

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
        self._batch.answers.append(
            (
                self._numbers[step],
                attempt,
                sent_ns,
                answered_ns,
                str(reply.kind),
                None if reply.reason is None else str(reply.reason),
                reply.http_status,
                reply.operation_id,
                reply.detail,
            )
        )
        self._note_effects(effects, answered_ns)

    def confirmed(self, effects: Sequence[Effect], now_ns: int) -> None:
        """Note what a look into the inventory changed; see `Journal.confirmed`."""
        for effect in effects:
            if isinstance(effect, Finish):
                # The step was counted when it was accepted.
                code = self._steps.operation_of[effect.step]
                self._batch.tallies.append((code, str(Outcome.ACCEPTED), -1, 0))
        self._note_effects(effects, now_ns)

    def happened(self, notices: Sequence[Notice]) -> None:
        """Note what happened to the run as a whole; see `Journal.happened`."""
        self._batch.events.extend((notice.at_ns, str(notice.event), notice.detail) for notice in notices)
        self._noted.set()

    def _note_effects(self, effects: Sequence[Effect], now_ns: int) -> None:
        for effect in effects:
            if isinstance(effect, Finish):
                self._note_result(effect.step, effect.outcome, effect.reason, now_ns)
            elif isinstance(effect, Skip):
                for step in effect.steps:
                    self._note_result(step, Outcome.SKIPPED, effect.reason, now_ns)
            elif isinstance(effect, HoldEffect):
                self._batch.hold_until_ns = max(self._batch.hold_until_ns, effect.until_ns)
        self._noted.set()

    def _note_result(self, step: int, outcome: Outcome, reason: Reason | None, now_ns: int) -> None:
        batch = self._batch
        batch.results.append((self._numbers[step], str(outcome), None if reason is None else str(reason), now_ns))
        # A gate and a budget take an accepted step that was not confirmed for one of which nothing is known.
        counted = "not_confirmed" if outcome is Outcome.ACCEPTED and reason is Reason.NOT_CONFIRMED else str(outcome)
        batch.tallies.append((self._steps.operation_of[step], counted, 1, now_ns))

    async def serve(self) -> None:
        """Write what is noted until cancelled."""
        while True:
            await self._noted.wait()
            await self._commit()

    async def _commit(self) -> None:
        self._noted = anyio.Event()
        batch, self._batch = self._batch, _Batch()
        try:
            with anyio.CancelScope(shield=True):
                await self._write(batch)
        except JournalError as error:
            self.failed = True
            batch.error = error
            self._batch.keep_answers_of(batch)
        else:
            self._committed(any(row[1] in _BAD for row in batch.results))
        finally:
            batch.ended()

    async def _write(self, batch: _Batch) -> None:
        self._number += 1
        hold = self._hold
        key = (hold.run_id, hold.chunk, hold.worker, hold.epoch, self._number, hold.drive, batch.hold_until_ns)
        values = [*key, *batch.values()]
        while True:
            try:
                async with self._pool.connection() as connection:
                    await connection.execute(_WRITE, values)
            except UNREACHABLE as error:
                if not self._confident():
                    raise _cannot_write(error) from None
                await anyio.sleep(_AGAIN_S)
            except psycopg.Error as error:
                raise _refused(error) if error.sqlstate == _LEASE_LOST else _cannot_write(error) from None
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must not send
                raise _cannot_write(error) from None
            else:
                return

    async def close(self, *, now_ns: int, reason: str, detail: str) -> None:  # noqa: ARG002 - how a chunk ends is for the worker to say
        """Write what is left; see `Journal.close`."""
        with anyio.CancelScope(shield=True):
            last = self._batch
            if last:
                await self._commit()
                if last.error is not None:
                    raise last.error


_BAD: Final = frozenset({str(Outcome.FAILED), str(Outcome.UNKNOWN)})


def _cannot_write(error: Exception) -> JournalError:
    return JournalError(
        f"the journal cannot be written: {first_line(error)}",
        hint="mend the database; another worker goes on with the chunk, and what is not recorded is treated as unknown",
    )


def _refused(error: Exception) -> JournalError:
    return JournalError(
        f"the journal refuses this worker: {first_line(error)}",
        hint="another worker has the chunk; nothing is to be done",
    )
