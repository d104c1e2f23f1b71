"""What is of SQLite alone; what every journal has to do is in `test_conformance`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.model import Outcome, Reason, Reply, ReplyKind
from fleetops.policy import Policy
from fleetops.scheduler import Finish
from tests.journal.runs import ACCEPTED, S, create, new_run, open_store, rows, state_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetops.journal.commits import GroupCommit

T0 = 1_767_322_900 * S


@pytest.mark.anyio
async def test_another_process_that_writes_is_waited_for_and_holds_up_nothing_else(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    path = create(state, new_run(rows(3)))
    store = open_store(state)
    journal = store.begin(Policy(), now_ns=T0)
    durable = anyio.Event()

    async def intend() -> None:
        await journal.intend(0, 1, T0)
        durable.set()

    with closing(store), closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            tasks.start_soon(intend)
            for _ in range(20):
                # The event loop goes on meanwhile, or this would wait for the patience with the other process to end.
                await anyio.sleep(0.01)
            assert not durable.is_set()
            other.execute("COMMIT")
            with anyio.fail_after(20):
                await durable.wait()
            tasks.cancel_scope.cancel()
        await journal.close(now_ns=T0 + S, reason="complete", detail="")
        assert other.execute("SELECT step, intent_ns FROM attempt").fetchall() == [(0, T0)]
        assert other.execute("SELECT end_reason FROM process").fetchall() == [("complete",)]


async def rows_of(tmp_path: Path, note: Callable[[GroupCommit], None]) -> dict[str, list[tuple[object, ...]]]:
    """What a journal holds of its one step, which was intended, once what `note` notes is written."""
    state = state_dir(tmp_path)
    path = create(state, new_run(rows(1)))
    store = open_store(state)
    journal = store.begin(Policy(), now_ns=T0)
    with closing(store), closing(sqlite3.connect(path)) as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            await journal.intend(0, 1, T0)
            tasks.cancel_scope.cancel()
        note(journal)
        await journal.close(now_ns=T0 + S, reason="complete", detail="")
        tables = {table: other.execute(f"SELECT * FROM {table}").fetchall() for table in ("attempt", "result")}
        return {**tables, "answers": other.execute("SELECT value FROM run WHERE key = 'answers'").fetchall()}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "sent_ns", "finish"),
    [
        (ACCEPTED, T0 + 1, Finish(0, Outcome.ACCEPTED)),
        (ACCEPTED._replace(operation_id=None), T0 + 1, Finish(0, Outcome.ACCEPTED)),
        (ACCEPTED, None, Finish(0, Outcome.ACCEPTED)),
        (ACCEPTED._replace(detail="in its own words"), T0 + 1, Finish(0, Outcome.ACCEPTED)),
        (ACCEPTED, T0 + 1, Finish(0, Outcome.ACCEPTED, Reason.NOT_CONFIRMED)),
        (ACCEPTED, T0 + 1, Finish(0, Outcome.CONFIRMED)),
        (Reply(ReplyKind.REFUSED, Reason.NOT_FOUND, 404, detail="no such device"), T0 + 1, Finish(0, Outcome.FAILED)),
    ],
)
async def test_every_answer_is_kept_as_it_came_the_usual_one_too(
    tmp_path: Path, reply: Reply, sent_ns: int | None, finish: Finish
) -> None:
    def note(journal: GroupCommit) -> None:
        journal.answered(0, 1, sent_ns=sent_ns, answered_ns=T0 + 2, reply=reply, effects=[finish])

    kind, reason, http_status, operation_id, detail, _ = reply
    assert await rows_of(tmp_path, note) == {
        "attempt": [(0, 1, 1, T0, sent_ns, T0 + 2, kind, reason, http_status, operation_id, detail)],
        "result": [(0, finish.outcome, finish.reason, T0 + 2, 1)],
        "answers": [("1",)],
    }


@pytest.mark.anyio
async def test_a_confirmation_is_kept_over_the_acceptance_that_the_same_commit_writes(tmp_path: Path) -> None:
    def note(journal: GroupCommit) -> None:
        accepted = [Finish(0, Outcome.ACCEPTED)]
        journal.answered(0, 1, sent_ns=T0 + 1, answered_ns=T0 + 2, reply=ACCEPTED, effects=accepted)
        journal.confirmed([Finish(0, Outcome.CONFIRMED)], T0 + 3)

    assert (await rows_of(tmp_path, note))["result"] == [(0, "confirmed", None, T0 + 3, 1)]
