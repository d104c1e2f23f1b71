"""A chunk that is kept in a database, and taken up by one worker after another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from fleetops.cluster.database import connected
from fleetops.cluster.journal import ChunkJournal, Hold
from fleetops.cluster.load import LoadedChunk, load_chunk, read_chunk
from fleetops.cluster.submit import submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetops.journal import NewRun
    from fleetops.policy import Policy
    from fleetops.scheduler import Progress

HOUR_NS = 3600 * 1_000_000_000


class Direct:
    """A new connection for each use, where a pool is asked for: it belongs to no event loop."""

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            yield connection


def one(url: str, statement: str, *values: object) -> Any:
    """The first value of the first row; None where there is none."""
    with connected(url) as connection:
        row = connection.execute(statement, values).fetchone()
        return None if row is None else row[0]


def do(url: str, statement: str, *values: object) -> int:
    """Execute a statement; how many rows it was about."""
    with connected(url) as connection:
        return int(connection.execute(statement, values).rowcount)


def new_worker(url: str, lease_ns: int = HOUR_NS) -> int:
    """Register a worker whose lease lasts so long."""
    worker: int = one(
        url,
        "INSERT INTO worker (host, pid, version, queue, started_ns, lease_ns) "
        "VALUES ('host', 1, '1', 'default', now_ns(), now_ns() + %s) RETURNING worker",
        lease_ns,
    )
    return worker


def claim(url: str, run_id: str, chunk: int, worker: int) -> int | None:
    """Have a worker take a chunk."""
    epoch: int | None = one(url, "SELECT claim_chunk(%s, %s, %s)", run_id, chunk, worker)
    return epoch


def read(url: str, run_id: str, chunk: int, policy: Policy, now_ns: int) -> LoadedChunk:
    """A chunk, read from within a running event loop too."""

    async def reading() -> LoadedChunk:
        async with Direct(url).connection() as connection:
            return load_chunk(await read_chunk(connection, run_id, chunk, policy), policy, now_ns=now_ns)

    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, reading()).result()


class OnPostgres:
    """The `Kept` of the conformance suite, in a database: a run of one chunk."""

    def __init__(self, url: str, new: NewRun) -> None:
        self.url = url
        self.new = new
        self.worker = 0
        submit(url, new, queue="default", devices_per_chunk=1000)

    def take_up(self) -> ChunkJournal:
        do(self.url, "UPDATE worker SET lease_ns = 0")
        self.worker = new_worker(self.url)
        epoch = claim(self.url, self.new.facts.run_id, 0, self.worker)
        assert epoch is not None
        loaded = self._load(0)
        return ChunkJournal(
            Direct(self.url),  # type: ignore[arg-type]  # has what is used of a pool
            Hold(self.new.facts.run_id, 0, self.worker, epoch, 1),
            loaded.numbers,
            loaded.steps,
            confident=lambda: False,
        )

    def progress(self, now_ns: int) -> Progress:
        return self._load(now_ns).progress

    def _load(self, now_ns: int) -> LoadedChunk:
        return read(self.url, self.new.facts.run_id, 0, self.new.policy, now_ns)

    def break_down(self) -> None:
        self._set_read_only("SET default_transaction_read_only = on")

    def mend(self) -> None:
        self._set_read_only("RESET default_transaction_read_only")

    def _set_read_only(self, how: str) -> None:
        # A new connection may not write, and says so of this statement too unless it is told otherwise.
        with psycopg.connect(self.url, options="-c default_transaction_read_only=off", autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} {how}")
