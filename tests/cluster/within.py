"""Workers within the tests' own process, for what needs no process to be killed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio

from fleetops.campaigns import Connection
from fleetops.cluster.follow import offer
from fleetops.cluster.lease import SHORTEST_NS
from fleetops.cluster.settings import WorkerSettings
from fleetops.cluster.submit import submit
from fleetops.cluster.worker import Worker
from fleetops.control import Token
from fleetops.model import Operation
from fleetops.policy import Policy
from tests.cluster.kept import one
from tests.journal.runs import RUN_ID, new_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleetops.control import HttpControlPlane
    from tests.journal.runs import Row

MS = 1_000_000


def devices(count: int, *operations: Operation, settle_ms: int = 50, first: int = 1) -> list[Row]:
    """Rows of so many devices of a sandbox, operation by operation."""
    return [
        (f"ZQ{number:09}", operation, settle_ms * MS)
        for operation in operations or (Operation.SYNC,)
        for number in range(first, first + count)
    ]


@dataclass
class Fleet:
    """A database, a sandbox, and a worker on them.

    Attributes:
        url: The database.
        base_url: The sandbox.
        token: What the worker sends.
        told: What the worker told.
    """

    url: str
    base_url: str
    token: str = "sandbox-token"
    told: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    def submit(
        self,
        rows: Sequence[Row],
        *,
        groups: Sequence[str] = (),
        run_id: str = RUN_ID,
        chunk: int = 5,
        heed_window: bool = True,
        **settings: Any,
    ) -> str:
        """Put a campaign into the database, and its chunks into the queue; the run's id."""
        usual = {"rate": "200/s", "concurrency": 20, "retries": {"initial": "20ms", "attempts": 3}}
        policy = Policy.model_validate(usual | settings)
        new = new_run(rows, policy, run_id=run_id, base_url=self.base_url, groups=groups)
        new = replace(new, carried=['["Madrid"]'] * len(rows))
        submit(self.url, new, queue="default", devices_per_chunk=chunk, heed_window=heed_window)
        offer(self.url, run_id)
        return run_id

    def work(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Have a worker work until no run is live."""

        def make_control(base_url: str, policy: Policy) -> HttpControlPlane:
            return Connection(base_url=base_url, token=Token(self.token)).control(policy)

        def tell(level: str, event: str, fields: Mapping[str, Any]) -> None:
            self.told.append((level, event, fields))

        settings = WorkerSettings(
            url=self.url, make_control=make_control, until_idle=True, tell=tell, lease_ns=SHORTEST_NS
        )

        async def run() -> None:
            with anyio.fail_after(45):
                await Worker(settings).run()

        beside = threading.Thread(target=meanwhile) if meanwhile is not None else None
        if beside is not None:
            beside.start()
        anyio.run(run)
        if beside is not None:
            beside.join()

    def value(self, statement: str, *values: object) -> Any:
        """The first value of the first row that the database has."""
        return one(self.url, statement, *values)

    def wait_for(self, statement: str, *values: object) -> None:
        """Wait until the database says yes."""
        until_s = time.monotonic() + 20
        while not self.value(statement, *values):
            assert time.monotonic() < until_s, statement
            time.sleep(0.02)

    def outcomes(self) -> dict[str, int]:
        """How many steps have each outcome."""
        return dict(
            self.value("SELECT json_object_agg(outcome, n) FROM (SELECT outcome, count(*) n FROM result GROUP BY 1) o")
            or {}
        )

    def ended_as(self) -> tuple[str, str]:
        """Why the run's last drive ended."""
        found = self.value("SELECT json_build_array(end_reason, end_detail) FROM drive ORDER BY drive DESC LIMIT 1")
        return (found[0], found[1])

    def events(self) -> list[str]:
        """What happened to the run as a whole, in order."""
        return list(self.value("SELECT json_agg(event ORDER BY event_id) FROM event") or [])
