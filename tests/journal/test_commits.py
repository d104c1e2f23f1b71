"""What is of SQLite alone; what every journal has to do is in `test_conformance`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.policy import Policy
from tests.journal.runs import S, create, new_run, open_store, rows, state_dir

if TYPE_CHECKING:
    from pathlib import Path

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
