from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.errors import ExitCode, HostError, JournalError, RunBusyError, UsageError
from fleetops.journal import RunClock, StateDir, default_state_dir
from fleetops.journal.schema import SCHEMA_VERSION
from fleetops.model import OUTCOMES, Operation, Outcome, Reason
from fleetops.policy import Policy
from fleetops.scheduler import Finish, StopReason
from tests.journal.runs import ACCEPTED, LOST, RUN_ID, UNREACHABLE, S, create, new_run, open_store, rows, state_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetops.journal.commits import GroupCommit
    from fleetops.model import Reply

T0 = 1_767_330_000 * S


class Clock(RunClock):
    """A clock that a test sets."""

    def __init__(self, boot: str = "this boot", wall_minus_boot_ns: int = T0) -> None:
        self.boot_id = boot
        self.wall_minus_boot_ns = wall_minus_boot_ns


def send(journal: GroupCommit, step: int, reply: Reply | None, at_ns: int, outcome: Outcome | None = None) -> None:
    """Have a step sent and answered, and written down."""

    async def use() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.serve)
            await journal.intend(step, 1, at_ns)
            tasks.cancel_scope.cancel()
        if reply is not None:
            effects = [Finish(step, outcome, reply.reason)] if outcome else []
            journal.answered(step, 1, sent_ns=at_ns, answered_ns=at_ns, reply=reply, effects=effects)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(journal.serve)
                await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()

    anyio.run(use)


