"""What every implementation of `Journal` has to keep, whatever it stores in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel
import pytest

from fleetops.errors import JournalError
from fleetops.journal import RunClock
from fleetops.model import Operation, Outcome, Reason
from fleetops.policy import Policy
from fleetops.scheduler import Event, Finish, Hold, Notice, Skip, Trouble
from tests.cluster.kept import OnPostgres
from tests.journal.runs import ACCEPTED, LOST, S, create, new_run, open_store, rows, state_dir

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from fleetops.journal import Journal, RunStore, StateDir
    from fleetops.scheduler import Effect, Progress

T0 = 1_767_330_000 * S
POLICY = Policy.from_json('{"confirm": true}')
STEPS = [("A", Operation.SYNC, 60 * S), ("A", Operation.RECONF, 60 * S), *rows(8, Operation.REBOOT)]


class Kept(Protocol):
    """A run that is kept somewhere, and taken up by one process after another."""

    def take_up(self) -> Journal:
        """A new process drives the run; the one before has died, where it did not close its journal."""

    def progress(self, now_ns: int) -> Progress:
        """What a process that takes the run up now would go on from."""

    def break_down(self) -> None:
        """From now on nothing can be written."""

    def mend(self) -> None:
        """Writing works again."""


@dataclass
class OnSqlite:
    state: StateDir
    clock: RunClock
    store: RunStore | None = None

    def take_up(self) -> Journal:
        self.let_go()
        self.store = open_store(self.state, clock=self.clock)
        return self.store.begin(POLICY, now_ns=T0)

    def progress(self, now_ns: int) -> Progress:
        self.let_go()
        store = open_store(self.state, clock=self.clock)
        try:
            return store.load(now_ns=now_ns).progress
        finally:
            store.close()

    def break_down(self) -> None:
        assert self.store is not None
        self.store._connection.execute("PRAGMA query_only = ON")

    def mend(self) -> None:
        assert self.store is not None
        self.store._connection.execute("PRAGMA query_only = OFF")

    def let_go(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None


def on_sqlite(root: Path) -> OnSqlite:
    state = state_dir(root)
    create(state, new_run(STEPS, POLICY))
    return OnSqlite(state, RunClock())


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "sqlite":
        return on_sqlite(tmp_path)
    return OnPostgres(request.getfixturevalue("database"), new_run(STEPS, POLICY))


async def serving(journal: Journal, use: Callable[[], Awaitable[object]]) -> None:
    """Use a journal while it is served."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        await use()
        tasks.cancel_scope.cancel()


async def close(journal: Journal) -> None:
    await journal.close(now_ns=T0 + 100 * S, reason="complete", detail="")


def accepted(journal: Journal, step: int, attempt: int = 1) -> None:
    journal.answered(
        step,
        attempt,
        sent_ns=T0,
        answered_ns=T0 + 1,
        reply=ACCEPTED,
        effects=[Finish(step, Outcome.ACCEPTED)],
    )


@pytest.mark.anyio
async def test_an_intent_outlives_the_process_once_it_was_asked_for(kept: Kept) -> None:
    journal = kept.take_up()
    await serving(journal, lambda: journal.intend(3, 1, T0))
    progress = kept.progress(T0 + S)
    assert list(progress.lost) == [3]
    assert progress.troubles == {3: Trouble(sends=0, failures=0, first_ns=T0 + S)}


@pytest.mark.anyio
async def test_many_intents_at_once_are_all_durable(kept: Kept) -> None:
    journal = kept.take_up()

    async def all_at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for step in range(10):
                tasks.start_soon(journal.intend, step, 1, T0)

    await serving(journal, all_at_once)
    assert sorted(kept.progress(T0 + S).lost) == list(range(10))


@pytest.mark.anyio
async def test_an_answer_is_durable_before_an_intent_that_is_asked_for_after_it(kept: Kept) -> None:
    journal = kept.take_up()

    async def use() -> None:
        await journal.intend(0, 1, T0)
        accepted(journal, 0)
        await journal.intend(2, 1, T0 + 2)

    await serving(journal, use)
    progress = kept.progress(T0 + S)
    assert progress.outcomes[0] == 1
    assert list(progress.lost) == [2]


@pytest.mark.anyio
async def test_a_withdrawn_intent_leaves_nothing_and_its_attempt_may_be_intended_again(kept: Kept) -> None:
    journal = kept.take_up()

    async def use() -> None:
        for _ in range(3):
            await journal.intend(2, 1, T0)
            journal.withdrawn(2, 1)
        await journal.intend(3, 1, T0)

    await serving(journal, use)
    progress = kept.progress(T0 + S)
    assert list(progress.lost) == [3]
    assert list(progress.troubles) == [3]


@pytest.mark.anyio
async def test_an_intent_that_is_withdrawn_before_it_is_written_leaves_nothing(kept: Kept) -> None:
    journal = kept.take_up()

    async def given_up() -> None:
        try:
            await journal.intend(2, 1, T0)
        except anyio.get_cancelled_exc_class():
            journal.withdrawn(2, 1)
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(given_up)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    await close(journal)
    progress = kept.progress(T0 + S)
    assert not progress.lost
    assert not progress.troubles


@pytest.mark.anyio
async def test_an_intent_may_be_asked_for_again_in_the_batch_that_withdraws_it(kept: Kept) -> None:
    journal = kept.take_up()
    await serving(journal, lambda: journal.intend(2, 1, T0))
    journal.withdrawn(2, 1)
    await serving(journal, lambda: journal.intend(2, 1, T0 + 5))
    await close(journal)
    assert list(kept.progress(T0 + S).lost) == [2]


