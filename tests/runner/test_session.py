from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from fleetops.errors import JournalError, RunBusyError, UsageError
from fleetops.journal import Action, StateDir, ask
from fleetops.model import Operation, Outcome, Reason, Reply, ReplyKind
from fleetops.runner import Session
from fleetops.scheduler import StopReason, WaitFor
from tests.journal.runs import ACCEPTED, BASE_URL, LOST, RUN_ID, UNREACHABLE, S, new_run, rows, state_dir
from tests.runner.plane import Plane, drive, quick_policy, read, resume, signal_at, start, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetops.journal.commits import GroupCommit
    from fleetops.journal.state import RunLock
    from fleetops.policy import Policy
    from fleetops.runner import Ended, Runner

OTHER_ID = "20260102-030406-0000"
OUTCOMES = "SELECT outcome, reason, count(*) FROM result GROUP BY 1, 2 ORDER BY 1, 2"


class Watched(StateDir):
    """A state directory that notes what is done to claim devices."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.done: list[str] = []

    @contextmanager
    def claiming(self) -> Iterator[None]:
        with super().claiming():
            self.done.append("claiming")
            yield
            self.done.append("claimed")

    def run_ids(self) -> list[str]:
        self.done.append("look at the other runs")
        return super().run_ids()

    def lock_run(self, run_id: str) -> RunLock:
        self.done.append("lock the run")
        return super().lock_run(run_id)


def test_no_other_run_can_claim_devices_while_one_looks_whether_they_are_free(tmp_path: Path) -> None:
    state = Watched(state_dir(tmp_path).root)
    with Session.start(state, new_run(rows(1), quick_policy())):
        assert state.done == ["claiming", "look at the other runs", "lock the run", "claimed"]
    state.done.clear()
    with Session.resume(state, RUN_ID, base_url=None, change_policy=lambda policy: policy):
        assert state.done == ["claiming", "lock the run", "look at the other runs", "claimed"]


def test_a_run_sends_each_step_once_and_records_what_became_of_it(tmp_path: Path) -> None:
    plane = Plane()
    with start(tmp_path, rows(30)) as session:
        ended = drive(session, plane)
    assert (ended.reason, ended.detail) == (StopReason.COMPLETE, "")
    assert sorted(plane.serials) == [f"SN{number:04}" for number in range(30)]
    assert read(tmp_path, OUTCOMES) == [("accepted", None, 30)]
    assert read(tmp_path, "SELECT end_reason, ended_ns > started_ns FROM process") == [("complete", 1)]
    assert read(tmp_path, "SELECT count(*) FROM attempt WHERE intent_ns <= sent_ns AND sent_ns <= answered_ns") == [
        (30,)
    ]


def test_nothing_is_sent_before_its_intent_can_be_read_from_the_journal(tmp_path: Path) -> None:
    unrecorded: list[str] = []

    def look(serial: str, before: int) -> Reply:
        query = f"SELECT 1 FROM attempt JOIN step USING (step) JOIN device USING (device) WHERE serial = '{serial}'"
        if not read(tmp_path, query):
            unrecorded.append(serial)
        return ACCEPTED

    plane = Plane(look)
    with start(tmp_path, rows(40)) as session:
        drive(session, plane)
    assert len(plane.asked) == 40
    assert not unrecorded


def test_a_new_run_holds_what_its_journal_would_say(tmp_path: Path) -> None:
    steps = [("A", Operation.SYNC, S), ("B", Operation.REBOOT, S), ("A", Operation.RECONF, S)]
    with start(tmp_path, steps, skipped={0: Reason.OFFLINE}, groups=["north", ""]) as session:
        made = session.loaded
    with resume(tmp_path) as session:
        assert session.loaded.facts == made.facts
        assert session.loaded.policy == made.policy
        assert session.loaded.steps == made.steps
        assert replace(session.loaded.progress, lost=()) == made.progress
    assert bytes(made.progress.outcomes) == bytes((5, 0, 5))


def test_no_more_requests_are_in_flight_than_the_policy_says(tmp_path: Path) -> None:
    plane = Plane(latency_s=0.002)
    with start(tmp_path, rows(60), quick_policy(concurrency=3)) as session:
        drive(session, plane)
    assert plane.most_in_flight == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_the_process_in_good_order_stops_the_run(tmp_path: Path, number: signal.Signals) -> None:
    plane = Plane(latency_s=0.002, on_execute=signal_at(5, number))
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, hang-ups are ignored
    try:
        with start(tmp_path, rows(100)) as session:
            assert drive(session, plane).reason is StopReason.INTERRUPTED
    finally:
        signal.signal(number, before)
    assert len(plane.asked) < 50


def test_a_run_that_ignores_hang_ups_outlives_its_terminal(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with start(tmp_path, rows(20)) as session:
            assert drive(session, Plane(on_execute=signal_at(5, signal.SIGHUP))).reason is StopReason.COMPLETE
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_stops_sends_and_lets_those_in_flight_finish_and_a_resume_goes_on(tmp_path: Path) -> None:
    plane = Plane(latency_s=0.02, on_execute=signal_at(5, signal.SIGINT))
    with start(tmp_path, rows(40), quick_policy(concurrency=4, rate=500)) as session:
        ended = drive(session, plane)
    assert ended.reason is StopReason.INTERRUPTED
    assert 5 <= len(plane.asked) < 12
    assert read(tmp_path, OUTCOMES) == [("accepted", None, len(plane.asked))]
    assert read(tmp_path, "SELECT count(*) FROM attempt WHERE kind IS NULL") == [(0,)]
    rest = Plane()
    with resume(tmp_path) as session:
        assert drive(session, rest).reason is StopReason.COMPLETE
    assert sorted(plane.serials + rest.serials) == [f"SN{n:04}" for n in range(40)]


def test_a_second_signal_gives_up_what_is_in_flight_and_records_that_it_may_have_run(tmp_path: Path) -> None:
    plane = Plane(on_execute=signal_at(4, signal.SIGINT, signal.SIGTERM), release=anyio.Event())
    with start(tmp_path, rows(40, Operation.REBOOT), quick_policy(concurrency=4)) as session:
        ended = drive(session, plane)
    assert ended.reason is StopReason.INTERRUPTED
    assert read(tmp_path, OUTCOMES) == [("unknown", "interrupted", 4)]
    assert read(tmp_path, "SELECT DISTINCT kind, reason FROM attempt") == [("maybe", "interrupted")]
    assert read(tmp_path, "SELECT end_reason FROM process") == [("interrupted",)]


def test_the_second_signal_also_cancels_a_run_that_stops_for_a_reason_of_its_own(tmp_path: Path) -> None:
    refused = Reply(ReplyKind.TOKEN_REFUSED, Reason.TOKEN_REFUSED, 401)
    release = anyio.Event()

    class Slow(Plane):
        async def execute(self, serial: str, operation: Operation) -> Reply:
            if serial != "SN0000":
                return await super().execute(serial, operation)
            await until(lambda: len(self.asked) == 3)
            return refused

    plane = Slow(release=release)

    async def watch(runner: Runner) -> None:
        await until(lambda: runner.snapshot().stopping)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(0.01)

    with start(tmp_path, rows(40), quick_policy(concurrency=4)) as session:
        assert drive(session, plane, watch).reason is StopReason.INTERRUPTED
    assert read(tmp_path, "SELECT kind, count(*) FROM attempt GROUP BY 1 ORDER BY 1") == [
        ("maybe", 3),
        ("token_refused", 1),
    ]


def test_a_signal_stops_a_run_at_once_that_waits_hours_for_its_next_slot(tmp_path: Path) -> None:
    plane = Plane(on_execute=signal_at(1, signal.SIGINT))
    with start(tmp_path, rows(3), quick_policy(rate="1/h")) as session:
        assert drive(session, plane).reason is StopReason.INTERRUPTED
    assert len(plane.asked) == 1
    assert read(tmp_path, "SELECT count(*) FROM attempt") == [(1,)]


def test_a_control_plane_that_raises_stops_the_run_and_what_it_was_asked_may_have_run(tmp_path: Path) -> None:
    def broken(serial: str, before: int) -> Reply:
        if serial == "SN0003":
            raise RuntimeError("Illegal header value b'Bearer secret'")
        return ACCEPTED

    plane = Plane(broken, latency_s=0.001)
    with start(tmp_path, rows(200, Operation.REBOOT)) as session:
        ended = drive(session, plane)
    assert ended.reason is StopReason.HOST_FAILED
    assert ended.detail == "the control plane's client failed: RuntimeError"
    assert len(plane.asked) < 200
    assert read(tmp_path, OUTCOMES) == [("accepted", None, len(plane.asked) - 1), ("unknown", "crashed", 1)]
    assert "secret" not in str(read(tmp_path, "SELECT * FROM attempt"))


def test_a_display_that_fails_stops_the_run_in_good_order(tmp_path: Path) -> None:
    async def watch(runner: Runner) -> None:
        raise ValueError("no such colour")

    plane = Plane(latency_s=0.001)
    with start(tmp_path, rows(200)) as session:
        ended = drive(session, plane, watch)
    assert ended.reason is StopReason.HOST_FAILED
    assert ended.detail == "the display of progress failed: ValueError: no such colour"
    assert read(tmp_path, "SELECT end_reason FROM process") == [("host_failed",)]
    assert len(plane.asked) < 200


def test_a_run_outlives_the_terminal_that_it_was_shown_on(tmp_path: Path) -> None:
    async def watch(runner: Runner) -> None:
        raise BrokenPipeError

    with start(tmp_path, rows(20)) as session:
        assert drive(session, Plane(), watch).reason is StopReason.COMPLETE


def test_a_defect_is_told_as_itself_and_leaves_a_run_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defective(self: object, *args: object) -> None:
        raise AssertionError("an invariant")

    with start(tmp_path, rows(20)) as session, monkeypatch.context() as patch:
        patch.setattr("fleetops.scheduler.Scheduler.answer", defective)
        with pytest.raises(AssertionError, match="an invariant"):
            drive(session, Plane())
    assert read(tmp_path, "SELECT end_reason FROM process") == [("host_failed",)]
    with resume(tmp_path) as session:
        assert drive(session, Plane()).reason is StopReason.COMPLETE


def test_a_run_that_is_cancelled_from_outside_records_that_it_was_interrupted(tmp_path: Path) -> None:
    plane = Plane(release=anyio.Event())

    async def shortly() -> bool:
        with anyio.move_on_after(0.1) as scope:
            await session.drive(plane)
        return scope.cancelled_caught

    with start(tmp_path, rows(20, Operation.REBOOT)) as session:
        assert anyio.run(shortly)
    assert read(tmp_path, "SELECT end_reason FROM process") == [("interrupted",)]
    assert read(tmp_path, OUTCOMES) == [("unknown", "interrupted", 8)]


def test_a_run_can_be_driven_from_another_thread_which_gets_no_signals(tmp_path: Path) -> None:
    ended: list[Ended] = []
    with start(tmp_path, rows(20)) as session:
        thread = threading.Thread(target=lambda: ended.append(drive(session, Plane())))
        thread.start()
        thread.join()
    assert ended[0].reason is StopReason.COMPLETE


def test_a_policy_with_confirmation_needs_an_inventory(tmp_path: Path) -> None:
    with start(tmp_path, rows(2), quick_policy(confirm=True)) as session, pytest.raises(UsageError, match="inventory"):
        drive(session, Plane())


KILLED = """
import os, sys
from pathlib import Path
import anyio
from fleetops.model import Operation
from tests.journal.runs import rows
from tests.runner.plane import Plane, quick_policy, start

