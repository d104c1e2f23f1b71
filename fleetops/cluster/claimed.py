"""A chunk that a worker has taken, made ready to be run as a campaign is on one host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fleetops.cluster.campaign import Campaign, CampaignJournal, Running, RunRow
from fleetops.cluster.journal import ChunkJournal, Hold
from fleetops.cluster.load import ChunkRows, LoadedChunk, load_chunk, read_chunk, wait_for_strays
from fleetops.cluster.outage import ChunkBreaker
from fleetops.cluster.window import opened_ns
from fleetops.journal.told import ToldJournal
from fleetops.policy import Policy
from fleetops.policy.settings import AtEnd
from fleetops.runner import Runner
from fleetops.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import psycopg

    from fleetops.cluster.clock import DatabaseClock
    from fleetops.cluster.metrics import Counts
    from fleetops.journal import Journal
    from fleetops.journal.told import Tell

_RUN: Final = """
SELECT base_url, policy, heed_window, drive,
       EXISTS (SELECT 1 FROM tally t WHERE t.run_id = r.run_id AND t.outcome IN ('accepted', 'confirmed')), starts_ns
FROM run r WHERE run_id = %s
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A chunk that was taken.

    Attributes:
        run: Its run.
        hold: The hold on it.
        rows: What the database has of it.
    """

    run: RunRow
    hold: Hold
    rows: ChunkRows


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk that is ready to be run.

    Attributes:
        running: Its runner, and what is to be known of it.
        journal: Its journal, as the runner has it.
        kept: The journal that keeps it in the database.
        lost: The steps and attempts that were left without an answer, which the runner is to begin with.
        steps: How many steps it has.
    """

    running: Running
    journal: CampaignJournal
    kept: ChunkJournal
    lost: Sequence[tuple[int, int]]
    steps: int


async def claim(connection: psycopg.AsyncConnection[Any], run_id: str, chunk: int, worker: int) -> Claimed | None:
    """Take a chunk; None where it is not to be had."""
    taken = await (await connection.execute("SELECT claim_chunk(%s, %s, %s)", (run_id, chunk, worker))).fetchone()
    epoch = None if taken is None else taken[0]
    if epoch is None:
        return None
    row = await (await connection.execute(_RUN, (run_id,))).fetchone()
    assert row is not None, "a chunk has a run"  # noqa: S101 - what the database keeps
    run = RunRow(run_id, row[0], Policy.from_json(row[1]), *row[2:])
    rows = await read_chunk(connection, run_id, chunk, run.policy)
    return Claimed(run, Hold(run_id, chunk, worker, epoch, run.drive), rows)


def prepare(
    claimed: Claimed,
    campaign: Campaign,
    clock: DatabaseClock,
    alive: Callable[[], bool],
    counts: Counts,
    tell_step: Tell | None,
) -> Prepared:
    """Make a chunk ready to be run.

    Args:
        claimed: The chunk.
        campaign: Its run, as the worker takes part in it.
        clock: The database's clock.
        alive: Whether the worker's lease lasts.
        counts: What the worker has done, to be counted on.
        tell_step: Is told of attempts and of what they lead to; None where nobody wants to know.
    """
    run, hold, rows, now_ns = claimed.run, claimed.hold, claimed.rows, clock.now_ns()
    loaded = wait_for_strays(load_chunk(rows, run.policy, now_ns=now_ns), rows, run.policy)
    progress = replace(loaded.progress, opened_ns=opened_ns(run.policy, run.starts_ns, now_ns))
    kept = ChunkJournal(
        campaign.pool, hold, loaded.numbers, loaded.steps, confident=alive, committed=campaign.committed
    )
    breaker = ChunkBreaker(campaign.breaker, run.policy.breaker)
    policy = chunk_policy(run.policy, len(rows.devices))
    scheduler = Scheduler(
        loaded.steps,
        policy,
        f"{run.run_id}/{hold.chunk}".encode(),
        progress,
        heed_window=run.heed_window,
        breaker=breaker,
        throttled=campaign.throttled,
    )
    journal = CampaignJournal(_told(kept, run.run_id, loaded, tell_step), campaign, counts)
    runner = Runner(
        scheduler,
        journal,
        campaign.control,
        clock,
        steps=loaded.steps,
        policy=policy,
        inventory=campaign.client.inventory,
        gate=campaign.gate,
    )
    lost = [(step, progress.troubles[step].sends + 1) for step in progress.lost]
    return Prepared(Running(runner, scheduler, breaker, hold.epoch), journal, kept, lost, len(loaded.steps))


def _told(journal: Journal, run_id: str, loaded: LoadedChunk, tell_step: Tell | None) -> Journal:
    """A chunk's journal, and whoever is told of its steps."""
    if tell_step is None:
        return journal

    def tell(level: str, event: str, at_ns: int, fields: Mapping[str, Any]) -> None:
        tell_step(level, event, at_ns, {"run_id": run_id, **fields})

    return ToldJournal(journal, loaded.steps, tell, loaded.numbers)


def chunk_policy(policy: Policy, devices: int) -> Policy:
    """The policy of a chunk's scheduler: without what is decided for the run as a whole."""
    ours = {"waves": None, "abort_when": (), "at_end": AtEnd.STOP}
    return policy.model_copy(update=ours | {"concurrency": max(1, min(policy.concurrency, devices))})
