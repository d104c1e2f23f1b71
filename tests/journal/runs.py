"""New runs in a state directory of their own, and what it takes to drive them by hand."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from fleetops.journal import NewRun, RunClock, RunFacts, RunStore, StateDir, create_journal
from fleetops.journal.commits import fill
from fleetops.model import NS_PER_S, Operation, Reason, Reply, ReplyKind, Steps
from fleetops.policy import Policy

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleetops.journal.commits import Batch

RUN_ID = "20260102-030405-6f7a"
BASE_URL = "https://control.example/api/v1"
ACCEPTED = Reply(ReplyKind.ACCEPTED, http_status=200, operation_id="17")
LOST = Reply(ReplyKind.MAYBE, Reason.CONNECTION_LOST)
UNREACHABLE = Reply(ReplyKind.NOT_REACHED, Reason.UNREACHABLE)
S = NS_PER_S

Row = tuple[str, Operation, int]


def rows(count: int, operation: Operation = Operation.SYNC, settle_ns: int = 10 * S) -> list[Row]:
    return [(f"SN{number:04}", operation, settle_ns) for number in range(count)]


def new_run(
    steps: Sequence[Row] | Steps,
    policy: Policy | None = None,
    *,
    run_id: str = RUN_ID,
    base_url: str = BASE_URL,
    skipped: Mapping[int, Reason] | None = None,
    groups: Sequence[str] = (),
) -> NewRun:
    facts = RunFacts(run_id, "routers.csv", "0" * 64, "returned routers", base_url, 1_767_322_800 * S, ("site",))
    steps = steps if isinstance(steps, Steps) else Steps.of(steps, groups)
    return NewRun(facts, policy or Policy(), steps, skipped=skipped or {})


def state_dir(root: Path) -> StateDir:
    state = StateDir(root)
    state.prepare()
    return state


def create(state: StateDir, new: NewRun) -> Path:
    path = state.journal_path(new.facts.run_id)
    create_journal(path, new)
    return path


def open_store(state: StateDir, run_id: str = RUN_ID, clock: RunClock | None = None) -> RunStore:
    with ExitStack() as failed:
        lock = state.lock_run(run_id)
        failed.callback(lock.release)
        store = RunStore.open(state.journal_path(run_id), lock, clock or RunClock())
        failed.pop_all()
    return store


def write(connection: sqlite3.Connection, batch: Batch, commits: int) -> None:
    """One commit."""
    connection.execute("BEGIN IMMEDIATE")
    fill(connection, batch, commits)
    connection.execute("COMMIT")
