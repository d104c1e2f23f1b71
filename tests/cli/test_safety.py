"""What a change board asks, held by real runs of a thousand devices against the sandbox."""

from __future__ import annotations

import csv
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from fleetops.model import NS_PER_S, Operation
from fleetops.sandbox import SandboxConfig, sandbox_thread
from tests.cli.conftest import TOKEN, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleetops.sandbox.log import Received

DEVICES = 1000
FAST = ("--rate", "2000/s", "--concurrency", "16", "--settle", "0")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    config = SandboxConfig(devices=DEVICES, token=TOKEN, duration_s=dict.fromkeys(Operation, 0.2), jitter=2.0)
    with sandbox_thread(config) as (base_url, sandbox):
        yield Terminal(tmp_path, base_url, sandbox)


def sends(fleet: Terminal) -> list[Received]:
    return [received for received in fleet.sandbox.requests if received.method == "PUT"]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.01)


def test_a_canary_that_fails_its_gate_touches_no_device_outside_of_it(fleet: Terminal) -> None:
    fleet.sandbox.set_faults("refuse=100%")
    ended = fleet("run", fleet.manifest(DEVICES), *FAST, "--waves", "1%,10%,100%", "--gate", "failed<=2%")
    assert ended.code == 4
    assert len(sends(fleet)) == len({received.serial for received in sends(fleet)}) == 10


def test_an_aborted_run_sent_at_most_its_budget_and_what_was_in_flight(fleet: Terminal) -> None:
    fleet.sandbox.set_faults("refuse=100%")
    ended = fleet("run", fleet.manifest(DEVICES), *FAST, "--abort-when", "failed>50")
    assert ended.code == 4
    assert 51 <= len(sends(fleet)) <= 51 + 16


@pytest.mark.parametrize("cap", ["4", "4%"])
def test_no_group_is_ever_above_its_cap(cap: str, fleet: Terminal) -> None:
    rows = "".join(f"ZQ{number:09},reboot,node-{number % 10}\n" for number in range(1, DEVICES + 1))
    manifest = fleet.write("grouped.csv", f"serial_number,operation,group\n{rows}")
    ended = fleet("run", manifest, "--rate", "2000/s", "--settle", "50ms", "--group-cap", cap)
    assert ended.code == 0
    changes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for received in sends(fleet):
        assert received.answered_ns is not None
        changes[int(received.serial[2:]) % 10] += [
            (received.at_ns, 1),
            (received.answered_ns + NS_PER_S // 20, -1),
        ]
    for moments in changes.values():
        load = most = 0
        for _, change in sorted(moments):
            load += change
            most = max(most, load)
        assert most == 4


def test_an_outage_costs_no_step(fleet: Terminal) -> None:
    policy = fleet.write("p.yaml", "breaker: {failures: 5, hold: 200ms, longest_hold: 300ms}\nretries: {attempts: 2}\n")

    def outage() -> None:
        wait_for(lambda: len(sends(fleet)) >= 300)
        fleet.sandbox.set_faults("unavailable=100%")
        # Until the breaker is open and has tried the service some times.
        wait_for(lambda: sum(received.status == 503 for received in sends(fleet)) >= 5 + 16 + 4)
        fleet.sandbox.set_faults()

    beside = threading.Thread(target=outage)
    beside.start()
    ended = fleet("run", fleet.manifest(DEVICES, "sync"), "--policy", policy, *FAST, "--rate", "500/s")
    beside.join()
    assert ended.code == 0, ended.err
    assert "outage over" in ended.err
    assert {received.status for received in sends(fleet)} == {200, 503}


def test_the_second_step_goes_only_to_devices_that_are_back(fleet: Terminal) -> None:
    fleet.sandbox.set_device("ZQ000000007", up=False)
    pairs = "".join(f"ZQ{number:09},{one}\n" for one in ("reboot", "sync") for number in range(1, 201))
    manifest = fleet.write("pairs.csv", f"serial_number,operation\n{pairs}")
    policy = fleet.write("p.yaml", "confirm: {enabled: true, limit: 2s, every: 100ms}\n")
    fleet("run", manifest, "--policy", policy, *FAST)
    assert not any(received.busy for received in sends(fleet))
    with (fleet.folder / "results.csv").open(newline="", encoding="utf-8") as report:
        told = Counter((row["operation"], row["outcome"], row["reason"]) for row in csv.DictReader(report))
    assert told == {
        ("reboot", "confirmed", ""): 199,
        ("sync", "confirmed", ""): 199,
        ("reboot", "accepted", "not_confirmed"): 1,
        ("sync", "skipped", "not_confirmed"): 1,
    }