def test_only_its_owner_can_read_a_journal_and_what_belongs_to_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state = state_dir(tmp_path / "state")
        path = create(state, new_run(rows(2)))
        store = open_store(state)
        send(store.begin(Policy(), now_ns=T0), 0, ACCEPTED, T0, Outcome.ACCEPTED)
        files = {file.name.removeprefix(RUN_ID): stat.S_IMODE(file.stat().st_mode) for file in state.runs.iterdir()}
        with state.claiming():
            pass
    finally:
        os.umask(before)
    assert files == dict.fromkeys((".db", ".db-wal", ".db-shm", ".lock"), 0o600)
    for place in (state.root, state.runs):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((state.root / "claims.lock").stat().st_mode) == 0o600
    store.close()
    assert path.exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def garbage_inside(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def zeros_inside(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)


def of_another_program(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE song (title TEXT)")
    connection.close()


def rewritten(statement: str) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    return rewrite


DAMAGE: list[Callable[[Path], None]] = [
    cut,
    cut_in_the_header,
    empty,
    garbage,
    garbage_inside,
    zeros_inside,
    of_another_program,
    rewritten("DELETE FROM run"),
    rewritten("UPDATE run SET value = 'x' WHERE key = 'commits'"),
    rewritten("UPDATE run SET value = '{' WHERE key = 'base_url'"),
    rewritten("UPDATE run SET value = '{\"rate\": \"no\"}' WHERE key = 'policy'"),
    rewritten("UPDATE step SET operation = 'explode'"),
    rewritten("INSERT INTO result VALUES (999999, 'accepted', NULL, 0, NULL)"),
    rewritten("INSERT INTO result VALUES (1, 'splendid', NULL, 0, NULL)"),
    rewritten("INSERT INTO attempt (step, attempt, process, intent_ns, kind) VALUES (1, 1, 1, 1, 'odd')"),
    rewritten("DROP TABLE command"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_is_refused_in_words(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    state = state_dir(tmp_path)
    path = create(state, new_run(rows(400)))
    damage(path)
    with pytest.raises(JournalError) as caught:
        _open_and_load(state)
    assert str(path) in caught.value.message
    assert caught.value.hint is not None
    assert "nothing was sent" in caught.value.hint
    state.lock_run(RUN_ID).release()


def _open_and_load(state: StateDir) -> None:
    store = open_store(state)
    try:
        store.load(now_ns=T0)
    finally:
        store.close()


def test_a_journal_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    rewritten(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")(create(state, new_run(rows(2))))
    with pytest.raises(JournalError, match="written by a newer version of fleetops"):
        open_store(state)


def test_a_journal_that_lost_its_newest_commits_is_refused(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    path = create(state, new_run(rows(4)))
    store = open_store(state)
    journal = store.begin(Policy(), now_ns=T0)
    older = tmp_path / "older.db"
    shutil.copy(path, older)
    send(journal, 0, ACCEPTED, T0, Outcome.ACCEPTED)
    wal = path.with_name(f"{path.name}-wal")
    shutil.copy(wal, tmp_path / "saved-wal")
    store.close()
    shutil.copy(older, path)
    with pytest.raises(JournalError, match=r"has lost its newest entries: it holds 0 commits of 2"):
        open_store(state)
    wal.write_bytes((tmp_path / "saved-wal").read_bytes())
    store = open_store(state)
    assert store.commits() == 2
    store.close()


def test_a_count_that_lags_behind_or_is_gone_keeps_nobody_from_going_on(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(4)))
    store = open_store(state)
    send(store.begin(Policy(), now_ns=T0), 0, ACCEPTED, T0, Outcome.ACCEPTED)
    store.close()
    state.lock_path(RUN_ID).write_bytes((1).to_bytes(8, "big"))
    open_store(state).close()
    state.lock_path(RUN_ID).unlink()
    open_store(state).close()


def test_a_count_that_cannot_be_written_stops_nothing_that_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(4)))
    store = open_store(state)
    journal = store.begin(Policy(), now_ns=T0)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        send(journal, 0, ACCEPTED, T0, Outcome.ACCEPTED)
        with pytest.raises(JournalError, match="No space left") as caught:
            store.begin(Policy(), now_ns=T0)
    assert caught.value.hint is not None
    assert "nothing was sent" in caught.value.hint
    assert store.load(now_ns=T0).progress.outcomes[0] == 1
    store.close()


def test_a_run_that_died_before_its_first_process_can_be_taken_up(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(3), skipped={1: Reason.OFFLINE}))
    store = open_store(state)
    progress = store.load(now_ns=T0).progress
    store.close()
    assert bytes(progress.outcomes) == bytes((0, 5, 0))
    assert not progress.hold_until_ns
    assert not progress.gate_waived


def test_a_step_that_may_have_run_is_told_from_one_that_cannot_have(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(4)))
    store = open_store(state)
    journal = store.begin(Policy(), now_ns=T0)
    send(journal, 0, LOST, T0)
    send(journal, 1, UNREACHABLE, T0)
    send(journal, 2, None, T0)
    progress = store.load(now_ns=T0 + S).progress
    store.close()
    troubles = progress.troubles
    assert [troubles[step].may_have_run for step in (0, 1, 2)] == [Reason.CONNECTION_LOST, None, None]
    assert [troubles[step].sends for step in (0, 1, 2)] == [1, 1, 0]
    assert progress.lost == [2]
    assert not progress.not_before_ns
    assert set(progress.disturbed_until_ns) == {0, 2}


@pytest.mark.parametrize(
    ("theirs", "mine", "left_s"),
    [
        pytest.param(Clock(), Clock(), 60, id="the same clock"),
        pytest.param(Clock(), Clock(wall_minus_boot_ns=T0 + 3600 * S), 60, id="the wall clock was put forward"),
        pytest.param(Clock(), Clock(wall_minus_boot_ns=T0 - 3600 * S), 60, id="the wall clock was put back"),
        pytest.param(Clock(boot="before"), Clock(), 60, id="the host was restarted"),
        pytest.param(Clock(boot=""), Clock(boot=""), 60, id="no boot id"),
    ],
)
def test_a_settle_time_lasts_as_long_as_it_should_whatever_is_done_to_the_clock(
    tmp_path: Path, theirs: Clock, mine: Clock, left_s: int
) -> None:
    state = state_dir(tmp_path)
    create(state, new_run([("A", Operation.SYNC, 100 * S), ("A", Operation.SYNC, 100 * S)]))
    store = open_store(state, clock=theirs)
    send(store.begin(Policy(), now_ns=T0), 0, ACCEPTED, T0, Outcome.ACCEPTED)
    store.close()
    now_ns = T0 + 40 * S + mine.wall_minus_boot_ns - theirs.wall_minus_boot_ns
    store = open_store(state, clock=mine)
    progress = store.load(now_ns=now_ns).progress
    store.close()
    assert progress.not_before_ns == {0: now_ns + left_s * S}
    assert progress.hold_until_ns <= now_ns + S


def test_a_time_that_lies_ahead_after_a_restart_is_taken_for_now(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run([("A", Operation.SYNC, 100 * S), ("A", Operation.RECONF, 0)]))
    store = open_store(state, clock=Clock(boot="before"))
    send(store.begin(Policy(), now_ns=T0), 0, ACCEPTED, T0, Outcome.ACCEPTED)
    store.close()
    now_ns = T0 - 86_400 * S
    store = open_store(state, clock=Clock())
    progress = store.load(now_ns=now_ns).progress
    store.close()
    assert progress.not_before_ns == {0: now_ns + 100 * S}
    assert progress.hold_until_ns == now_ns + S


def test_the_quiet_time_after_the_last_send_is_that_of_the_rate_that_is_gone_on_with(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    clock = Clock()
    create(state, new_run(rows(3), Policy.model_validate({"rate": "1/h"})))
    store = open_store(state, clock=clock)
    send(store.begin(Policy(), now_ns=T0), 0, ACCEPTED, T0, Outcome.ACCEPTED)
    assert store.load(now_ns=T0 + 2 * S).progress.hold_until_ns == T0 + 3600 * S
    with store.changing(None, lambda _: Policy()):
        assert store.load(now_ns=T0 + 2 * S).progress.hold_until_ns == T0 + S
    store.close()


def test_a_gate_is_waived_by_resuming_after_it_failed(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(3)))
    for reason in (StopReason.GATE_FAILED, StopReason.INTERRUPTED):
        store = open_store(state)
        anyio.run(_close, store.begin(Policy(), now_ns=T0), reason)
        assert store.load(now_ns=T0).progress.gate_waived is (reason is StopReason.GATE_FAILED)
        store.close()


async def _close(journal: GroupCommit, reason: StopReason) -> None:
    await journal.close(now_ns=T0 + S, reason=reason, detail="")


def test_a_change_that_cannot_be_written_is_told_in_words_and_undone(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(3)))
    store = open_store(state)
    store._connection.execute("PRAGMA query_only = ON")
    with (
        pytest.raises(JournalError, match="cannot be written"),
        store.changing("https://x.example", lambda _: Policy()),
    ):
        pass
    with pytest.raises(JournalError, match="cannot be written"):
        store.begin(Policy(), now_ns=T0)
    store._connection.execute("PRAGMA query_only = OFF")
    with pytest.raises(RunBusyError), store.changing("https://x.example", lambda _: Policy()):
        raise RunBusyError("another one")
    assert store.load(now_ns=T0).facts.base_url == new_run(rows(1)).facts.base_url
    store.close()


def test_a_state_directory_that_cannot_be_made_is_told_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot make the state directory") as caught:
        state_dir(tmp_path / "file" / "state")
    assert caught.value.hint == "name a writable one in FLEETOPS_STATE_DIR"
    assert caught.value.exit_code is ExitCode.HOST


def test_a_lock_that_cannot_be_opened_is_told_with_a_way_out(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    state.lock_path(RUN_ID).mkdir()
    with pytest.raises(HostError, match=r"cannot open .*\.lock"):
        state.lock_run(RUN_ID)
    (tmp_path / "claims.lock").mkdir()
    with pytest.raises(HostError, match=r"cannot open .*claims.lock"), state.claiming():
        pass
    assert not state.is_live("20260101-000000-0000")


def test_whoever_looks_whether_a_run_is_live_keeps_nobody_from_driving_it(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    lock = state.lock_run(RUN_ID)
    assert state.is_live(RUN_ID)
    with pytest.raises(RunBusyError, match="is being driven by another process"):
        state.lock_run(RUN_ID)
    lock.release()
    assert not state.is_live(RUN_ID)
    state.lock_run(RUN_ID).release()


@pytest.mark.parametrize(
    "run_id", ["", "../../etc/passwd", "20260102-030405-6f7a/..", "20260102-030405-6F7A", "x" * 500]
)
def test_what_is_no_run_id_never_becomes_a_path(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(UsageError, match="is not a run id"):
        StateDir(tmp_path).journal_path(run_id)


def test_runs_are_listed_newest_first_and_other_files_are_left_alone(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    for name in ("20260102-030405-6f7a.db", "20270102-030405-6f7a.db", "notes.db", "20260102-030405-6f7a.lock"):
        (state.runs / name).write_text("")
    assert state.run_ids() == ["20270102-030405-6f7a", "20260102-030405-6f7a"]
    assert StateDir(tmp_path / "none").run_ids() == []


def test_the_state_directory_is_named_or_the_users_own(tmp_path: Path) -> None:
    assert default_state_dir({"FLEETOPS_STATE_DIR": "/srv/x", "HOME": "/h"}).as_posix() == "/srv/x"
    assert default_state_dir({"XDG_STATE_HOME": "/srv/x", "HOME": "/h"}).as_posix() == "/srv/x/fleetops"
    assert default_state_dir({"HOME": "/h"}).as_posix() == "/h/.local/state/fleetops"


def test_devices_that_are_left_out_later_are_not_sent_to_and_what_may_have_run_stays_unknown(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    sync = Operation.SYNC
    path = create(state, new_run([(name, sync, S) for name in ("done", "crashed", "lost", "down", "new", "kept")]))
    store = open_store(state)
    journal = store.begin(Policy(), now_ns=T0)
    send(journal, 0, ACCEPTED, T0, Outcome.ACCEPTED)
    for step, reply in ((1, None), (2, LOST), (3, UNREACHABLE)):
        send(journal, step, reply, T0 + step * S)
    with store.changing(None, lambda _: Policy.model_validate({"allow": "kept"})):
        progress = store.load(now_ns=T0 + 9 * S).progress
    assert (progress.lost, progress.troubles, list(progress.outcomes).index(0)) == ([], {}, 5)
    assert progress.left_out_since == {3, 4}
    with store.changing(None, lambda _: Policy()):
        assert store.load(now_ns=T0 + 9 * S).progress.outcomes == progress.outcomes
    store.close()
    with sqlite3.connect(path) as connection:
        results = connection.execute("SELECT outcome, reason FROM result ORDER BY step").fetchall()
    assert results == [
        ("accepted", None),
        ("unknown", "crashed"),
        ("unknown", LOST.reason),
        ("skipped", "excluded"),
        ("skipped", "excluded"),
    ]


def test_a_commit_is_on_the_disk_before_it_is_over(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(1)))
    store = open_store(state)
    settings = [store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    store.close()
    assert settings == ["wal", 2]  # 2 is FULL: the -wal file is synced at every commit


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("operation", [Operation.SYNC, Operation.REBOOT])
def test_a_run_is_read_back_however_much_of_it_is_done(tmp_path: Path, done: int, operation: Operation) -> None:
    """Uniform or not, with most steps open or most of them accepted: the same comes of it."""
    state = state_dir(tmp_path)
    new = new_run([(name, Operation.SYNC, S) for name in "ABC"] + [("D", operation, S)])
    create(state, new)
    store = open_store(state)
    results = [(0, "accepted", None), (1, "failed", "not_found"), (2, "accepted", None), (3, "skipped", "excluded")]
    for step, outcome, reason in results[:done]:
        store._connection.execute("INSERT INTO result VALUES (?, ?, ?, ?, 1)", (step, outcome, reason, T0))
    loaded = store.load(now_ns=T0)
    store.close()
    assert loaded.steps == replace(new.steps, groups=())
    codes = [1 + OUTCOMES.index(Outcome(outcome)) for _, outcome, _ in results[:done]]
    assert loaded.progress.outcomes == bytes(codes + [0] * (4 - done))


@pytest.mark.parametrize("done", [1, 4])
def test_an_outcome_that_is_none_is_a_damage(tmp_path: Path, done: int) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(4)))
    store = open_store(state)
    for step in range(done):
        store._connection.execute("INSERT INTO result VALUES (?, 'fine', NULL, ?, 1)", (step, T0))
    with pytest.raises(JournalError, match="cannot be read"):
        store.load(now_ns=T0)
    store.close()
