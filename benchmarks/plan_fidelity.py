"""How well plans predict: ten campaigns are planned, then run against a service on this host, and the two compared.

    python benchmarks/plan_fidelity.py [--only NAME] [--out docs/table.md]

The service answers after a known time, so that what is compared is the plan and not a guess about the service. Takes
about six minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetops import campaigns
from fleetops.control import parse_base_url, read_token
from fleetops.journal import StateDir
from fleetops.journal.views import RunView
from fleetops.plan import Assumptions, make_plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

NS_PER_S = 1_000_000_000
BODY = b'{"id": 1, "operation": "%s"}'


@dataclass(frozen=True)
class Service:
    """How the service behaves.

    Attributes:
        latency_s: Times to an answer; each request has one of them.
        failing: Share of requests that are answered with a 503.
        limit_per_s: Requests that are taken in a sliding second; None for any number.
        retry_after_s: What a 429 asks to wait.
    """

    latency_s: tuple[float, ...] = (0.1,)
    failing: float = 0.0
    limit_per_s: int | None = None
    retry_after_s: int = 2


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


class Answering:
    """The service: HTTP/1.1 with connections that stay open, on the loopback address."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._chance = random.Random(7)
        self._taken: deque[float] = deque()

    async def serve(self, port: Connection) -> None:
        """Say on which port, then serve until killed."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
            )
            body = await reader.readexactly(length)
            status, extra = self._verdict()
            await asyncio.sleep(self._chance.choice(self._service.latency_s))
            answer = BODY % body.split(b'"')[3]
            writer.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s"
                % (status, len(answer), extra, answer)
            )

    def _verdict(self) -> tuple[bytes, bytes]:
        now_s, limit = time.monotonic(), self._service.limit_per_s
        if limit is not None:
            while self._taken and self._taken[0] <= now_s - 1:
                self._taken.popleft()
            if len(self._taken) >= limit:
                return b"429 Too Many Requests", b"Retry-After: %d\r\n" % self._service.retry_after_s
            self._taken.append(now_s)
        if self._chance.random() < self._service.failing:
            return b"503 Service Unavailable", b""
        return b"200 OK", b""


def serve(service: Service, port: Connection) -> None:
    """The service's process."""
    asyncio.run(Answering(service).serve(port))


def sequences(devices: int, *operations: str, groups: int = 0, first: int = 0) -> list[tuple[str, str, str]]:
    """Rows: the same operations for so many devices, which are dealt out to so many groups."""
    return [
        (f"CPE{number:06}", operation, f"olt-{number % groups}" if groups else "")
        for number in range(first, first + devices)
        for operation in operations
    ]


SHORT = {"reboot": 4, "factory": 7, "device_factory": 7, "sync": 3, "reconf": 3}
SPREAD = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.45, 0.6, 0.9)


def cases() -> Iterator[Case]:
    """The campaigns."""
    yield Case("rate", sequences(600, "reboot"), {"rate": "20/s", "settle": SHORT})
    yield Case(
        "concurrency",
        sequences(500, "sync"),
        {"rate": "100/s", "concurrency": 4, "settle": SHORT},
        Service(latency_s=(0.2,)),
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
        {"rate": "20/s", "settle": SHORT},
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
        Service(latency_s=SPREAD),
    )
    yield Case("fast", sequences(6000, "sync"), {"rate": "250/s", "burst": 100, "concurrency": 64, "settle": SHORT})
    yield Case(
        "all at once",
        [*sequences(80, "factory", "sync", "reconf", groups=8), *sequences(120, "reboot", groups=8, first=80)],
        {
            "rate": "20/s",
            "settle": SHORT,
            "waves": "5%,100%",
            "gate": "failed<=20%, unknown<=20%, soak 2s",
            "group_cap": 6,
            "resend": {"reboot": True, "factory": True, "destructive": True},
        },
        Service(latency_s=SPREAD, failing=0.03),
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


def play(case: Case, folder: Path) -> Result:
    """Plan a case, run it, and compare."""
    manifest = folder / "manifest.csv"
    manifest.write_text("serial_number,operation,group\n" + "".join(f"{','.join(row)}\n" for row in case.rows))
    campaign = campaigns.validate(str(manifest), options=case.policy)
    service = case.service
    assumptions = Assumptions(
        latency_s=service.latency_s,
        failing=service.failing,
        limit_per_s=service.limit_per_s,
        retry_after_s=service.retry_after_s,
    )
    began_s = time.perf_counter()
    said = make_plan(campaign, assumptions, start_ns=time.time_ns()).predictions
    planned_in_s = time.perf_counter() - began_s
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(service, there), daemon=True)
    server.start()
    try:
        state = StateDir(folder / "state")
        connection = campaigns.Connection(
            base_url=parse_base_url(f"http://127.0.0.1:{here.recv()}/api/v1"),
            token=read_token({"FLEETOPS_TOKEN": "not-a-secret"}, None),
        )
        result = campaigns.run(campaign, connection, state, consent=True)
    finally:
        server.kill()
        server.join()
    with RunView.open(state, result.run_id) as view, view.reading() as reader:
        assert view.took_ns is not None
        sends = reader.execute("SELECT count(sent_ns) FROM attempt").fetchone()[0]
        return Result(
            case.name,
            len(campaign.steps),
            said.makespan_s,
            said.range_s,
            view.took_ns / NS_PER_S,
            planned_in_s,
            (said.sends, sends),
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
