"""A control plane and an inventory in memory, and what it takes to drive a run against them."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio

from fleetops.journal.store import connect
from fleetops.policy import Policy
from fleetops.policy.settings import merged
from fleetops.runner import Session
from tests.journal.runs import ACCEPTED, RUN_ID, new_run, state_dir

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from fleetops.control import Device, DeviceFilter, Inventory
    from fleetops.journal import StateDir
    from fleetops.model import Operation, Reason, Reply
    from fleetops.runner import Ended
    from fleetops.runner.session import Watch
    from tests.journal.runs import Row

    Script = Callable[[str, int], Reply]

QUICK: dict[str, Any] = {
    "rate": 10_000,
    "concurrency": 8,
    "settle": dict.fromkeys(("reboot", "factory", "device_factory", "sync", "reconf"), "1ms"),
    "retries": {"initial": "1ms", "cap": "2ms"},
    "breaker": {"failures": 0},
}


def quick_policy(**settings: Any) -> Policy:
    return Policy.model_validate(merged(QUICK, settings))


@dataclass
class Plane:
    """Answers by a script of (serial number, how many times it was asked before), after a latency.

    Attributes:
        script: What is answered.
        latency_s: After how long.
        asked: What was asked, in order: serial number, operation, and when by the monotonic clock.
        on_execute: Called before anything is answered, with how many requests there were.
        release: Where set, answers wait for it.
    """

    script: Script = lambda serial, before: ACCEPTED
    latency_s: float = 0.0
    asked: list[tuple[str, Operation, float]] = field(default_factory=list)
    on_execute: Callable[[int], None] = lambda count: None
    release: anyio.Event | None = None
    in_flight: int = 0
    most_in_flight: int = 0

    async def execute(self, serial: str, operation: Operation) -> Reply:
        before = sum(asked == serial for asked, _, _ in self.asked) if len(self.asked) < 2_000 else 0
        self.asked.append((serial, operation, time.monotonic()))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            self.on_execute(len(self.asked))
            if self.release is not None:
                await self.release.wait()
            if self.latency_s:
                await anyio.sleep(self.latency_s)
            return self.script(serial, before)
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    @property
    def serials(self) -> list[str]:
        return [serial for serial, _, _ in self.asked]


@dataclass
class Shelf:
    """An inventory: what is looked up is made by a function of the serial number and how often it was looked for."""

    look: Callable[[str, int], Device | None]
    looks: dict[str, int] = field(default_factory=dict)

    async def devices(self, wanted: DeviceFilter = ...) -> AsyncIterator[Device]:  # type: ignore[assignment]  # as the protocol
        for serial in list(self.looks):
            found = self.look(serial, 0)
            if found is not None:
                yield found

    async def pages(self, wanted: DeviceFilter = ...) -> int | None:  # type: ignore[assignment]  # as the protocol
        return None

    async def device(self, serial: str) -> Device | None:
        before = self.looks.get(serial, 0)
        self.looks[serial] = before + 1
        return self.look(serial, before)


def drive(session: Session, plane: Plane, watch: Watch | None = None, *, inventory: Inventory | None = None) -> Ended:
    """Drive a run to its end, on an event loop of its own."""
    return anyio.run(partial(session.drive, plane, watch, inventory=None if inventory is None else lambda _: inventory))


def signal_at(count: int, *signals: signal.Signals) -> Callable[[int], None]:
    """What sends this process signals while it asks for the `count`th time."""

    def on_execute(asked: int) -> None:
        if asked == count:
            for number in signals:
                os.kill(os.getpid(), number)

    return on_execute


async def until(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    while not what():  # noqa: ASYNC110 - whatever it is
        await anyio.sleep(0.002)


@contextmanager
def start(
    root: Path,
    steps: Sequence[Row],
    policy: Policy | None = None,
    *,
    run_id: str = RUN_ID,
    skipped: Mapping[int, Reason] | None = None,
    alongside: bool = False,
    groups: Sequence[str] = (),
) -> Iterator[Session]:
    new = new_run(steps, policy or quick_policy(), run_id=run_id, skipped=skipped, groups=groups)
    with Session.start(state_dir(root), new, alongside=alongside) as session:
        _spare_the_disk(session)
        yield session


@contextmanager
def resume(
    root: Path, change_policy: Callable[[Policy], Policy] = lambda policy: policy, *, base_url: str | None = None
) -> Iterator[Session]:
    with Session.resume(state_dir(root), RUN_ID, base_url=base_url, change_policy=change_policy) as session:
        _spare_the_disk(session)
        yield session


def _spare_the_disk(session: Session) -> None:
    """No test cuts the power, and a busy disk takes long over each fsync."""
    session._store._connection.execute("PRAGMA synchronous = OFF")


def read(state: StateDir | Path, query: str, run_id: str = RUN_ID) -> list[tuple[Any, ...]]:
    """Rows of a run's journal."""
    path = state / "runs" / f"{run_id}.db" if not hasattr(state, "journal_path") else state.journal_path(run_id)
    with closing(connect(path, writable=False)) as connection:
        return connection.execute(query).fetchall()