def die(count):
    if count == 7:
        os.kill(os.getpid(), 9)

with start(Path(sys.argv[1]), rows(20, Operation.REBOOT), quick_policy(concurrency=3)) as session:
    anyio.run(session.drive, Plane(on_execute=die))
"""


def test_a_killed_process_leaves_steps_that_are_unknown_and_none_that_is_sent_twice(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    intended = {
        serial for (serial,) in read(tmp_path, "SELECT serial FROM attempt JOIN step USING (step) NATURAL JOIN device")
    }
    assert 7 <= len(intended) <= 9
    answered = read(tmp_path, "SELECT count(*) FROM result")[0][0]
    rest = Plane()
    with resume(tmp_path) as session:
        assert drive(session, rest).reason is StopReason.COMPLETE
    assert set(rest.serials) == {f"SN{number:04}" for number in range(20)} - intended
    assert len(rest.serials) == 20 - len(intended)
    assert read(tmp_path, OUTCOMES) == [
        ("accepted", None, 20 - len(intended) + answered),
        ("unknown", "crashed", len(intended) - answered),
    ]


def test_a_step_that_was_lost_is_sent_again_where_that_does_no_harm(tmp_path: Path) -> None:
    plane = Plane(on_execute=signal_at(2, signal.SIGINT, signal.SIGINT), release=anyio.Event())
    with start(tmp_path, rows(2), quick_policy(concurrency=2)) as session:
        drive(session, plane)
    assert read(tmp_path, OUTCOMES) == []
    rest = Plane()
    with resume(tmp_path) as session:
        drive(session, rest)
    assert sorted(rest.serials) == ["SN0000", "SN0001"]
    assert (
        read(tmp_path, "SELECT attempt, kind FROM attempt ORDER BY step, attempt")
        == [
            (1, "maybe"),
            (2, "accepted"),
        ]
        * 2
    )


@pytest.mark.parametrize("first", [LOST, UNREACHABLE])
def test_the_tries_of_earlier_processes_count(tmp_path: Path, first: Reply) -> None:
    policy = quick_policy(retries={"attempts": 3})
    plane = Plane(lambda serial, before: first, on_execute=signal_at(2, signal.SIGINT))
    with start(tmp_path, rows(1), policy) as session:
        drive(session, plane)
    assert len(plane.asked) == 2
    rest = Plane(lambda serial, before: first)
    with resume(tmp_path) as session:
        drive(session, rest)
    assert len(rest.asked) == 1
    outcome = ("unknown", "connection_lost") if first is LOST else ("failed", "unreachable")
    assert read(tmp_path, OUTCOMES) == [(*outcome, 1)]


def test_an_open_step_gets_one_more_try_however_often_it_was_tried(tmp_path: Path) -> None:
    policy = quick_policy(retries={"attempts": 5})
    with start(tmp_path, rows(1), policy) as session:
        drive(session, Plane(lambda serial, before: UNREACHABLE, on_execute=signal_at(4, signal.SIGINT)))

    def fewer(policy: Policy) -> Policy:
        return quick_policy(retries={"attempts": 2})

    plane = Plane()
    with resume(tmp_path, fewer) as session:
        drive(session, plane)
    assert len(plane.asked) == 1
    assert read(tmp_path, OUTCOMES) == [("accepted", None, 1)]


def test_a_journal_that_cannot_be_written_any_more_stops_the_run_and_nothing_more_is_sent(tmp_path: Path) -> None:
    plane = Plane(latency_s=0.002)
    with start(tmp_path, rows(100)) as session:

        def break_down(count: int) -> None:
            if count == 10:
                session._store._connection.execute("PRAGMA query_only = ON")

        plane.on_execute = break_down
        with pytest.raises(JournalError, match="the journal cannot be written: attempt to write a readonly database"):
            drive(session, plane)
    assert 10 <= len(plane.asked) <= 10 + 8
    lost = read(tmp_path, "SELECT count(*) FROM attempt WHERE kind IS NULL")[0][0]
    done = read(tmp_path, "SELECT count(*) FROM result")[0][0]
    assert lost + done == len(plane.asked)


@pytest.mark.parametrize("suffix", [".db", ".lock"])
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_sent_once_the_journal_is_not_where_it_was(tmp_path: Path, suffix: str, *, replaced: bool) -> None:
    plane = Plane(latency_s=0.002)
    with start(tmp_path, rows(100)) as session:
        file = session._store.path.with_suffix(suffix)

        def lose(count: int) -> None:
            if count == 10:
                file.rename(tmp_path / "elsewhere")
                if replaced:
                    file.touch()

        plane.on_execute = lose
        with pytest.raises(JournalError, match="the journal cannot be written: it was removed, moved or replaced"):
            drive(session, plane)
    assert 10 <= len(plane.asked) <= 10 + 8


def test_answers_that_could_not_be_written_at_first_are_written_at_the_end(tmp_path: Path) -> None:
    plane = Plane()
    with start(tmp_path, rows(100)) as session:
        connection = session._store._connection

        mended = anyio.Event()

        def break_down(count: int) -> None:
            if count == 10:
                connection.execute("PRAGMA query_only = ON")
            plane.release = mended if count == 10 else None

        async def mend(runner: Runner) -> None:
            await until(lambda: runner.snapshot().stopping)
            connection.execute("PRAGMA query_only = OFF")
            mended.set()

        plane.on_execute = break_down
        ended = drive(session, plane, mend)
    assert ended.reason is StopReason.HOST_FAILED
    assert "the journal cannot be written" in ended.detail
    assert read(tmp_path, OUTCOMES) == [("accepted", None, len(plane.asked))]
    assert read(tmp_path, "SELECT count(*) FROM attempt") == [(len(plane.asked),)]


def test_an_operator_pauses_changes_the_rate_goes_on_and_aborts_from_another_terminal(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    seen: list[object] = []

    async def operator(runner: Runner) -> None:
        ask(state, RUN_ID, Action.PAUSE)
        await until(lambda: runner.snapshot().detail == "by the operator")
        await anyio.sleep(0.03)
        sends = runner.snapshot().sends
        await anyio.sleep(0.1)
        seen.append(runner.snapshot().sends - sends)
        seen.append(runner.snapshot().waits_for)
        ask(state, RUN_ID, Action.RATE, "50/s")
        ask(state, RUN_ID, Action.CONTINUE)
        await until(lambda: runner.snapshot().sends > sends)
        seen.append(runner.snapshot().asked_per_s)
        ask(state, RUN_ID, Action.ABORT)

    plane = Plane()
    with start(tmp_path, rows(5_000), quick_policy(rate=20)) as session:
        ended = drive(session, plane, operator)
    assert seen == [0, WaitFor.CONTINUE, 50.0]
    assert (ended.reason, ended.detail) == (StopReason.ABORTED, "by the operator")
    assert [event for (event,) in read(tmp_path, "SELECT event FROM event ORDER BY at_ns")] == [
        "paused",
        "rate",
        "continued",
    ]


def test_what_was_asked_of_an_earlier_process_is_over_and_what_comes_in_while_a_run_is_taken_up_counts(
    tmp_path: Path,
) -> None:
    state = state_dir(tmp_path)

    async def abort(runner: Runner) -> None:
        ask(state, RUN_ID, Action.ABORT)

    with start(tmp_path, rows(5_000), quick_policy(rate=20)) as session:
        assert drive(session, Plane(), abort).reason is StopReason.ABORTED
    with resume(tmp_path) as session:
        ask(state, RUN_ID, Action.PAUSE)

        async def stop_when_paused(runner: Runner) -> None:
            await until(lambda: runner.snapshot().detail == "by the operator")
            runner.stop(StopReason.INTERRUPTED)

        assert drive(session, Plane(), stop_when_paused).reason is StopReason.INTERRUPTED


def test_the_last_steps_that_went_wrong_are_told_newest_first(tmp_path: Path) -> None:
    last: list[tuple[str, str, str | None]] = []

    async def look(runner: Runner) -> None:
        await until(lambda: len(runner.snapshot().failures) == 2)
        last.extend((one.serial, one.outcome, one.reason) for one in runner.snapshot().failures)

    replies = {"SN0001": Reply(ReplyKind.REFUSED, Reason.NOT_FOUND, 404), "SN0002": LOST}
    plane = Plane(lambda serial, _: replies.get(serial, ACCEPTED), latency_s=0.01)
    with start(tmp_path, rows(60), quick_policy(concurrency=1)) as session:
        drive(session, plane, look)
    assert last == [("SN0002", "unknown", LOST.reason), ("SN0001", "failed", "not_found")]


def test_commands_that_make_no_sense_do_a_run_no_harm(tmp_path: Path) -> None:
    async def mischief(runner: Runner) -> None:
        connection = session._store._connection
        connection.execute(
            "INSERT INTO command (asked_ns, action, argument) VALUES (1, 'explode', ''), (2, 'rate', 'x')"
        )
        ask(state_dir(tmp_path), RUN_ID, Action.ABORT)

    with start(tmp_path, rows(5_000), quick_policy(rate=20)) as session:
        assert drive(session, Plane(), mischief).reason is StopReason.ABORTED


def test_a_device_that_settles_from_one_run_is_left_alone_by_the_next(tmp_path: Path) -> None:
    with start(tmp_path, [("A", Operation.SYNC, 3600 * S)]) as session:
        drive(session, Plane())
    plane = Plane()
    with start(tmp_path, [("A", Operation.SYNC, 1), ("B", Operation.SYNC, 1)], run_id=OTHER_ID) as session:
        due_ns = session.loaded.progress.not_before_ns

        async def stop_when_idle(runner: Runner) -> None:
            await until(lambda: runner.snapshot().outcomes[Outcome.ACCEPTED])
            runner.stop(StopReason.INTERRUPTED)

        drive(session, plane, stop_when_idle)
    assert list(due_ns) == [0]
    assert plane.serials == ["B"]


def test_a_live_run_keeps_others_off_its_control_plane_unless_they_run_alongside(tmp_path: Path) -> None:
    more = [("X", Operation.SYNC, 1)]
    with start(tmp_path, rows(2)):
        with (
            pytest.raises(RunBusyError, match="is live on the same control plane"),
            start(tmp_path, more, run_id=OTHER_ID),
        ):
            pass
        shared = [*more, *rows(1)]
        with (
            pytest.raises(RunBusyError, match="holds 1 of these devices: SN0000"),
            start(tmp_path, shared, run_id=OTHER_ID, alongside=True),
        ):
            pass
        with start(tmp_path, more, run_id=OTHER_ID, alongside=True) as session:
            assert drive(session, Plane()).reason is StopReason.COMPLETE


def test_two_processes_cannot_take_up_the_same_run(tmp_path: Path) -> None:
    with (
        start(tmp_path, rows(2)),
        pytest.raises(RunBusyError, match="is being driven by another process"),
        resume(tmp_path),
    ):
        pass
    with resume(tmp_path), pytest.raises(RunBusyError), resume(tmp_path):
        pass


def test_a_resume_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    with start(tmp_path, rows(2)):
        pass
    with (
        start(tmp_path, rows(2), run_id=OTHER_ID),
        pytest.raises(RunBusyError),
        resume(tmp_path, lambda policy: quick_policy(rate=1), base_url=BASE_URL),
    ):
        pass
    with resume(tmp_path) as session:
        assert session.loaded.policy == quick_policy()


def test_a_resume_goes_on_with_what_was_changed(tmp_path: Path) -> None:
    with start(tmp_path, [("A", Operation.SYNC, 1_000_000), ("B", Operation.SYNC, 7)]):
        pass
    changed = quick_policy(rate=3, settle={"sync": "2h"})
    with resume(tmp_path, lambda policy: changed, base_url="https://other.example/api/v1") as session:
        assert session.loaded.policy == changed
        assert session.loaded.facts.base_url == "https://other.example/api/v1"
        assert list(session.loaded.steps.settle_ns_of) == [7200 * S, 7]
    assert read(tmp_path, "SELECT value FROM run WHERE key = 'longest_settle_ns'") == [(str(7200 * S),)]
    with resume(tmp_path) as session:
        assert session.loaded.policy == changed


def test_there_is_no_resuming_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"there is no run {RUN_ID}"), resume(tmp_path):
        pass


def test_a_run_whose_journal_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    new = new_run(rows(2), quick_policy())
    state = state_dir(tmp_path)
    state.journal_path(RUN_ID).with_suffix(".new").write_text("")

    with pytest.raises(JournalError, match="cannot be written"), Session.start(state, new):
        pass
    assert not state.lock_path(RUN_ID).exists()
    assert not state.journal_path(RUN_ID).exists()


@pytest.mark.parametrize(
    ("reply", "reason", "sent"),
    [
        (Reply(ReplyKind.TOKEN_REFUSED, Reason.TOKEN_REFUSED, 401), StopReason.TOKEN_REFUSED, ["SN0000"]),
        (Reply(ReplyKind.THROTTLED, Reason.THROTTLED, 429), StopReason.COMPLETE, ["SN0000", "SN0000", "SN0001"]),
    ],
)
def test_an_answer_holds_back_what_waits_for_its_intent_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Reply, reason: StopReason, sent: list[str]
) -> None:
    plane = Plane(lambda serial, before: ACCEPTED if before or serial != "SN0000" else reply)
    answered: list[int] = []
    with start(tmp_path, rows(2), quick_policy(concurrency=2, throttling={"hold": "1s"})) as session:
        begin = session._store.begin

        def begin_with_a_slow_disk(policy: Policy, *, now_ns: int) -> GroupCommit:
            journal = begin(policy, now_ns=now_ns)
            intend, answer = journal.intend, journal.answered

            async def intend_late(step: int, attempt: int, at_ns: int) -> None:
                await intend(step, attempt, at_ns)
                if step == 1:
                    await until(lambda: answered)

            def note(step: int, attempt: int, **what: Any) -> None:
                answer(step, attempt, **what)
                answered.append(step)

            monkeypatch.setattr(journal, "intend", intend_late)
            monkeypatch.setattr(journal, "answered", note)
            return journal

        monkeypatch.setattr(session._store, "begin", begin_with_a_slow_disk)
        assert drive(session, plane).reason is reason
    assert sorted(plane.serials) == sent
    gaps_ns = "SELECT min(later.sent_ns) - first.answered_ns FROM attempt first, attempt later "
    [(gap_ns,)] = read(tmp_path, gaps_ns + "WHERE first.kind = 'throttled' AND later.kind = 'accepted'")
    assert gap_ns is None or gap_ns >= S
