"""A run as a worker takes part in it: what its chunks share among themselves, and with the chunks of other workers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio
import psycopg
import psycopg_pool
from psycopg.rows import namedtuple_row

from fleetops.cluster.gate import SharedGate
from fleetops.cluster.outage import ChunkBreaker, SharedBreaker
from fleetops.cluster.slots import AHEAD_NS, SPREAD_NS
from fleetops.cluster.standing import note_events, settle, stop_run
from fleetops.journal.clock import since_boot_ns
from fleetops.model import NS_PER_S, Outcome, ReplyKind
from fleetops.policy.adaptive import CUT, FLOOR, RAISE_PER_S, Throttled
from fleetops.scheduler import Event, Finish, Hold, Skip, Stop, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg_pool import AsyncConnectionPool

    from fleetops.cluster.clock import DatabaseClock
    from fleetops.cluster.metrics import Counts
    from fleetops.control import ControlPlane, HttpControlPlane
    from fleetops.journal import Journal
    from fleetops.model import Operation, Reply
    from fleetops.policy import Policy
    from fleetops.runner import Runner
    from fleetops.scheduler import Effect, Notice, Scheduler

_SYNC_S: Final = 0.25
"""How often, at least, a worker looks how the run stands."""
_SHORTEST_S: Final = 0.01
_NONE_LEFT_S: Final = 0.02
_AGAIN_S: Final = 0.2
_JUDGE_S: Final = 1.0
_CUTS_APART_NS: Final = NS_PER_S
_TOLD_APART_NS: Final = 60 * NS_PER_S
_OF_THE_RUN: Final = frozenset({Event.WINDOW_OPEN, Event.WINDOW_CLOSED})
"""What each chunk sees of the run for itself, and what is on record once. All else is noted where it is decided."""
_THROTTLED: Final = """
UPDATE pace SET throttled_since_ns = CASE WHEN %(since_ns)s::bigint IS NOT NULL
    THEN coalesce(throttled_since_ns, %(since_ns)s) END WHERE run_id = %(run_id)s
