from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from fleetops.journal import RunClock, RunStore, StateDir, create_journal
from fleetops.journal.commits import Batch
from fleetops.journal.records import NewRun, RunFacts
from fleetops.model import NS_PER_S, Operation, Outcome, Reason, Reply, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.scheduler import Finish, StopReason
from fleetops.simulation.campaigns import Run, Story, make_campaign
from fleetops.simulation.journal import Answer, ModelJournal
from fleetops.simulation.world import HostileWorld
from tests.journal.runs import write

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.simulation import journal as model

RUN_ID = "20260101-000000-abcd"


def store_batch(batch: model.Batch, process: int) -> Batch:
    facts = {} if batch.hold_until_ns is None else {"hold_until_ns": str(batch.hold_until_ns)}
    return Batch(
        intents=[(step, attempt, process, intent_ns) for step, attempt, intent_ns in batch.intents],
        withdrawn=batch.withdrawn,
        answers=[
            (
                *(row.sent_ns, row.answered_ns, process, row.reply.kind, row.reply.reason),
                *(None, None, "", row.step, row.attempt),
            )
            for row in batch.answers
        ],
        results=[(row.step, row.outcome, row.reason, row.finished_ns, process) for row in batch.results],
        facts=facts,
    )


class Twin:
    """Writes to a real store what a model journal holds, as it grows."""

    def __init__(self, root: Path, run: Run) -> None:
        state = StateDir(root)
        state.prepare()
        facts = RunFacts(RUN_ID, "fleet.csv", "0" * 64, "", "https://control.example", 0)
        path = state.journal_path(RUN_ID)
        create_journal(path, NewRun(facts, run.campaign.policy, run.campaign.steps))
        self.store = RunStore.open(path, state.lock_run(RUN_ID), RunClock())
        self.store._connection.execute("PRAGMA synchronous = OFF")
        self._journal = run.journal
        self._written = 0

    def follow(self) -> None:
        last = self._journal.processes[-1]
        process = len(self._journal.processes)
        commit = self.store.begin(last.policy, now_ns=last.started_ns)
        for number, batch in self._journal.commits[self._written :]:
            assert number == process - 1
            self._written += 1
            write(self.store._connection, store_batch(batch, process), self._written)
        if last.ended_ns is not None:
            assert last.end_reason is not None
            commit._end(last.ended_ns, last.end_reason, "")


@pytest.mark.parametrize("seed", range(25))
def test_the_model_takes_a_run_up_just_as_the_real_store_does(seed: int, tmp_path: Path) -> None:
    rng = Random(seed)
    campaign = make_campaign(rng, [f"S{number}" for number in range(8)])
    run = Run(
        campaign,
        b"key",
        HostileWorld(seed, campaign.steps, campaign.policy, campaign.faults),
        ModelJournal(campaign.steps),
    )
    story = Story([run])
    twin = Twin(tmp_path, run)
    for life in range(6):
        crash_at = rng.randrange(30) if life % 3 else None
        story.live(run, crash_at=crash_at)
        run.journal.crash(story.now_ns, commit_made_it=rng.random() < 0.5)
        twin.follow()
        story.now_ns += rng.choice((0, NS_PER_S, 100 * NS_PER_S))
        real = twin.store.load(now_ns=story.now_ns).progress
        modelled = run.journal.progress(story.now_ns)
        assert replace(real, lost=sorted(real.lost)) == replace(modelled, lost=sorted(modelled.lost))
    twin.store.close()


STEPS = Steps.of([("A", Operation.SYNC, 10), ("B", Operation.SYNC, 10)])


def test_what_is_noted_during_a_commit_waits_for_the_next_one() -> None:
    journal = ModelJournal(STEPS)
    journal.begin(Policy(), 0)
    journal.intend(0, 1, 5)
    journal.start_commit()
    journal.intend(1, 1, 6)
    assert journal.end_commit(7) == [(0, 1, 5)]
    assert list(journal.attempts) == [(0, 1)]
    assert journal.has_notes


@pytest.mark.parametrize("commit_made_it", [False, True])
def test_a_crash_loses_what_is_not_durable(*, commit_made_it: bool) -> None:
    journal = ModelJournal(STEPS)
    journal.begin(Policy(), 0)
    journal.intend(0, 1, 5)
    journal.start_commit()
    journal.intend(1, 1, 6)
    journal.crash(7, commit_made_it=commit_made_it)
    assert list(journal.attempts) == ([(0, 1)] if commit_made_it else [])
    assert not journal.has_notes
    assert not journal.is_writing


def test_an_outcome_is_recorded_once_but_for_what_its_confirmation_came_to() -> None:
    journal = ModelJournal(STEPS)
    journal.begin(Policy(), 0)
    journal.intend(0, 1, 5)
    journal.start_commit()
    journal.end_commit(6)
    accepted = Answer(0, 1, 6, 8, Reply(ReplyKind.ACCEPTED))
    journal.answered(accepted, [Finish(0, Outcome.ACCEPTED)])
    journal.confirmed([Finish(0, Outcome.ACCEPTED, Reason.NOT_CONFIRMED)], 9)
    journal.start_commit()
    journal.end_commit(10)
    journal.close(11, StopReason.COMPLETE)
    journal.confirmed([Finish(0, Outcome.CONFIRMED)], 12)
    journal.start_commit()
    with pytest.raises(AssertionError, match="step 0 was accepted and becomes confirmed"):
        journal.end_commit(13)
