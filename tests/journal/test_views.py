from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.errors import ExitCode, HostError, JournalError, UsageError
from fleetops.journal import NewRun, RunClock, RunFacts, StateDir
from fleetops.journal.clock import boot_id
from fleetops.journal.readonly import connect_readonly
from fleetops.journal.views import RunState, RunView, rfc3339, summaries
from fleetops.model import Operation, Outcome, Reason, Reply, ReplyKind, Steps
from fleetops.policy import Policy, Rate
from fleetops.runner.session import Session
from fleetops.scheduler import StopReason
from tests.report.journals import RUN_ID, T0, Made, S, make_journal, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPTED = Reply(ReplyKind.ACCEPTED, http_status=200, operation_id="1")


class Script:
    """A control plane that answers each serial number as it is told to, and can be held up."""

    def __init__(self, replies: dict[str, Reply]) -> None:
        self._replies = replies
        self.reached = anyio.Event()
        self.release = anyio.Event()
        self.held: set[str] = set()

    async def execute(self, serial: str, operation: Operation) -> Reply:
        if serial in self.held:
            self.reached.set()
            await self.release.wait()
        return self._replies.get(serial, ACCEPTED)

    async def aclose(self) -> None:
        pass


def new_run(count: int = 3) -> NewRun:
    policy = Policy(rate=Rate(1000))
    steps = Steps.of([(serial, operation, 0) for serial, operation in rows(count)])
    return NewRun(RunFacts(RUN_ID, "routers.csv", "0" * 64, "", "http://127.0.0.1:1", T0), policy, steps)


def drive(state: StateDir, control: Script, count: int = 3) -> StopReason:
    async def run() -> StopReason:
        with Session.start(state, new_run(count)) as session:
            return (await session.drive(control)).reason

    return anyio.run(run)


def view(made: Made) -> RunView:
    return RunView.open(made.state, made.run_id)


