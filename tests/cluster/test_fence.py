"""Who has a chunk, and that nobody else writes about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.cluster.journal import ChunkJournal, Hold
from fleetops.cluster.submit import submit
from fleetops.errors import JournalError
from fleetops.model import Operation, Outcome
from fleetops.policy import Policy
from fleetops.scheduler import Finish
from tests.cluster.kept import Direct, claim, do, new_worker, one, read
from tests.journal.runs import ACCEPTED, RUN_ID, S, new_run, rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POLICY = Policy()


def prepared(url: str, devices: int = 4) -> None:
    submit(url, new_run(rows(devices, Operation.SYNC), POLICY), queue="default", devices_per_chunk=devices)


def journal(url: str, worker: int, epoch: int) -> ChunkJournal:
    loaded = read(url, RUN_ID, 0, POLICY, 0)
    return ChunkJournal(
        Direct(url),  # type: ignore[arg-type]  # has what is used of a pool
        Hold(RUN_ID, 0, worker, epoch, 1),
        loaded.numbers,
        loaded.steps,
        confident=lambda: False,
    )


async def serving(kept: ChunkJournal, use: Callable[[], Awaitable[object]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kept.serve)
        await use()
        tasks.cancel_scope.cancel()


def accept(kept: ChunkJournal, step: int) -> None:
    kept.answered(step, 1, sent_ns=1, answered_ns=2, reply=ACCEPTED, effects=[Finish(step, Outcome.ACCEPTED)])


def test_a_chunk_is_held_by_one_worker_while_its_lease_lasts(database: str) -> None:
    prepared(database)
    first, second = new_worker(database), new_worker(database)
    assert claim(database, RUN_ID, 0, first) == 1
    assert claim(database, RUN_ID, 0, second) is None
    do(database, "UPDATE worker SET lease_ns = now_ns() - 1 WHERE worker = %s", first)
    assert claim(database, RUN_ID, 0, second) == 2


def test_a_chunk_is_not_taken_before_its_time_nor_when_its_run_is_stopped_or_over(database: str) -> None:
    prepared(database)
    worker = new_worker(database)
    for change in ("starts_ns = now_ns() + 1000000000", "starts_ns = 0, stop_reason = 'aborted'", "ended_ns = 1"):
        do(database, f"UPDATE run SET {change}")
        assert claim(database, RUN_ID, 0, worker) is None
    do(database, "UPDATE run SET stop_reason = NULL, ended_ns = NULL")
    do(database, "UPDATE chunk SET wave = 1")
    assert claim(database, RUN_ID, 0, worker) is None
    do(database, "UPDATE run SET wave = 1")
    assert claim(database, RUN_ID, 0, worker) == 1
    do(database, "UPDATE chunk SET state = 'done'")
    assert claim(database, RUN_ID, 0, worker) is None


@pytest.mark.anyio
async def test_what_a_worker_writes_after_it_lost_its_chunk_is_refused(database: str) -> None:
    prepared(database)
    first = new_worker(database)
    assert claim(database, RUN_ID, 0, first) == 1
    kept = journal(database, first, 1)
    await serving(kept, lambda: kept.intend(0, 1, 1))
    do(database, "UPDATE worker SET lease_ns = 0")
    assert claim(database, RUN_ID, 0, new_worker(database)) == 2
    accept(kept, 0)
    with pytest.raises(JournalError, match="lease on chunk 0 was lost"):
        await kept.close(now_ns=1, reason="complete", detail="")

    async def send() -> None:
        with pytest.raises(JournalError, match="lease on chunk 0 was lost"):
            await kept.intend(1, 1, 1)

    await serving(kept, send)
    assert one(database, "SELECT count(*) FROM attempt WHERE answered_ns IS NULL AND step = 0") == 1
    assert one(database, "SELECT count(*) FROM attempt WHERE step = 1") == 0
    assert one(database, "SELECT count(*) FROM result") == 0


def test_a_batch_whose_commit_was_not_heard_of_counts_once_when_it_is_told_again(database: str) -> None:
    prepared(database)
    worker = new_worker(database)
    assert claim(database, RUN_ID, 0, worker) == 1
    empty = ", ".join(["'{}'"] * 11)
    for _ in range(2):
        do(
            database,
            f"SELECT write_chunk(%s, 0, %s, 1, 1, 1, 0, {empty}, '{{0}}', '{{accepted}}', '{{null}}', '{{5}}', "
            "'{3}', '{accepted}', '{1}', '{5}', '{5}', '{rate}', '{10/s}', '{1}', '{1}', '{7}')",
            RUN_ID,
            worker,
        )
    assert one(database, "SELECT steps FROM tally") == 1
    assert one(database, "SELECT count(*) FROM event") == 1
    assert one(database, "SELECT count(*) FROM attempt") == 1


@pytest.mark.anyio
async def test_tallies_follow_the_results_and_a_confirmation_moves_a_step(database: str) -> None:
    prepared(database)
    worker = new_worker(database)
    assert claim(database, RUN_ID, 0, worker) == 1
    kept = journal(database, worker, 1)
    for step in range(3):
        accept(kept, step)
    kept.confirmed([Finish(0, Outcome.CONFIRMED)], 5)
    await kept.close(now_ns=1, reason="complete", detail="")

    def tallies() -> dict[str, int]:
        counted = one(database, "SELECT json_object_agg(outcome, steps) FROM tally WHERE steps <> 0")
        return dict(counted)

    assert tallies() == {"accepted": 2, "confirmed": 1}
    do(database, "SELECT count_again(%s)", RUN_ID)
    assert tallies() == {"accepted": 2, "confirmed": 1}


@pytest.mark.anyio
async def test_a_database_that_is_away_is_waited_for_while_the_lease_lasts(database: str) -> None:
    prepared(database)
    worker = new_worker(database)
    assert claim(database, RUN_ID, 0, worker) == 1
    kept = journal(database, worker, 1)
    away = iter([True, True, False])
    real = kept._pool

    class Away:
        def connection(self) -> object:
            if next(away):
                raise OSError("away")
            return real.connection()

    kept._pool = Away()  # type: ignore[assignment]  # has what is used of a pool
    kept._confident = lambda: True
    await serving(kept, lambda: kept.intend(0, 1, S))
    assert one(database, "SELECT count(*) FROM attempt") == 1