@pytest.mark.anyio
async def test_a_withdrawal_never_takes_an_answered_attempt_away(kept: Kept) -> None:
    journal = kept.take_up()
    await serving(journal, lambda: journal.intend(0, 1, T0))
    accepted(journal, 0)
    await serving(journal, lambda: journal.intend(2, 1, T0))
    journal.withdrawn(0, 1)
    await close(journal)
    assert kept.progress(T0 + S).not_before_ns == {0: T0 + 1 + 60 * S}


@pytest.mark.anyio
async def test_what_was_noted_is_written_when_the_journal_is_closed(kept: Kept) -> None:
    journal = kept.take_up()
    await serving(journal, lambda: journal.intend(0, 1, T0))
    effects: list[Effect] = [
        Finish(0, Outcome.FAILED, Reason.INVALID),
        Skip([1], Reason.EARLIER_STEP_FAILED),
        Hold(T0 + 90 * S),
    ]
    journal.answered(0, 1, sent_ns=T0, answered_ns=T0 + 1, reply=LOST, effects=effects)
    journal.happened([Notice(T0, Event.PAUSED, "by the operator")])
    await close(journal)
    progress = kept.progress(T0 + S)
    assert bytes(progress.outcomes[:2]) == bytes((3, 5))
    assert progress.hold_until_ns == T0 + 90 * S


@pytest.mark.anyio
async def test_closing_with_nothing_noted_is_fine_and_so_is_a_cancellation_meanwhile(kept: Kept) -> None:
    journal = kept.take_up()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await close(journal)
    assert not kept.progress(T0 + S).lost


@pytest.mark.anyio
async def test_a_journal_that_is_cancelled_in_the_middle_of_a_commit_loses_nothing(kept: Kept) -> None:
    journal = kept.take_up()
    written: list[int] = []

    async def intend(step: int) -> None:
        await journal.intend(step, 1, T0)
        written.append(step)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.serve)
        tasks.start_soon(intend, 2)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    accepted(journal, 0)
    await close(journal)
    progress = kept.progress(T0 + S)
    assert set(written) <= set(progress.lost) <= {2}


@pytest.mark.anyio
async def test_everyone_who_waits_learns_that_nothing_could_be_written(kept: Kept) -> None:
    journal = kept.take_up()
    kept.break_down()
    failed: list[int] = []

    async def intend(step: int) -> None:
        with pytest.raises(JournalError, match="cannot be written"):
            await journal.intend(step, 1, T0)
        failed.append(step)

    async def all_at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for step in range(6):
                tasks.start_soon(intend, step)

    await serving(journal, all_at_once)
    assert sorted(failed) == list(range(6))
    kept.mend()
    await close(journal)
    assert not kept.progress(T0 + S).lost


@pytest.mark.anyio
async def test_answers_noted_while_nothing_could_be_written_are_kept_for_later(kept: Kept) -> None:
    journal = kept.take_up()

    async def use() -> None:
        await journal.intend(0, 1, T0)
        await journal.intend(2, 1, T0)
        kept.break_down()
        accepted(journal, 0)
        with pytest.raises(JournalError):
            await journal.intend(3, 1, T0)
        journal.withdrawn(2, 1)
        with pytest.raises(JournalError):
            await journal.intend(3, 1, T0)
        kept.mend()
        await journal.intend(4, 1, T0)

    await serving(journal, use)
    progress = kept.progress(T0 + S)
    assert progress.outcomes[0] == 1
    assert list(progress.lost) == [4]


@pytest.mark.anyio
async def test_closing_says_so_where_what_was_noted_cannot_be_written(kept: Kept) -> None:
    journal = kept.take_up()
    await serving(journal, lambda: journal.intend(0, 1, T0))
    accepted(journal, 0)
    kept.break_down()
    with pytest.raises(JournalError, match="cannot be written"):
        await close(journal)
    assert list(kept.progress(T0 + S).lost) == [0]


@pytest.mark.anyio
async def test_what_cannot_be_stored_fails_whoever_waits_instead_of_letting_them_send(kept: Kept) -> None:
    journal = kept.take_up()

    async def use() -> None:
        journal.happened([Notice(T0, Event.PAUSED, "\udcff")])
        with pytest.raises(JournalError):
            await journal.intend(2, 1, T0)

    await serving(journal, use)
    assert not kept.progress(T0 + S).lost


@pytest.mark.anyio
async def test_a_confirmation_changes_an_accepted_step_for_good(kept: Kept) -> None:
    journal = kept.take_up()
    await serving(journal, lambda: journal.intend(0, 1, T0))
    accepted(journal, 0)
    await close(journal)
    assert kept.progress(T0 + S).unconfirmed == {0: T0}
    journal = kept.take_up()
    journal.confirmed([Finish(0, Outcome.CONFIRMED)], T0 + 5)
    await close(journal)
    progress = kept.progress(T0 + S)
    assert progress.outcomes[0] == 2
    assert not progress.unconfirmed


@pytest.mark.anyio
async def test_only_the_last_step_that_was_tried_of_a_device_is_still_to_be_confirmed(kept: Kept) -> None:
    journal = kept.take_up()
    await serving(journal, lambda: journal.intend(0, 1, T0))
    accepted(journal, 0)
    await serving(journal, lambda: journal.intend(1, 1, T0))
    assert not kept.progress(T0 + S).unconfirmed


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
