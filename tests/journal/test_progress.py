"""Whatever is noted, withdrawn and lost in a crash: a load gives what a plain model of it gives."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleetops.journal import RunClock, RunStore
from fleetops.model import OUTCOMES, Operation, Outcome, Reason, Reply, ReplyKind
from fleetops.policy import Policy
from fleetops.scheduler import Finish
from tests.journal.runs import ACCEPTED, LOST, UNREACHABLE, S, create, new_run, open_store, rows, state_dir

if TYPE_CHECKING:
    from fleetops.journal.commits import GroupCommit

T0 = 1_767_330_000 * S
COUNT = 5
CLOCK = RunClock()
REFUSED = Reply(ReplyKind.REFUSED, Reason.INVALID, 422)
STEPS = st.integers(0, COUNT - 1)


class JournalMachine(RuleBasedStateMachine):
    """What is noted is volatile until a commit; the model keeps both."""

    store: RunStore
    journal: GroupCommit

    @initialize()
    def make(self) -> None:
        self.loop = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.state = state_dir(Path(self.folder.name))
        create(self.state, new_run(rows(COUNT, Operation.SYNC)))
        self.durable: dict[int, list[ReplyKind | None]] = {step: [] for step in range(COUNT)}
        self.outcomes: dict[int, Outcome] = {}
        self.noted = {step: list[ReplyKind | None]() for step in range(COUNT)}
        self.noted_outcomes: dict[int, Outcome] = {}
        self.begin()

    def begin(self) -> None:
        self.store = open_store(self.state, clock=CLOCK)
        self.store._connection.execute("PRAGMA synchronous = OFF")
        self.journal = self.store.begin(Policy(), now_ns=T0)

    def commit(self) -> None:
        self.durable = {step: list(attempts) for step, attempts in self.noted.items()}
        self.outcomes = dict(self.noted_outcomes)

    def is_open(self, step: int) -> bool:
        return step not in self.noted_outcomes

    def in_flight(self, step: int) -> bool:
        return bool(self.noted[step]) and self.noted[step][-1] is None

    @rule(steps=st.lists(STEPS, min_size=1, max_size=3, unique=True), given_up=st.booleans())
    def intend(self, steps: list[int], *, given_up: bool) -> None:
        able = [step for step in steps if self.is_open(step) and not self.in_flight(step)]
        for step in able:
            self.noted[step].append(None)

        async def use() -> None:
            async with anyio.create_task_group() as tasks:
                for step in able:
                    tasks.start_soon(self.journal.intend, step, len(self.noted[step]), T0)
                await anyio.wait_all_tasks_blocked()
                if given_up:
                    tasks.cancel_scope.cancel()
            if given_up:
                for step in able:
                    self.journal.withdrawn(step, len(self.noted[step]))
                    self.noted[step].pop()

        async def serve() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.journal.serve)
                await use()
                tasks.cancel_scope.cancel()

        if given_up:
            self.loop.run(use())
        elif able:
            self.loop.run(serve())
            self.commit()

    @rule(step=STEPS, reply=st.sampled_from([ACCEPTED, LOST, UNREACHABLE, REFUSED]))
    def answer(self, step: int, reply: Reply) -> None:
        if not self.in_flight(step):
            return
        attempt = len(self.noted[step])
        self.noted[step][-1] = reply.kind
        outcome = {ReplyKind.ACCEPTED: Outcome.ACCEPTED, ReplyKind.REFUSED: Outcome.FAILED}.get(reply.kind)
        if outcome is not None:
            self.noted_outcomes[step] = outcome
        effects = [] if outcome is None else [Finish(step, outcome, reply.reason)]
        self.journal.answered(step, attempt, sent_ns=T0, answered_ns=T0, reply=reply, effects=effects)

    @rule(step=STEPS)
    def withdraw(self, step: int) -> None:
        if self.in_flight(step):
            self.journal.withdrawn(step, len(self.noted[step]))
            self.noted[step].pop()

    @rule()
    def crash(self) -> None:
        self.store.close()
        self.noted = {step: list(attempts) for step, attempts in self.durable.items()}
        self.noted_outcomes = dict(self.outcomes)
        self.begin()

    @rule()
    def close(self) -> None:
        async def close() -> None:
            await self.journal.close(now_ns=T0, reason="interrupted", detail="")

        self.loop.run(close())
        self.commit()
        self.crash()

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def a_load_gives_what_is_durable(self) -> None:
        progress = self.store.load(now_ns=T0).progress
        assert {step: OUTCOMES[code - 1] for step, code in enumerate(progress.outcomes) if code} == self.outcomes
        tried = {step: kinds for step, kinds in self.durable.items() if kinds and step not in self.outcomes}
        assert sorted(progress.lost) == [step for step, kinds in tried.items() if kinds[-1] is None]
        assert sorted(progress.troubles) == sorted(tried)
        for step, trouble in progress.troubles.items():
            answered = [kind for kind in tried[step] if kind is not None]
            assert trouble.sends == trouble.failures == len(answered)
            assert (trouble.may_have_run is not None) == (ReplyKind.MAYBE in answered)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.loop.close()
            self.folder.cleanup()


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
