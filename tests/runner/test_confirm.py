from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.control import Device
from fleetops.control.inventory import InventoryError
from fleetops.errors import AbortedError
from fleetops.model import Operation
from fleetops.scheduler import StopReason
from tests.journal.runs import S, rows
from tests.runner.plane import Plane, Shelf, drive, quick_policy, read, resume, start, until

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.policy import Policy
    from fleetops.runner import Runner

OUTCOMES = "SELECT outcome, reason, count(*) FROM result GROUP BY 1, 2 ORDER BY 1, 2"
STEPS = [("A", Operation.REBOOT, 1_000_000), ("A", Operation.SYNC, 1_000_000)]


def confirming(**settings: object) -> Policy:
    return quick_policy(confirm={"enabled": True, "every": "5ms", "limit": "10s", **settings})


def back(serial: str) -> Device:
    return Device(serial, status=True, last_status_change_ns=time.time_ns() + 3600 * S)


def test_a_device_gets_its_next_step_once_it_has_come_back(tmp_path: Path) -> None:
    plane = Plane()
    asked_meanwhile: list[int] = []

    def look(serial: str, before: int) -> Device | None:
        asked_meanwhile.append(len(plane.asked))
        return back(serial) if before >= 3 else Device(serial, status=False)

    with start(tmp_path, STEPS, confirming(operations=["reboot"])) as session:
        ended = drive(session, plane, inventory=Shelf(look))
    assert ended.reason is StopReason.COMPLETE
    assert asked_meanwhile == [1, 1, 1, 1]
    assert [operation for _, operation, _ in plane.asked] == [Operation.REBOOT, Operation.SYNC]
    assert read(tmp_path, OUTCOMES) == [("accepted", None, 1), ("confirmed", None, 1)]


@pytest.mark.parametrize(
    "device",
    [
        None,
        Device("A", status=False),
        Device("A", status=True),
        Device("A", status=True, last_status_change_ns=1),
        Device("A", last_status_change_ns=1 << 62),
    ],
)
def test_a_device_that_does_not_come_back_in_time_is_not_sent_to_again(tmp_path: Path, device: Device | None) -> None:
    plane = Plane()
    with start(tmp_path, STEPS, confirming(limit="20ms")) as session:
        drive(session, plane, inventory=Shelf(lambda serial, before: device))
    assert len(plane.asked) == 1
    assert read(tmp_path, OUTCOMES) == [("accepted", "not_confirmed", 1), ("skipped", "not_confirmed", 1)]


def test_many_devices_are_looked_for_together(tmp_path: Path) -> None:
    shelf = Shelf(lambda serial, before: back(serial))
    with start(tmp_path, rows(40, settle_ns=1_000_000), confirming()) as session:
        drive(session, Plane(), inventory=shelf)
    assert read(tmp_path, OUTCOMES) == [("confirmed", None, 40)]


def test_an_inventory_that_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    def look(serial: str, before: int) -> Device:
        if before < 2:
            raise InventoryError("503")
        return back(serial)

    with start(tmp_path, STEPS, confirming()) as session:
        assert drive(session, Plane(), inventory=Shelf(look)).reason is StopReason.COMPLETE
    assert read(tmp_path, OUTCOMES) == [("confirmed", None, 2)]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (AbortedError("the token is refused"), "devices cannot be confirmed: the token is refused"),
        (KeyError("Bearer secret"), "devices cannot be confirmed: the inventory's client failed: KeyError"),
    ],
)
def test_an_inventory_that_cannot_be_used_stops_the_run_and_decides_nothing_about_devices(
    tmp_path: Path, error: Exception, detail: str
) -> None:
    def look(serial: str, before: int) -> Device:
        raise error

    with start(tmp_path, STEPS, confirming(limit="1ms")) as session:
        ended = drive(session, Plane(), inventory=Shelf(look))
    assert (ended.reason, ended.detail) == (StopReason.ABORTED, detail)
    assert read(tmp_path, OUTCOMES) == [("accepted", None, 1)]
    with resume(tmp_path) as session:
        assert list(session.loaded.progress.unconfirmed) == [0]
        assert drive(session, Plane(), inventory=Shelf(lambda serial, _: back(serial))).reason is StopReason.COMPLETE
    assert read(tmp_path, OUTCOMES) == [("confirmed", None, 2)]


def test_a_run_that_is_stopped_looks_for_no_device_any_more_and_a_resume_does(tmp_path: Path) -> None:
    shelf = Shelf(lambda serial, before: None)

    async def stop(runner: Runner) -> None:
        await until(lambda: shelf.looks)
        runner.stop(StopReason.INTERRUPTED)

    with start(tmp_path, STEPS, confirming()) as session:
        assert drive(session, Plane(), stop, inventory=shelf).reason is StopReason.INTERRUPTED
    plane = Plane()
    with resume(tmp_path) as session:
        drive(session, plane, inventory=Shelf(lambda serial, _: back(serial)))
    assert [operation for _, operation, _ in plane.asked] == [Operation.SYNC]


def test_reads_of_the_inventory_take_their_turn_at_the_rate(tmp_path: Path) -> None:
    reads_s: list[float] = []

    class Paced(Shelf):
        async def device(self, serial: str) -> Device | None:
            await self.pace()  # type: ignore[attr-defined]  # set below
            reads_s.append(time.monotonic())
            return back(serial)

    shelf = Paced(lambda serial, before: None)

    async def run() -> None:
        def inventory(pace: object) -> Shelf:
            shelf.pace = pace  # type: ignore[attr-defined]  # as above
            return shelf

        await session.drive(plane, inventory=inventory)

    plane = Plane()
    with start(
        tmp_path, rows(3, settle_ns=1_000_000), quick_policy(rate=20, confirm={"enabled": True, "every": "5ms"})
    ) as session:
        anyio.run(run)
    moments_s = sorted([*reads_s, *(moment_s for _, _, moment_s in plane.asked)])
    assert len(moments_s) == 6
    assert moments_s[-1] - moments_s[0] > 5 * 0.04