"""
_RESERVE: Final = "SELECT * FROM reserve_slots(%s, %s, %s, %s, %s, %s, %s, %s)"
FAILURES: Final = (psycopg.Error, psycopg_pool.PoolTimeout, OSError)


@dataclass(frozen=True, slots=True)
class RunRow:
    """What a worker has to know of a run.

    Attributes:
        run_id: The run.
        base_url: Its control plane.
        policy: How it is run.
        heed_window: Whether the policy's maintenance windows count.
        drive: The drive of the run.
        has_answered: Whether the service has accepted a step of it.
        starts_ns: When it was started, or goes on after a window had closed.
    """

    run_id: str
    base_url: str
    policy: Policy
    heed_window: bool
    drive: int
    has_answered: bool
    starts_ns: int


@dataclass(slots=True)
class Running:
    """A chunk that is being run.

    Attributes:
        runner: Its runner.
        scheduler: Its scheduler.
        breaker: Its view of the breaker.
        epoch: The number of the hold on it.
        lost: Whether the hold was lost.
    """

    runner: Runner
    scheduler: Scheduler
    breaker: ChunkBreaker
    epoch: int
    lost: bool = False


class BoundedControl:
    """A control plane that counts what is in flight."""

    def __init__(self, control: ControlPlane, gate: SharedGate) -> None:
        self._control = control
        self._gate = gate

    async def execute(self, serial_number: str, operation: Operation) -> Reply:
        """Send one operation; see `ControlPlane.execute`."""
        self._gate.in_flight += 1
        try:
            return await self._control.execute(serial_number, operation)
        finally:
            self._gate.in_flight -= 1
            self._gate.look_again()

    async def aclose(self) -> None:
        """Close the connections; see `ControlPlane.aclose`."""
        await self._control.aclose()


class Campaign:
    """A run as this worker takes part in it.

    Args:
        row: The run.
        pool: Connections to the database.
        clock: The database's clock.
        control: The control plane, which is this worker's own.
        alive: Whether the worker's lease lasts.

    Attributes:
        running: Its chunks that this worker has.
        gate: The gate that they share.
        control: What they send by.
        breaker: The breaker that they share.
        throttled: Since when the service has answered nothing but 429, to whichever of them.
        stopped: Why nothing more of the run is sent; None while it goes on.
        task: Keeps it in step with the run.
    """

    def __init__(
        self,
        row: RunRow,
        pool: AsyncConnectionPool[Any],
        clock: DatabaseClock,
        control: HttpControlPlane,
        alive: Callable[[], bool],
    ) -> None:
        self.row = row
        self.pool = pool
        self.running: dict[int, Running] = {}
        self.gate = SharedGate(clock.now_ns, alive, self._demand)
        self.gate.most_in_flight = row.policy.concurrency
        self.gate.set_rate(row.policy.rate.per_s, row.policy.rate.per_s)
        self.breaker = SharedBreaker(row.policy.breaker, has_answered=row.has_answered)
        self.throttled = Throttled()
        self.control = BoundedControl(control, self.gate)
        self.client = control
        self.task: asyncio.Task[None] | None = None
        self.stopped: StopReason | None = None
        self._clock = clock
        self._stop_soon: tuple[StopReason, str] | None = None
        self._cut_soon = False
        self._throttled_since_ns: int | None = None
        self._events: list[tuple[Event, str]] = []
        self._judge_soon = False
        self._judged_s = 0.0
        self._paused = False

    def _demand(self) -> int:
        return sum(one.scheduler.ready for one in self.running.values())

    def joined(self, chunk: int, running: Running) -> None:
        """A chunk is run from now on, in the state that the run is in."""
        self.running[chunk] = running
        if self._paused:
            running.runner.pause()
        if self.stopped is not None:
            running.runner.stop(self.stopped)

    def left(self, chunk: int) -> None:
        """A chunk is over here."""
        self.running.pop(chunk).breaker.leave()

    def committed(self, bad: bool) -> None:
        """A commit was made; whether a step that failed or may have run was in it."""
        if bad and self.row.policy.abort_when:
            self._judge_soon = True
            self.gate.look_again()
            self.gate.wake()

    def seen(self, reply: Reply, effects: Sequence[Effect]) -> None:
        """An attempt of one of the chunks was answered."""
        if reply.kind is ReplyKind.THROTTLED:
            self._cut_soon = True
            self.gate.wake()
        for effect in effects:
            if isinstance(effect, Stop):
                self.stop(effect.reason, effect.detail)
            elif isinstance(effect, Hold):
                self.gate.hold(effect.until_ns)
        if self.breaker.news:
            self.gate.drop_slots()
            self.gate.wake()

    def happened(self, notices: Sequence[Notice]) -> None:
        """A chunk has seen something of the run."""
        self._events += [(notice.event, notice.detail) for notice in notices if notice.event in _OF_THE_RUN]

    def stop(self, reason: StopReason, detail: str) -> None:
        """Have nothing more of the run sent, here at once and by the others soon."""
        if self._stop_soon is None:
            self._stop_soon = reason, detail
        self._stop_here(reason, detail)
        self.gate.wake()

    def _stop_here(self, reason: StopReason, detail: str) -> None:
        if self.stopped is None:
            self.stopped = reason
            self.gate.shut = True
            self.gate.look_again()
            for one in self.running.values():
                one.runner.stop(reason, detail)

    async def sync(self) -> None:
        """Reserve slots where they are missing, and keep up with how the run stands, until cancelled."""
        while True:
            await self.gate.hungry(_SYNC_S)
            want = self.gate.wanted()
            try:
                async with self.pool.connection() as connection:
                    await self._tell(connection)
                    granted = await self._reserve(connection, want)
                    await self._judge(connection)
            except FAILURES:
                # No slots, no sends. What was to be told is told once the database is there again.
                await anyio.sleep(_AGAIN_S)
                continue
            await anyio.sleep(_SHORTEST_S if granted or not want else _NONE_LEFT_S)

    async def tell(self) -> None:
        """Have the others know now what this worker knows of the run."""
        async with self.pool.connection() as connection:
            await self._tell(connection)

    async def _tell(self, connection: psycopg.AsyncConnection[Any]) -> None:
        run_id, drive = self.row.run_id, self.row.drive
        if self._stop_soon is not None:
            await stop_run(connection, run_id, *self._stop_soon)
            self._stop_soon = None
        if self._cut_soon:
            await connection.execute("SELECT cut_rate(%s, %s, %s, %s)", (run_id, CUT, FLOOR, _CUTS_APART_NS))
            self._cut_soon = False
        if self.throttled.since_ns != self._throttled_since_ns:
            since_ns = self.throttled.since_ns
            await connection.execute(_THROTTLED, {"run_id": run_id, "since_ns": since_ns})
            self._throttled_since_ns = since_ns
        if self.breaker.news:
            await self._tell_outage(connection)
        if self._events:
            events, self._events = self._events, []
            await note_events(connection, run_id, drive, events, apart_ns=_TOLD_APART_NS)

    async def _tell_outage(self, connection: psycopg.AsyncConnection[Any]) -> None:
        since_ns, until_ns = self.breaker.since_ns, self.breaker.until_ns
        run_id = self.row.run_id
        if since_ns is None:
            cursor = await connection.execute(
                "UPDATE pace SET outage_since_ns = NULL, outage_until_ns = NULL "
                "WHERE run_id = %s AND outage_since_ns IS NOT NULL",
                (run_id,),
            )
            event = Event.OUTAGE_OVER
        else:
            cursor = await connection.execute(
                "UPDATE pace SET outage_since_ns = %s, outage_until_ns = %s "
                "WHERE run_id = %s AND outage_since_ns IS NULL",
                (since_ns, until_ns, run_id),
            )
            event = Event.OUTAGE
            if not cursor.rowcount:
                await connection.execute(
                    "UPDATE pace SET outage_until_ns = greatest(outage_until_ns, %s) WHERE run_id = %s",
                    (until_ns, run_id),
                )
        self.breaker.news = False
        if cursor.rowcount:
            await note_events(connection, run_id, self.row.drive, [(event, "")])

    async def _reserve(self, connection: psycopg.AsyncConnection[Any], want: int) -> int:
        bound_ns, probe_ns = self._clock.bound_ns, self.row.policy.breaker.hold_ns
        given = (self.row.run_id, want, bound_ns, SPREAD_NS, AHEAD_NS, self.gate.lead_ns, RAISE_PER_S, probe_ns)
        cursor = connection.cursor(row_factory=namedtuple_row)
        asked_ns = since_boot_ns()
        await cursor.execute(_RESERVE, given)
        row: Any = await cursor.fetchone()
        self._clock.measured(asked_ns, row.at_ns, since_boot_ns())
        self._follow(row)
        if row.moments:
            self.gate.granted(row.moments, row.at_ns)
        return len(row.moments)

    def _follow(self, row: Any) -> None:
        """Have the chunks be as the run is."""
        gate = self.gate
        gate.set_rate(row.per_s, row.gate_per_s)
        gate.hold(row.hold_ns)
        share = max(1, self.row.policy.concurrency // max(1, row.workers))
        if share != gate.most_in_flight:
            gate.most_in_flight = share
            gate.look_again()
        if row.stop_reason is not None or row.ended:
            self._stop_here(StopReason(row.stop_reason or StopReason.INTERRUPTED), row.stop_detail)
        if self.throttled.since_ns == self._throttled_since_ns:
            self.throttled.since_ns = self._throttled_since_ns = row.throttled_since_ns
        news = self.breaker.adopt(row.outage_since_ns, row.outage_until_ns, self._clock.now_ns())
        if row.paused is not self._paused:
            self._paused = row.paused
            for one in self.running.values():
                one.runner.pause() if row.paused else one.runner.go_on()
        for one in self.running.values():
            one.scheduler.hold_until_ns = max(one.scheduler.hold_until_ns, row.hold_ns)
            if news:
                one.runner.look_again()

    async def _judge(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """See now and then, and after what went wrong, whether the run is to go on."""
        now_s = asyncio.get_running_loop().time()
        if self._judge_soon or now_s > self._judged_s + _JUDGE_S:
            self._judge_soon = False
            self._judged_s = now_s
            change = await settle(connection, self.row.run_id)
            if change.stop is not None:
                self._stop_here(*change.stop)


class CampaignJournal:
    """A chunk's journal, and its campaign, which is told of what concerns more than the chunk.

    Args:
        journal: What keeps it all.
        campaign: Is told.
        counts: What the worker has done, to be counted on.
    """

    def __init__(self, journal: Journal, campaign: Campaign, counts: Counts) -> None:
        self._journal = journal
        self._counts = counts
        self._campaign = campaign
        self.withdrawn = journal.withdrawn
        self.serve = journal.serve
        self.close = journal.close

    async def intend(self, step: int, attempt: int, now_ns: int) -> None:
        """Make it durable that `step` may be sent from now on, and note how long that takes."""
        began_ns = since_boot_ns()
        await self._journal.intend(step, attempt, now_ns)
        self._campaign.gate.committed(since_boot_ns() - began_ns)

    def answered(
        self,
        step: int,
        attempt: int,
        *,
        sent_ns: int | None,
        answered_ns: int,
        reply: Reply,
        effects: Sequence[Effect],
    ) -> None:
        """Note what came of an attempt, and tell the campaign."""
        self._journal.answered(step, attempt, sent_ns=sent_ns, answered_ns=answered_ns, reply=reply, effects=effects)
        self._campaign.seen(reply, effects)
        self._counts.attempts[reply.kind] += 1
        self._count(effects)

    def confirmed(self, effects: Sequence[Effect], now_ns: int) -> None:
        """Note what a look into the inventory changed; see `Journal.confirmed`."""
        self._journal.confirmed(effects, now_ns)
        self._count(effects)

    def _count(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Finish):
                self._counts.outcomes[effect.outcome] += 1
            elif isinstance(effect, Skip):
                self._counts.outcomes[Outcome.SKIPPED] += len(effect.steps)

    def happened(self, notices: Sequence[Notice]) -> None:
        """What happens to the run as a whole is noted once, not by each of its chunks."""
        self._campaign.happened(notices)