def test_a_run_that_was_driven_to_its_end_is_complete(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert drive(state, Script({"SN0002": Reply(ReplyKind.REFUSED, Reason.NOT_FOUND, 404)})) is StopReason.COMPLETE
    with RunView.open(state, RUN_ID) as run:
        assert run.state is RunState.COMPLETE
        assert not run.live
        assert run.facts.manifest == "routers.csv"
        assert run.policy.rate == Rate(1000)
        assert run.steps == 3
        assert run.tally == {(Outcome.ACCEPTED, None): 2, (Outcome.FAILED, Reason.NOT_FOUND): 1}
        assert run.exit_code() is ExitCode.FAILED
        (process,) = run.processes
        assert (process.pid, process.end_reason) == (os.getpid(), StopReason.COMPLETE)
        assert run.took_ns == run.processes[0].ended_ns - run.processes[0].started_ns  # type: ignore[operator]  # it ended
        assert run.started_at is not None
        assert run.finished_at is not None
        assert run.recent_rate_per_s() == 0


def test_a_run_can_be_read_while_it_is_driven(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    seen = []

    async def run() -> None:
        control = Script({})
        control.held = {"SN0002"}
        with Session.start(state, new_run()) as session:
            async with anyio.create_task_group() as beside:
                beside.start_soon(session.drive, control)
                await control.reached.wait()
                with RunView.open(state, RUN_ID) as run:
                    while run.outcomes[Outcome.ACCEPTED] < 2:
                        await anyio.sleep(0.01)
                        run.close()
                        run = RunView.open(state, RUN_ID)  # noqa: PLW2901 - each view is of one moment
                    seen.append((run.state, run.live, dict(run.tally), run.exit_code(), run.finished_at))
                    assert run.recent_rate_per_s() == 3
                    assert run.took_ns is not None
                    run.close()
                control.release.set()

    anyio.run(run)
    assert seen == [
        (
            RunState.RUNNING,
            True,
            {(Outcome.ACCEPTED, None): 2, (Outcome.UNKNOWN, Reason.IN_FLIGHT): 1},
            ExitCode.INCOMPLETE,
            None,
        )
    ]


def test_what_a_killed_process_left_in_the_wal_is_read(tmp_path: Path) -> None:
    script = """
import os, sys, anyio
from pathlib import Path
from fleetops.journal import StateDir
from fleetops.runner.session import Session
from tests.journal.test_views import Script, new_run

async def run():
    control = Script({})
    control.held = {"SN0002"}
    with Session.start(StateDir(Path(sys.argv[1])), new_run()) as session:
        async with anyio.create_task_group() as beside:
            beside.start_soon(session.drive, control)
            await control.reached.wait()
            await anyio.sleep(0.2)
            os._exit(9)

anyio.run(run)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 9
    state = StateDir(tmp_path)
    assert state.journal_path(RUN_ID).with_suffix(".db-wal").stat().st_size
    with RunView.open(state, RUN_ID) as run:
        assert run.state is RunState.CRASHED
        assert run.tally == {(Outcome.ACCEPTED, None): 2, (Outcome.UNKNOWN, Reason.CRASHED): 1}
        assert run.exit_code() is ExitCode.UNKNOWN
        assert run.finished_at is None
        assert run.took_ns is None
        assert [(failure.serial, failure.reason) for failure in run.recent_failures(5)] == [("SN0002", Reason.CRASHED)]


@pytest.mark.parametrize(
    ("reason", "state", "left_because", "code"),
    [
        (StopReason.INTERRUPTED, RunState.INTERRUPTED, Reason.INTERRUPTED, ExitCode.INTERRUPTED),
        (StopReason.WINDOW_CLOSED, RunState.WINDOW_CLOSED, Reason.WINDOW_CLOSED, ExitCode.INCOMPLETE),
        (StopReason.HOST_FAILED, RunState.FAILED, Reason.INTERRUPTED, ExitCode.HOST),
        (StopReason.BUDGET_SPENT, RunState.ABORTED, Reason.ABORTED, ExitCode.ABORTED),
        (StopReason.TOKEN_REFUSED, RunState.ABORTED, Reason.ABORTED, ExitCode.ABORTED),
        (None, RunState.CRASHED, Reason.INTERRUPTED, ExitCode.INCOMPLETE),
    ],
)
def test_how_the_last_process_ended_says_how_the_run_stands(
    tmp_path: Path, reason: StopReason | None, state: RunState, left_because: Reason, code: ExitCode
) -> None:
    made = make_journal(tmp_path, rows(2))
    made.process(ended_ns=T0 + S, reason=StopReason.INTERRUPTED)
    made.process(ended_ns=None if reason is None else T0 + 9 * S, reason=reason)
    made.attempt(0, "accepted")
    made.result(0, Outcome.ACCEPTED)
    with view(made) as run:
        assert run.state is state
        assert run.tally == {(Outcome.ACCEPTED, None): 1, (Outcome.NOT_STARTED, left_because): 1}
        assert run.exit_code() is code


def test_every_stop_reason_has_a_state(tmp_path: Path) -> None:
    for number, reason in enumerate(StopReason):
        made = make_journal(tmp_path, rows(1), run_id=f"20260102-030405-{number:04x}")
        made.process(ended_ns=T0 + S, reason=reason)
        with view(made) as run:
            assert isinstance(run.state, RunState)


def test_a_run_that_no_process_drove_is_prepared(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(2))
    with view(made) as run:
        assert run.state is RunState.PREPARED
        assert run.tally == {(Outcome.NOT_STARTED, Reason.INTERRUPTED): 2}
        assert (run.started_at, run.finished_at, run.took_ns) == (None, None, None)
        assert run.exit_code() is ExitCode.INCOMPLETE
    lock = made.state.lock_run(RUN_ID)
    with view(made) as run:
        assert run.live
        assert run.tally == {(Outcome.NOT_STARTED, Reason.PENDING): 2}
    lock.release()


def test_open_steps_have_the_outcome_that_their_attempts_leave_them(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(6))
    made.process(ended_ns=T0 + 9 * S, reason=StopReason.INTERRUPTED)
    made.attempt(0, None)
    made.attempt(1, "maybe", "read_timeout")
    made.attempt(1, "not_reached", "unreachable", attempt=2)
    made.attempt(2, "not_reached", "unreachable")
    made.attempt(3, "bad_reply", "bad_reply")
    made.attempt(3, None, attempt=2)
    made.attempt(4, "accepted")
    with view(made) as run:
        assert run.tally == {
            (Outcome.UNKNOWN, Reason.CRASHED): 3,
            (Outcome.UNKNOWN, Reason.READ_TIMEOUT): 1,
            (Outcome.NOT_STARTED, Reason.INTERRUPTED): 2,
        }


def test_an_unanswered_attempt_is_in_flight_only_for_the_process_that_runs_now(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(2))
    made.process()
    made.process()
    made.attempt(0, None, process=1)
    made.attempt(1, None, process=2)
    lock = made.state.lock_run(RUN_ID)
    with view(made) as run:
        assert run.tally == {(Outcome.UNKNOWN, Reason.CRASHED): 1, (Outcome.UNKNOWN, Reason.IN_FLIGHT): 1}
        assert [failure.serial for failure in run.recent_failures(5)] == ["SN0001"]
        assert run.recent_rate_per_s() == 0, "the process is of another boot"
        assert run.took_ns is None
    lock.release()


@pytest.mark.parametrize(
    ("outcome", "reason", "code"),
    [
        (Outcome.ACCEPTED, None, ExitCode.OK),
        (Outcome.CONFIRMED, None, ExitCode.OK),
        (Outcome.SKIPPED, Reason.OFFLINE, ExitCode.OK),
        (Outcome.SKIPPED, Reason.EXCLUDED, ExitCode.OK),
        (Outcome.SKIPPED, Reason.EARLIER_STEP_UNKNOWN, ExitCode.FAILED),
        (Outcome.FAILED, Reason.NOT_FOUND, ExitCode.FAILED),
        (Outcome.UNKNOWN, Reason.READ_TIMEOUT, ExitCode.UNKNOWN),
    ],
)
def test_the_exit_code_of_a_complete_run_is_that_of_its_worst_step(
    tmp_path: Path, outcome: Outcome, reason: Reason | None, code: ExitCode
) -> None:
    made = make_journal(tmp_path, rows(2))
    made.process(ended_ns=T0 + S, reason=StopReason.COMPLETE)
    made.result(0, Outcome.ACCEPTED)
    made.result(1, outcome, reason)
    with view(made) as run:
        assert run.exit_code() is code


SERIOUSNESS = [ExitCode.OK, ExitCode.FAILED, ExitCode.INCOMPLETE, ExitCode.UNKNOWN, ExitCode.ABORTED]


@pytest.mark.parametrize("ended", [StopReason.COMPLETE, StopReason.WINDOW_CLOSED, StopReason.ABORTED])
def test_the_most_serious_exit_code_wins(tmp_path: Path, ended: StopReason) -> None:
    worst = {
        StopReason.COMPLETE: ExitCode.OK,
        StopReason.WINDOW_CLOSED: ExitCode.INCOMPLETE,
        StopReason.ABORTED: ExitCode.ABORTED,
    }[ended]
    for number, (failed, unknown) in enumerate(product([False, True], repeat=2)):
        made = make_journal(tmp_path, rows(3), run_id=f"20260102-030405-{number:04x}")
        made.process(ended_ns=T0 + S, reason=ended)
        made.result(0, Outcome.ACCEPTED)
        made.result(1, Outcome.FAILED if failed else Outcome.ACCEPTED, "not_found" if failed else None)
        made.result(2, Outcome.UNKNOWN if unknown else Outcome.ACCEPTED, "crashed" if unknown else None)
        codes = [worst, ExitCode.FAILED if failed else ExitCode.OK, ExitCode.UNKNOWN if unknown else ExitCode.OK]
        with view(made) as run:
            assert run.exit_code() is max(codes, key=SERIOUSNESS.index)


def test_recent_failures_come_newest_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(4, Operation.SYNC))
    made.process(ended_ns=T0 + S, reason=StopReason.COMPLETE)
    made.result(0, Outcome.FAILED, "not_found", at_ns=T0 + 3 * S)
    made.result(1, Outcome.ACCEPTED, at_ns=T0 + 4 * S)
    made.result(2, Outcome.UNKNOWN, "read_timeout", at_ns=T0 + 5 * S)
    made.result(3, Outcome.FAILED, "invalid", at_ns=T0 + S)
    with view(made) as run:
        assert [(one.serial, one.outcome, one.reason) for one in run.recent_failures(2)] == [
            ("SN0003", Outcome.UNKNOWN, Reason.READ_TIMEOUT),
            ("SN0001", Outcome.FAILED, Reason.NOT_FOUND),
        ]
        assert run.recent_failures(2)[0].operation == "sync"


def test_a_step_of_the_wall_clock_between_two_processes_does_not_count_as_time_taken(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(started_ns=T0, ended_ns=T0 + S, reason=StopReason.INTERRUPTED)
    made.process(
        started_ns=T0 - 3600 * S, ended_ns=T0 - 3590 * S, reason=StopReason.COMPLETE, wall_minus_boot_ns=-3610 * S
    )
    with view(made) as run:
        assert run.took_ns == 20 * S


def test_the_time_taken_is_never_negative_across_boots(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=T0 + S, reason=StopReason.INTERRUPTED, boot_id="one")
    made.process(started_ns=T0 - 9 * S, ended_ns=T0 - 8 * S, reason=StopReason.COMPLETE, boot_id="two")
    with view(made) as run:
        assert run.took_ns == 0


def test_a_live_run_says_how_long_it_has_taken_until_now(tmp_path: Path) -> None:
    if not boot_id():  # pragma: no cover - Linux always says
        pytest.skip("the platform does not identify its boots")
    made = make_journal(tmp_path, rows(1))
    clock = RunClock()
    made.process(started_ns=clock.now_ns() - 60 * S, boot_id=clock.boot_id, wall_minus_boot_ns=clock.wall_minus_boot_ns)
    lock = made.state.lock_run(RUN_ID)
    with view(made) as run:
        assert run.took_ns is not None
        assert 60 * S <= run.took_ns < 120 * S
    lock.release()


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 4_000_000_000 * S))
def test_moments_are_written_as_rfc_3339_with_milliseconds(moment_ns: int) -> None:
    text = rfc3339(moment_ns)
    assert len(text) == len("2026-01-02T03:04:05.678Z")
    assert text.endswith(f".{moment_ns // 1_000_000 % 1000:03}Z")


def test_summaries_list_runs_newest_first_and_damaged_ones_as_such(tmp_path: Path) -> None:
    older = make_journal(tmp_path, rows(2), run_id="20260101-000000-aaaa", campaign="first")
    older.process(ended_ns=T0 + S, reason=StopReason.COMPLETE)
    older.result(0, Outcome.ACCEPTED)
    older.result(1, Outcome.FAILED, "not_found")
    make_journal(tmp_path, rows(1), run_id="20260103-000000-cccc")
    (tmp_path / "runs" / "20260102-000000-bbbb.db").write_bytes(b"no database at all")
    (tmp_path / "runs" / "20260104-000000-dddd.db").write_bytes(b"")
    newest, second, third, fourth = summaries(older.state)
    assert (newest.run_id, newest.state, newest.outcomes) == ("20260104-000000-dddd", RunState.DAMAGED, {})
    assert (second.state, second.outcomes) == (RunState.PREPARED, {Outcome.NOT_STARTED: 1})
    assert third.state is RunState.DAMAGED
    assert "cannot be read" in third.trouble
    assert (fourth.run_id, fourth.manifest, fourth.campaign) == ("20260101-000000-aaaa", "routers.csv", "first")
    assert fourth.outcomes == {Outcome.ACCEPTED: 1, Outcome.FAILED: 1}
    assert (fourth.started_at, fourth.finished_at) == ("2026-01-02T03:00:00.000Z", "2026-01-02T03:00:01.000Z")


def test_a_state_directory_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert summaries(StateDir(tmp_path / "nowhere")) == []


def test_a_run_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run"):
        RunView.open(StateDir(tmp_path), RUN_ID)
    with pytest.raises(UsageError, match="not a run id"):
        RunView.open(StateDir(tmp_path), "../../etc/passwd")


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM run WHERE key = 'digest'",
        "UPDATE run SET value = '{' WHERE key = 'manifest'",
        "UPDATE process SET end_reason = 'alien'",
        "DROP TABLE process",
    ],
)
def test_a_journal_with_something_missing_is_said_to_be_unreadable(tmp_path: Path, damage: str) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=T0, reason=StopReason.COMPLETE)
    made._write(damage)
    with pytest.raises(JournalError, match="cannot be read") as caught:
        view(made)
    assert "recover" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE result",
        "UPDATE result SET outcome = 'alien'",
        "UPDATE result SET reason = 'alien'",
        "UPDATE run SET value = 'x' WHERE key = 'policy'",
        "DELETE FROM run WHERE key = 'policy'",
    ],
)
def test_damage_that_shows_later_is_a_journal_error_too(tmp_path: Path, damage: str) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=T0, reason=StopReason.COMPLETE)
    made.result(0, Outcome.FAILED, "not_found")
    made._write(damage)
    with view(made) as run, pytest.raises(JournalError, match="cannot be read"):
        _ = run.tally and run.policy


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("PRAGMA user_version = 99", "newer version"),
        ("PRAGMA application_id = 1", "not a journal"),
        (None, "not a data"),
    ],
)
def test_what_is_no_journal_is_refused_without_a_word_of_sending(
    tmp_path: Path, damage: str | None, message: str
) -> None:
    made = make_journal(tmp_path, rows(1))
    if damage is None:
        made.state.journal_path(RUN_ID).write_bytes(b"no database at all, and long enough to be looked at" * 100)
    else:
        made._write(damage)
    with pytest.raises(JournalError, match=message) as caught:
        view(made)
    assert "sent" not in f"{caught.value.hint}"


@contextmanager
def without_write_access(made: Made, *, directory_mode: int = 0o555) -> Iterator[StateDir]:
    """A copy of a journal as somebody has it who may read it, but may not write its directory."""
    nobody = 65534
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "state"
        shutil.copytree(made.state.root, root)
        for path in (root, *root.rglob("*")):
            path.chmod(directory_mode if path.is_dir() else 0o444)
        Path(place).chmod(0o755)
        was_root = os.getuid() == 0
        if was_root:
            os.setresuid(nobody, nobody, 0)
        try:
            yield StateDir(root)
        finally:
            if was_root:
                os.setresuid(0, 0, 0)
            for path in (root, root / "runs"):
                path.chmod(0o755)


def test_a_journal_without_a_wal_is_read_from_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    with without_write_access(made) as state, RunView.open(state, RUN_ID) as run:
        assert run.state is RunState.PREPARED
        assert run.outcomes[Outcome.NOT_STARTED] == 1


def test_a_journal_with_a_wal_in_a_directory_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    path = made.state.journal_path(RUN_ID)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO event VALUES (1, 1, 'paused', '')")
        connection.commit()
        path.with_suffix(".db-shm").unlink()
        with without_write_access(made) as state, pytest.raises(JournalError, match="cannot be written") as caught:
            RunView.open(state, RUN_ID)
    assert f"copy {RUN_ID}.db and {RUN_ID}.db-wal" in (caught.value.hint or "")


def test_a_damaged_journal_in_a_directory_that_cannot_be_written_is_said_to_be_damaged(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.state.journal_path(RUN_ID).write_bytes(b"no database at all, and long enough to be looked at" * 100)
    with without_write_access(made) as state, pytest.raises(JournalError, match="not a database"):
        RunView.open(state, RUN_ID)


def test_a_journal_of_another_version_is_refused_where_the_directory_cannot_be_written(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made._write("PRAGMA user_version = 99")
    with without_write_access(made) as state, pytest.raises(JournalError, match="this version"):
        RunView.open(state, RUN_ID)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take a directory from itself and have it back")
def test_a_directory_that_may_not_be_entered_is_a_journal_error(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    with without_write_access(made, directory_mode=0o700) as state, pytest.raises(JournalError, match="denied"):
        RunView.open(state, RUN_ID)


def test_reading_takes_no_part_in_writing(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    with (
        closing(connect_readonly(made.state.journal_path(RUN_ID))) as connection,
        pytest.raises(sqlite3.OperationalError),
    ):
        connection.execute("DELETE FROM step")
    assert issubclass(JournalError, HostError)


def test_looking_at_runs_does_not_need_pandas() -> None:
    light = "fleetops.journal.views, fleetops.report.summary, fleetops.report.formats"
    script = f"import sys, {light}; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
