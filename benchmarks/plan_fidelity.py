"""How well plans predict: ten campaigns are planned, then run against the sandbox, and the two compared.

    python benchmarks/plan_fidelity.py [--only NAME] [--out docs/table.md]

The sandbox answers after a known time, and what this host adds to that is measured just before each campaign, so that
what is compared is the plan and not a guess about the service. It takes about six minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from fleetops import campaigns, validation
from fleetops.control import parse_base_url, read_token
from fleetops.journal import StateDir
from fleetops.journal.views import RunView
from fleetops.plan import Assumptions, make_plan
from fleetops.sandbox import Fault, SandboxConfig, run_sandbox
from fleetops.sandbox.config import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

NS_PER_S = 1_000_000_000
DEVICES = 3000
SLOW_S = 0.3


@dataclass(frozen=True)
class Service:
    """How the sandbox behaves.

    Attributes:
        latency_s: The time to an answer.
        slow: Share of requests that take 300 ms longer.
        failing: Share of requests that are answered with a 503.
        limit_per_s: Requests that are taken in a sliding second; None for any number.
    """

    latency_s: float = 0.1
    slow: float = 0.0
    failing: float = 0.0
    limit_per_s: float | None = None

    def sandbox(self) -> SandboxConfig:
        """The sandbox that behaves so."""
        faults = [("slow", self.slow, SLOW_S), ("unavailable", self.failing, None)]
        return SandboxConfig(
            devices=DEVICES,
            latency_s=self.latency_s,
            throttle_per_s=self.limit_per_s,
            faults=tuple(Fault(kind, share=share, wait_s=wait_s) for kind, share, wait_s in faults if share),
        )

    def assumptions(self) -> Assumptions:
        """What a plan has to reckon with."""
        slow = round(20 * self.slow)
        return Assumptions(
            latency_s=(*[self.latency_s] * (20 - slow), *[self.latency_s + SLOW_S] * slow),
            failing=self.failing,
            limit_per_s=self.limit_per_s,
        )


@dataclass(frozen=True)
class Case:
    """A campaign to be planned and run.

    Attributes:
        name: What it shows.
        rows: Its steps: serial number, operation, group.
        policy: Its policy, in the shape of a policy file.
        service: The service.
    """

    name: str
    rows: Sequence[tuple[str, str, str]]
    policy: dict[str, Any]
    service: Service = field(default_factory=Service)


def serve(config: SandboxConfig, told: Connection) -> None:
    """The sandbox's process."""
    run_sandbox(config, ready=told.send)


def sequences(devices: int, *operations: str, groups: int = 0, first: int = 0) -> list[tuple[str, str, str]]:
    """Rows: the same operations for so many devices, which are dealt out to so many groups."""
    return [
        (f"ZQ{number + 1:09}", operation, f"olt-{number % groups}" if groups else "")
        for number in range(first, first + devices)
        for operation in operations
    ]


SHORT = {"reboot": 4, "factory": 7, "device_factory": 7, "sync": 3, "reconf": 3}


def cases() -> Iterator[Case]:
    """The campaigns."""
    yield Case("rate", sequences(600, "reboot"), {"rate": "20/s", "settle": SHORT})
    yield Case(
        "concurrency",
        sequences(400, "sync"),
        {"rate": "100/s", "concurrency": 6, "settle": SHORT},
        Service(latency_s=0.4),
    )
    yield Case("sequences", sequences(150, "factory", "sync", "reconf"), {"rate": "20/s", "settle": SHORT})
    yield Case(
        "waves",
        sequences(200, "factory", "sync"),
        {"rate": "25/s", "settle": SHORT, "waves": "2%,20%,100%", "gate": "failed<=5%, soak 3s"},
    )
    yield Case(
        "group cap", sequences(60, "reboot", "sync", groups=5), {"rate": "20/s", "settle": SHORT, "group_cap": 2}
    )
    yield Case(
        "retries",
        sequences(500, "sync"),
        {"rate": "20/s", "settle": SHORT, "retries": {"backoff": "fixed", "attempts": 8}},
        Service(failing=0.08),
    )
    yield Case(
        "throttling",
        sequences(400, "reconf"),
        {"rate": "25/s", "settle": SHORT},
        Service(limit_per_s=15),
    )
    yield Case(
        "mixed, slow answers",
        [
            *sequences(60, "factory", "sync", "reconf"),
            *sequences(200, "reboot", first=60),
            *sequences(80, "sync", "reboot", first=260),
        ],
        {"rate": "18/s", "concurrency": 6, "settle": SHORT},
        Service(slow=0.2),
    )
    yield Case("fast", sequences(1500, "sync"), {"rate": "60/s", "burst": 60, "concurrency": 32, "settle": SHORT})
    yield Case(
        "all at once",
        [*sequences(80, "factory", "sync", "reconf", groups=8), *sequences(120, "reboot", groups=8, first=80)],
        {
            "rate": "20/s",
            "settle": SHORT,
            "waves": "5%,100%",
            "gate": "failed<=20%, unknown<=20%, soak 2s",
            "group_cap": 6,
            "retries": {"backoff": "fixed", "attempts": 8},
            "resend": {"reboot": True, "factory": True, "destructive": True},
        },
        Service(slow=0.2, failing=0.02),
    )


