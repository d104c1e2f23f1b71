"""The queue that hands out chunks: Procrastinate's, in the same database.

It hands a chunk out at least once, and what a job says of itself decides nothing: who has a chunk is in the table of
chunks. So a job that is lost is offered again, and one too many is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import procrastinate
from procrastinate.exceptions import AlreadyEnqueued

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import psycopg
    from psycopg_pool import AsyncConnectionPool

DEFAULT_QUEUE: Final = "default"
CHUNKS_AT_ONCE: Final = 8
"""Chunks that a worker runs side by side: while the devices of one settle, the others are sent to."""
STALLED_S: Final = 30.0
"""After so long without a sign of life a job's process is taken for dead, and the job is cleared away."""

_EVERY_MINUTE: Final = "* * * * *"
_MOST_WAITING: Final = 64
"""Jobs of a run that wait in the queue at a time; the rest of its chunks follow."""
_OPEN: Final = """
SELECT queue, run_id, chunk FROM (
    SELECT r.queue, c.run_id, c.chunk, row_number() OVER (PARTITION BY c.run_id ORDER BY c.chunk) AS nth
    FROM run r JOIN chunk c USING (run_id) LEFT JOIN worker w ON w.worker = c.worker
    WHERE r.ended_ns IS NULL AND r.stop_reason IS NULL AND r.starts_ns <= now_ns() AND c.wave <= r.wave
      AND c.state = 'open' AND (w.worker IS NULL OR w.lease_ns <= now_ns())
      AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j
                      WHERE j.queueing_lock = c.run_id || '/' || c.chunk AND j.status = 'todo')
      AND (%(run_id)s::text IS NULL OR r.run_id = %(run_id)s)
) o
WHERE nth <= %(most)s - (SELECT count(*) FROM procrastinate_jobs j
                         WHERE j.status = 'todo' AND starts_with(j.queueing_lock, o.run_id || '/'))
ORDER BY run_id, chunk
"""


def make_queue(
    pool: AsyncConnectionPool[Any],
    run_chunk: Callable[[str, int], Awaitable[None]] | None = None,
    queue: str = DEFAULT_QUEUE,
    cron: str = _EVERY_MINUTE,
) -> procrastinate.App:
    """The queue; `open_async(pool)` opens it.

    Args:
        pool: Connections to the database, which the queue shares.
        run_chunk: Runs a chunk of a run; None where this process only offers chunks.
        queue: The queue that this worker takes chunks from.
        cron: When a periodic task looks for runs that are due; with seconds, where it has a sixth field.
    """
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())

    @app.task(name="fleetops.run_chunk")
    async def take(run_id: str, chunk: int) -> None:
        if run_chunk is not None:
            await run_chunk(run_id, chunk)

    if run_chunk is not None:

        @app.periodic(cron=cron)
        @app.task(name="fleetops.start_due_runs", queue=queue, queueing_lock="fleetops.start_due_runs")
        async def start_due_runs(timestamp: int) -> None:  # noqa: ARG001 - the queue gives it
            async with pool.connection() as connection:
                await offer_chunks(app, connection)

    return app


async def offer_chunks(
    app: procrastinate.App, connection: psycopg.AsyncConnection[Any], run_id: str | None = None
) -> int:
    """Put into the queue what nobody has and what is to be run now; how many chunks that were.

    Args:
        app: The queue.
        connection: The database.
        run_id: The run; None for all of them.
    """
    given = {"run_id": run_id, "most": _MOST_WAITING}
    rows = await (await connection.execute(_OPEN, given)).fetchall()
    offered = 0
    for queue, run, chunk in rows:
        job = app.configure_task("fleetops.run_chunk", queue=queue, queueing_lock=f"{run}/{chunk}")
        try:
            await job.defer_async(run_id=run, chunk=chunk)
            offered += 1
        except AlreadyEnqueued:
            # Another worker was quicker.
            continue
    return offered


async def clear_stalled_jobs(app: procrastinate.App) -> None:
    """Clear away the jobs of processes that died: their chunks are offered anew."""
    await app.job_manager.prune_stalled_workers(STALLED_S)
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
        await app.job_manager.finish_job(job=job, status=procrastinate.jobs.Status.FAILED, delete_job=True)
