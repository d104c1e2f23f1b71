"""A worker: it takes chunks of runs from the queue and runs them, beside other workers on other hosts."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
import psycopg

from fleetops.cluster.campaign import FAILURES, Campaign
from fleetops.cluster.claimed import claim, prepare
from fleetops.cluster.clock import DatabaseClock
from fleetops.cluster.database import connected, first_line, is_pooled, make_pool
from fleetops.cluster.lease import Lease
from fleetops.cluster.metrics import Counts, WorkerSnapshot
from fleetops.cluster.queue import clear_stalled_jobs, make_queue, offer_chunks
from fleetops.cluster.reaper import forget_workers, look_after
from fleetops.cluster.standing import settle
from fleetops.errors import FleetopsError, HostError, JournalError
from fleetops.journal.clock import since_boot_ns
from fleetops.scheduler import StopReason
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg_pool import AsyncConnectionPool

    from fleetops.cluster.campaign import Running, RunRow
    from fleetops.cluster.journal import Hold
    from fleetops.cluster.settings import WorkerSettings

_CLEAR_S: Final = 30.0
_REACH_S: Final = 30.0
"""How long a database is waited for that is not there when a worker starts."""
_REACH_AGAIN_S: Final = 5.0
_AGAIN_S: Final = 0.5
_DRAIN_S: Final = 120.0
_CONNECTIONS: Final = 8


class Worker:
    """A process that runs chunks.

    Args:
        settings: How.

    Attributes:
        worker: Its number in the database.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._tell = settings.tell
        self._clock = DatabaseClock()
        self._lease = Lease(settings.lease_ns)
        self._pool: AsyncConnectionPool[Any] = make_pool(settings.url, size=_CONNECTIONS + settings.chunks)
        self._listens = not settings.behind_pooler
        self._queue = make_queue(self._pool, self._hand_over, settings.queue)
        self._campaigns: dict[str, Campaign] = {}
        self._outdated: list[Campaign] = []
        self._chunks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(settings.chunks)
        self._counts = Counts()
        self._sends_before = 0
        self._draining = False
        self._taking = anyio.CancelScope()
        self._asked = anyio.Event()
        self._look_soon = anyio.Event()
        self.worker = 0

    async def run(self) -> None:
        """Work until a signal asks for the end: then nothing more is sent, and what is in flight finishes.

        Raises:
            HostError: The database cannot be reached at the start.
        """
        # What the queue says of a database that is not there is said by this worker too, and better.
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
        async with AsyncExitStack() as stack:
            await self._open(stack)
            async with anyio.create_task_group() as tasks:
                for task in (self._heartbeats, self._reap, self._serve_queue):
                    tasks.start_soon(task)
                if self._settings.watch is not None:
                    tasks.start_soon(self._settings.watch, self)
                await self._until_asked()
                await self._drain()
                tasks.cancel_scope.cancel()
            await self._leave()

    async def _open(self, stack: AsyncExitStack) -> None:
        try:
            await self._reach_database()
            await self._pool.open(wait=True, timeout=_REACH_S)
            stack.push_async_callback(self._pool.close)
            await self._queue.open_async(self._pool)
            await self._register()
        except psycopg.errors.UndefinedTable:
            raise HostError(
                "the database has no tables of fleetops",
                hint="`fleetops database` makes them, as a role that may create tables",
            ) from None
        except FAILURES as error:
            raise HostError(
                f"the database cannot be used: {first_line(error)}",
                hint="check FLEETOPS_DATABASE_URL, the rights of its role, and that the server is up",
            ) from None

    async def _reach_database(self) -> None:
        """Wait for a database that may be about to start, and say so: a pool would keep to itself what is wrong."""

        def try_once() -> None:
            with connected(self._settings.url):
                pass

        until_s = asyncio.get_running_loop().time() + _REACH_S
        while True:
            try:
                return await anyio.to_thread.run_sync(try_once)
            except JournalError as error:
                if asyncio.get_running_loop().time() > until_s:
                    raise
                self._tell("warning", "database_away", {"message": error.message})
            await anyio.sleep(_REACH_AGAIN_S)

    async def _register(self) -> None:
        async with self._pool.connection() as connection:
            self._listens = self._listens and not await is_pooled(connection)
            asked_ns = since_boot_ns()
            row = await (
                await connection.execute(
                    "INSERT INTO worker (host, pid, version, queue, started_ns, lease_ns) "
                    "VALUES (%s, %s, %s, %s, now_ns(), now_ns() + %s) RETURNING worker, started_ns",
                    (socket.gethostname(), os.getpid(), __version__, self._settings.queue, self._lease.lasts_ns),
                )
            ).fetchone()
        assert row is not None, "an INSERT returns its row"  # noqa: S101 - what RETURNING promises
        self.worker = row[0]
        self._clock.measured(asked_ns, row[1], since_boot_ns())
        self._lease.renewed(asked_ns)
        how = {"queue": self._settings.queue, "listens": self._listens}
        self._tell("info", "worker_started", {"worker": self.worker, **how})

    def stop(self) -> None:
        """Have it end as a signal does; to be called in its event loop."""
        self._asked.set()

    async def _until_asked(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            # Signals are the main thread's.
            await self._asked.wait()
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as waiting:

                async def until_stopped() -> None:
                    await self._asked.wait()
                    waiting.cancel_scope.cancel()

                waiting.start_soon(until_stopped)
                async for _ in signals:
                    waiting.cancel_scope.cancel()
                    break

    def snapshot(self) -> WorkerSnapshot:
        """What it does now."""
        runners = [running.runner.snapshot() for _, running in self._running()]
        return WorkerSnapshot(
            worker=self.worker,
            queue=self._settings.queue,
            draining=self._draining,
            lease_s=self._lease.left_s(since_boot_ns()),
            chunks=len(self._chunks),
            sends=self._sends(),
            in_flight=sum(one.in_flight for one in runners),
            waiting=sum(one.waiting for one in runners),
            ready=sum(one.ready for one in runners),
            counts=self._counts,
        )

    def _sends(self) -> int:
        return self._sends_before + sum(one.gate.sends for one in (*self._campaigns.values(), *self._outdated))

    def _alive(self) -> bool:
        return self._lease.lasts(since_boot_ns()) and not self._clock.stepped

    async def _heartbeats(self) -> None:
        """Renew the lease, and notice which chunks were lost meanwhile, until cancelled."""
        while True:
            try:
                with anyio.fail_after(self._lease.try_s):
                    await self._heartbeat()
            except (*FAILURES, TimeoutError) as error:
                if self._lease.lasts(since_boot_ns()):
                    self._tell("warning", "database_away", {"message": first_line(error)})
                await anyio.sleep(_AGAIN_S)
            else:
                await anyio.sleep(self._lease.renew_s)

    async def _heartbeat(self) -> None:
        sends = self._sends()
        asked_ns = since_boot_ns()
        async with self._pool.connection() as connection:
            row = await (
                await connection.execute(
                    "UPDATE worker SET lease_ns = now_ns() + %s, draining = %s, sends = %s WHERE worker = %s "
                    "RETURNING now_ns()",
                    (self._lease.lasts_ns, self._draining, sends, self.worker),
                )
            ).fetchone()
            answered_ns = since_boot_ns()
            # Only what is looked at after the lease was renewed is still this worker's; what it takes meanwhile is too.
            known = self._running()
            held = await (
                await connection.execute("SELECT run_id, chunk, epoch FROM chunk WHERE worker = %s", (self.worker,))
            ).fetchall()
        if row is None:
            self._lose(known, {})
            await self._register()
            return
        self._clock.measured(asked_ns, row[0], answered_ns)
        if self._clock.stepped:
            self._start_anew()
            # At once: until it is measured, a clock shows this host's time, and it never goes back.
            self._clock.measured(asked_ns, row[0], answered_ns)
        self._lose(known, {(run_id, chunk): epoch for run_id, chunk, epoch in held})
        self._lease.renewed(asked_ns)
        await self._let_go([hold for hold in held if hold[:2] not in self._chunks])

    async def _let_go(self, unused: Sequence[tuple[str, int, int]]) -> None:
        """Give back chunks that are held and not run: the database was away when they were taken or ended."""
        if not unused:
            return
        async with self._pool.connection() as connection:
            for run_id, chunk, epoch in unused:
                await connection.execute(
                    "UPDATE chunk SET worker = NULL WHERE run_id = %s AND chunk = %s AND epoch = %s AND worker = %s",
                    (run_id, chunk, epoch, self.worker),
                )

    def _running(self) -> list[tuple[tuple[str, int], Running]]:
        return [
            ((run_id, chunk), running)
            for run_id, campaign in self._campaigns.items()
            for chunk, running in campaign.running.items()
        ]

    def _lose(self, known: Sequence[tuple[tuple[str, int], Running]], held: Mapping[tuple[str, int], int]) -> None:
        """Send nothing more of the chunks that are not held any longer."""
        for key, running in known:
            if held.get(key) != running.epoch and not running.lost:
                running.lost = True
                running.runner.stop(StopReason.HOST_FAILED, "another worker has the chunk")
                self._tell("warning", "chunk_lost", {"run_id": key[0], "chunk": key[1]})

    def _start_anew(self) -> None:
        """The database's clock was set: no time that is known here means anything now."""
        self._tell("warning", "clock_stepped", {"message": "the database's clock was set; chunks are taken up anew"})
        self._lose(self._running(), {})
        self._clock = DatabaseClock()
        # They go by the clock of before, and so would a chunk that joins one whose last requests are under way.
        self._outdated += self._campaigns.values()
        self._campaigns.clear()

    async def _serve_queue(self) -> None:
        """Take chunks from the queue until cancelled, also after the database was away."""
        while not self._draining:
            try:
                with anyio.CancelScope() as self._taking:
                    await self._queue.run_worker_async(
                        queues=[self._settings.queue],
                        # One more than chunks, so that what the clock starts never waits for a chunk to end.
                        concurrency=self._settings.chunks + 1,
                        install_signal_handlers=False,
                        listen_notify=self._listens,
                        fetch_job_polling_interval=1.0,
                        shutdown_graceful_timeout=0.1,
                        delete_jobs="always",
                    )
            except Exception as error:  # noqa: BLE001 - the queue has errors of its own for a database that is away
                self._tell("debug", "queue_failed", {"message": f"{type(error).__name__}: {first_line(error)}"})
            await anyio.sleep(_AGAIN_S)

    async def _hand_over(self, run_id: str, chunk: int) -> None:
        """Run a chunk in a task that outlives the job: the queue may lose its connection, and its jobs with it."""
        await self._places.acquire()
        key = run_id, chunk
        if key in self._chunks or self._draining:
            self._places.release()
            return

        def ended(_: asyncio.Task[None]) -> None:
            del self._chunks[key]
            self._places.release()

        task = self._chunks[key] = asyncio.create_task(self._run_chunk(run_id, chunk))
        task.add_done_callback(ended)
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])

    async def _run_chunk(self, run_id: str, chunk: int) -> None:
        try:
            await self._run_claimed(run_id, chunk)
        except FleetopsError as error:
            self._tell("warning", "chunk_failed", {"run_id": run_id, "chunk": chunk, "message": error.message})
        except FAILURES as error:
            self._tell("warning", "chunk_failed", {"run_id": run_id, "chunk": chunk, "message": first_line(error)})
        except Exception as error:  # noqa: BLE001 - whatever it is, the other chunks go on
            named = {"run_id": run_id, "chunk": chunk, "message": type(error).__name__}
            self._tell("error", "chunk_failed", named)

    async def _run_claimed(self, run_id: str, chunk: int) -> None:
        async with self._pool.connection() as connection:
            claimed = await claim(connection, run_id, chunk, self.worker)
        if claimed is None:
            return
        campaign = self._join(claimed.run)
        tell_step = self._settings.tell_step
        made = prepare(claimed, campaign, self._clock, self._alive, self._counts, tell_step)
        runner, scheduler, running = made.running.runner, made.running.scheduler, made.running
        campaign.joined(chunk, running)
        if self._draining:
            runner.stop(StopReason.INTERRUPTED)
        self._tell("info", "chunk_started", {"run_id": run_id, "chunk": chunk, "steps": made.steps})
        reason = StopReason.HOST_FAILED
        try:
            reason = await runner.drive(made.lost)
        finally:
            self._counts.chunks[reason] += 1
            campaign.left(chunk)
            with anyio.CancelScope(shield=True):
                try:
                    await made.journal.close(now_ns=self._clock.now_ns(), reason=reason, detail=scheduler.detail)
                finally:
                    if reason is StopReason.HOST_FAILED and not (running.lost or made.kept.failed):
                        # Neither the database nor the lease: whoever took the chunk next would fare no better.
                        campaign.stop(reason, scheduler.detail)
                        await campaign.tell()
                    if not running.lost:
                        await self._finish(claimed.hold, reason)
                    await self._part(campaign)

    async def _finish(self, hold: Hold, reason: StopReason) -> None:
        """Give a chunk back, with what became of it."""
        state = {StopReason.COMPLETE: "done", StopReason.WINDOW_CLOSED: "shut"}.get(reason, "open")
        key = (hold.run_id, hold.chunk)
        async with self._pool.connection() as connection:
            async with connection.transaction():
                cursor = await connection.execute(
                    "UPDATE chunk SET state = %s, worker = NULL WHERE run_id = %s AND chunk = %s AND worker = %s "
                    "AND epoch = %s",
                    (state, *key, hold.worker, hold.epoch),
                )
                if not cursor.rowcount:
                    return
            change = await settle(connection, hold.run_id)
            if state == "open" or change.next_wave:
                await offer_chunks(self._queue, connection, hold.run_id)
        if change.end is not None:
            self._look_soon.set()
        self._tell("info", "chunk_ended", {"run_id": hold.run_id, "chunk": hold.chunk, "reason": reason})

    def _join(self, run: RunRow) -> Campaign:
        """Take part in a run."""
        campaign = self._campaigns.get(run.run_id)
        if campaign is None or campaign.row.drive != run.drive:
            control = self._settings.make_control(run.base_url, run.policy)
            campaign = self._campaigns[run.run_id] = Campaign(run, self._pool, self._clock, control, self._alive)
            campaign.task = asyncio.create_task(campaign.sync())
        return campaign

    async def _part(self, campaign: Campaign) -> None:
        """Take no part in a run any more, where this was its last chunk here."""
        if campaign.running or campaign.task is None:
            return
        if self._campaigns.get(campaign.row.run_id) is campaign:
            del self._campaigns[campaign.row.run_id]
        if campaign in self._outdated:
            self._outdated.remove(campaign)
        self._sends_before += campaign.gate.sends
        sync, campaign.task = campaign.task, None
        sync.cancel()
        await asyncio.wait([sync])
        with suppress(*FAILURES):
            # What its last chunk saw of the run.
            await campaign.tell()
        await campaign.client.aclose()

    async def _reap(self) -> None:
        """Offer the chunks that nobody has, and see to runs whose workers died, until cancelled."""
        cleared_s = 0.0
        while True:
            due_s = self._lease.look_s
            try:
                async with self._pool.connection() as connection:
                    live, due_s = await look_after(connection, self._queue, offers=not self._draining)
                    now_s = asyncio.get_running_loop().time()
                    if now_s > cleared_s + _CLEAR_S:
                        cleared_s = now_s
                        await clear_stalled_jobs(self._queue)
                        await forget_workers(connection)
                if self._settings.until_idle and not live and not self._chunks:
                    self._asked.set()
            except Exception as error:  # noqa: BLE001 - the queue has errors of its own for a database that is away
                self._tell("debug", "reaper_failed", {"message": type(error).__name__})
            with anyio.move_on_after(min(self._lease.look_s, due_s)):
                await self._look_soon.wait()
            self._look_soon = anyio.Event()

    async def _drain(self) -> None:
        """Send nothing more, wait for what is in flight, and give the chunks back."""
        self._draining = True
        self._taking.cancel()
        self._tell("info", "worker_draining", {"chunks": len(self._chunks)})
        for campaign in self._campaigns.values():
            for running in campaign.running.values():
                running.runner.stop(StopReason.INTERRUPTED)
        if self._chunks:
            await asyncio.wait(list(self._chunks.values()), timeout=_DRAIN_S)

    async def _leave(self) -> None:
        for task in self._chunks.values():
            task.cancel()
        with suppress(Exception):
            async with self._pool.connection(timeout=self._lease.try_s) as connection:
                await connection.execute("DELETE FROM worker WHERE worker = %s", (self.worker,))
        self._tell("info", "worker_ended", {"worker": self.worker})
