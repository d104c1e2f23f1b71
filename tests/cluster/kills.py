"""A campaign on three workers that is disturbed again and again, and ends all the same."""

from __future__ import annotations

import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from fleetops.errors import FleetopsError
from tests.cluster.rig import ClusterRig
from tests.cluster.server import PostgresServer
from tests.crash.audit import NS_PER_S, busiest_second, read_report
from tests.crash.rig import SandboxProcess, end_of, kill

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.crash.audit import JournalCopy

WORKERS: Final = 3
_LONGEST_S: Final = 180.0
_RATE: Final = 60


@dataclass(slots=True)
class Figures:
    """What was done and what was found, over any number of campaigns."""

    runs: int = 0
    worker_kills: int = 0
    submitter_kills: int = 0
    database_kills: int = 0
    steps: int = 0
    arrivals: int = 0
    duplicates: int = 0
    lost: int = 0
    unknowns: int = 0
    busiest_second: int = 0
    rate_per_s: int = _RATE

    @property
    def kills(self) -> int:
        """All of them."""
        return self.worker_kills + self.submitter_kills + self.database_kills

    def add(self, other: Figures) -> None:
        """Add what another campaign came to."""
        for name in self.__slots__:
            if name not in {"busiest_second", "rate_per_s"}:
                setattr(self, name, getattr(self, name) + getattr(other, name))
        self.busiest_second = max(self.busiest_second, other.busiest_second)


@dataclass(frozen=True, slots=True)
class Played:
    """A campaign that was played to its end."""

    seed: int
    figures: Figures
    breaches: list[str]


class _Campaign:
    """The processes of one campaign."""

    def __init__(self, rig: ClusterRig, server: PostgresServer, chance: random.Random) -> None:
        self.rig = rig
        self.server = server
        self.chance = chance
        self.figures = Figures(runs=1)
        self.workers = [rig.start_worker("--chunks=3") for _ in range(WORKERS)]
        self.submitter: subprocess.Popen[str] | None = None

    @property
    def run_id(self) -> str | None:
        """The run; None while there is none, or the database is away."""
        with suppress(FleetopsError):
            found = self.rig.value("SELECT max(run_id) FROM run")
            return None if found is None else str(found)
        return None

    def submit(self) -> None:
        """Start the command that starts the campaign and looks on; where it was killed too soon, start it again."""
        manifest, policy = self.rig.folder / "manifest.csv", self.rig.folder / "policy.yaml"
        self.submitter = self.rig.start(
            "run", str(manifest), f"--policy={policy}", "--yes", "--cluster", "--chunk-devices=12", "--quiet"
        )

    def is_over(self) -> bool:
        """Whether the run is over."""
        with suppress(FleetopsError):
            return bool(self.rig.value("SELECT bool_and(ended_ns IS NOT NULL) FROM run"))
        return False

    def kill_worker(self) -> None:
        """Kill one of the workers, and start another after a while."""
        number = self.chance.randrange(WORKERS)
        if kill(self.workers[number]):
            self.figures.worker_kills += 1
            self.take_snapshot()
        time.sleep(self.chance.uniform(0, 1.5))
        self.workers[number] = self.rig.start_worker("--chunks=3")

    def kill_submitter(self) -> None:
        """Kill the command that started the campaign; the run goes on, or is started again where there is none."""
        if self.submitter is not None and kill(self.submitter):
            self.figures.submitter_kills += 1
        self.submitter = None
        if self.run_id is None:
            self.submit()

    def kill_database(self) -> None:
        """Kill the server with all that it does, and start it again after a while."""
        self.server.stop(signal.SIGKILL)
        self.figures.database_kills += 1
        time.sleep(self.chance.uniform(0, 3))
        self.server.start()

    def take_snapshot(self) -> None:
        """Note how far the journal is."""
        run_id = self.run_id
        if run_id is not None:
            with suppress(FleetopsError):
                self.rig.take_snapshot(run_id)


def play(folder: Path, seed: int, *, devices: int, kills: int) -> Played:
    """Run a campaign on three workers, kill what the seed decides, until it is done, and audit it.

    Args:
        folder: An empty folder.
        seed: Decides the faults and the victims.
        devices: How many devices; each has three steps.
        kills: How many processes are killed at most.
    """
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    server = PostgresServer(durable=True)
    with server, SandboxProcess(folder / "requests.jsonl", devices=devices, seed=seed) as sandbox:
        server.make_template()
        rig = ClusterRig(folder, sandbox, server.url)
        rig.write(devices=devices, rate=_RATE, concurrency=30)
        one = _Campaign(rig, server, chance)
        try:
            _disturb(one, kills)
            ended = _end(one)
            found = rig.audit(ended)
            if not one.is_over():
                found.breaches.append(f"the run is not over after {_LONGEST_S:g} s")
            journal = rig.journal(ended)
        finally:
            rig.end_workers()
            if one.submitter is not None:
                kill(one.submitter)
    figures = one.figures
    figures.steps, figures.arrivals = 3 * devices, len(rig.arrivals())
    figures.duplicates, figures.lost = found.resent, found.lost
    figures.unknowns = sum(row["outcome"] == "unknown" for row in read_report(rig.report))
    figures.busiest_second = busiest_second(_sent(journal))
    return Played(seed, figures, found.breaches)


def _sent(journal: JournalCopy) -> list[int]:
    return sorted(attempt.sent_ns for attempt in journal.attempts if attempt.sent_ns is not None)


def _disturb(one: _Campaign, kills: int) -> None:
    one.submit()
    while one.figures.kills < kills and not one.is_over():
        time.sleep(one.chance.uniform(0.3, 3))
        victim = one.chance.choices((one.kill_worker, one.kill_submitter, one.kill_database), (6, 2, 2))[0]
        victim()


def _end(one: _Campaign) -> str:
    """Wait for the end of the run, whose id this is; also its command, if it lives, has to see it."""
    until_s = time.monotonic() + _LONGEST_S
    while not one.is_over() and time.monotonic() < until_s:
        time.sleep(0.2)
    run_id = one.run_id
    assert run_id is not None
    if one.submitter is not None:
        end_of(one.submitter)
        one.submitter = None
    return run_id


def steady_rate(journal: JournalCopy) -> float:
    """Sends per second in the middle of the seconds in which something was sent."""
    per_second: dict[int, int] = {}
    for moment_ns in _sent(journal):
        per_second[moment_ns // NS_PER_S] = per_second.get(moment_ns // NS_PER_S, 0) + 1
    return median(per_second.values())