@dataclass(frozen=True)
class Result:
    """How a case went; times in seconds."""

    name: str
    steps: int
    predicted_s: float
    range_s: tuple[float, float]
    real_s: float
    planned_in_s: float
    sends: tuple[int, int]

    @property
    def deviation(self) -> float:
        """By which share the run took longer than predicted."""
        return self.real_s / self.predicted_s - 1

    @property
    def in_range(self) -> bool:
        """Whether the run was within the range."""
        return self.range_s[0] <= self.real_s <= self.range_s[1]

    def row(self) -> str:
        """As a row of a Markdown table."""
        low_s, high_s = self.range_s
        verdict = "yes" if self.in_range else "no"
        return (
            f"| {self.name} | {self.steps:,} | {self.predicted_s:.2f} s | {low_s:.1f} to {high_s:.1f} s "
            f"| {self.real_s:.2f} s | {self.deviation:+.2%} | {verdict} |"
        )


HEADER = (
    "| campaign | steps | predicted | range | took | deviation | within the range |\n|---|---:|---:|---:|---:|---:|---|"
)


@contextmanager
def sandbox(config: SandboxConfig) -> Iterator[str]:
    """A sandbox in a process of its own; its base URL."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(config, there), daemon=True)
    server.start()
    try:
        yield here.recv()
    finally:
        server.kill()
        server.join()


def campaign_of(case: Case, folder: Path) -> validation.Campaign:
    """The campaign of a case."""
    manifest = folder / f"{case.name}.csv"
    manifest.write_text("serial_number,operation,group\n" + "".join(f"{','.join(row)}\n" for row in case.rows))
    return validation.validate(str(manifest), options=case.policy)


def run(campaign: validation.Campaign, base_url: str, folder: Path) -> tuple[float, int, float]:
    """Run a campaign: how long it took in seconds, requests, and the median time from intent to answer in seconds."""
    connection = campaigns.Connection(
        base_url=parse_base_url(base_url), token=read_token({"FLEETOPS_TOKEN": TOKEN}, None)
    )
    state = StateDir(folder / "state")
    result = campaigns.run(campaign, connection, state, consent=True)
    with RunView.open(state, result.run_id) as view, view.reading() as reader:
        rows = reader.execute("SELECT answered_ns - intent_ns FROM attempt WHERE answered_ns IS NOT NULL").fetchall()
        assert view.took_ns is not None
        return view.took_ns / NS_PER_S, len(rows), median(busy_ns for (busy_ns,) in rows) / NS_PER_S


def measured_host_s(folder: Path) -> float:
    """What this host, client and sandbox together, adds to each request at present, in seconds."""
    latency_s = 0.1
    probe = Case("probe", sequences(60, "sync"), {"rate": "20/s"})
    with sandbox(SandboxConfig(devices=DEVICES, latency_s=latency_s)) as base_url:
        *_, busy_s = run(campaign_of(probe, folder), base_url, folder)
    return max(0.0, busy_s - latency_s)


def play(case: Case, folder: Path) -> Result:
    """Plan a case, run it, and compare."""
    campaign = campaign_of(case, folder)
    assumptions = case.service.assumptions().model_copy(update={"host_s": measured_host_s(folder)})
    began_s = time.perf_counter()
    said = make_plan(campaign, assumptions, start_ns=time.time_ns()).predictions
    planned_in_s = time.perf_counter() - began_s
    with sandbox(case.service.sandbox()) as base_url:
        took_s, sends, _ = run(campaign, base_url, folder)
    return Result(
        case.name, len(campaign.steps), said.makespan_s, said.range_s, took_s, planned_in_s, (said.sends, sends)
    )


def main() -> int:
    """Play the cases; 1 where one is off by more than 3 % or is out of its range."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", help="the name of one case")
    parser.add_argument("--out", type=Path, help="where the table goes; it is printed anyway")
    options = parser.parse_args()
    print(HEADER, flush=True)
    results = []
    for case in cases():
        if options.only in (None, case.name):
            with tempfile.TemporaryDirectory() as folder:
                results.append(play(case, Path(folder)))
            print(results[-1].row(), flush=True)
            print(f"  sends {results[-1].sends}, planned in {results[-1].planned_in_s:.2f} s", file=sys.stderr)
    if options.out:
        options.out.write_text("\n".join([HEADER, *(result.row() for result in results)]) + "\n")
    off = [result.name for result in results if not result.in_range or abs(result.deviation) > 0.03]
    print(
        f"host: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; off: {', '.join(off) or 'none'}", file=sys.stderr
    )
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
