"""A campaign that is killed again and again, and gone on with until it is done."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.crash.audit import read_report
from tests.crash.rig import Rig, RigError, SandboxProcess, end_of, kill

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


DONE: Final = frozenset({0, 1, 5})
"""Exit codes of a run that has nothing left to do."""
_START_S: Final = 1.2
"""About how long the command takes before it sends."""
_MOST_PROCESSES: Final = 100


@dataclass(slots=True)
class Figures:
    """What was done and what was found, over any number of campaigns."""

    runs: int = 0
    kills: int = 0
    sandbox_kills: int = 0
    steps: int = 0
    arrivals: int = 0
    duplicates: int = 0
    lost: int = 0
    unknowns: int = 0

    def add(self, other: Figures) -> None:
        """Add what another campaign came to."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Played:
    """A campaign that was played to its end."""

    seed: int
    figures: Figures
    breaches: list[str]


def play(folder: Path, seed: int, *, devices: int, kills: int, sandbox_kills: int = 0) -> Played:
    """Run a campaign, kill it at moments that the seed decides, go on until it is done, and audit it.

    Args:
        folder: An empty folder.
        seed: Decides the faults and the moments.
        devices: How many devices; each has three steps.
        kills: How many processes are killed, where the campaign lasts that long.
        sandbox_kills: How many times the sandbox is killed and started again while a process runs.
    """
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with SandboxProcess(folder / "requests.jsonl", devices=devices, seed=seed) as sandbox:
        one = Rig(folder, sandbox)
        one.write(devices=devices, rate=chance.choice((200, 300, 400)), concurrency=chance.choice((4, 16, 48)))
        # A share of the campaign's sends for each process, so that there is something left to kill for the last.
        share = max(1, 3 * devices // (kills + 1))
        figures = Figures(runs=1, steps=3 * devices)
        breaches = []
        for number in range(_MOST_PROCESSES):
            process = one.start()
            if number < sandbox_kills:
                _restart(sandbox, one, process, chance, share)
                figures.sandbox_kills += 1
            if figures.kills < kills:
                _wait(one, process, chance, share)
                if kill(process):
                    figures.kills += 1
                    if one.started:
                        one.take_snapshot()
                    continue
            ended = end_of(process)
            if ended.code in DONE:
                break
            breaches.append(f"process {number} ended with {ended.code}: {ended.stderr[-500:]}")
        else:
            raise RigError(f"seed {seed}: not done after {_MOST_PROCESSES} processes")
        found = one.audit()
        figures.arrivals = len(one.arrivals())
    figures.duplicates, figures.lost = found.resent, found.lost
    figures.unknowns = sum(row["outcome"] == "unknown" for row in read_report(one.report))
    return Played(seed, figures, breaches + found.breaches)


def _wait(one: Rig, process: subprocess.Popen[str], chance: random.Random, share: int) -> None:
    """Until the moment to kill: at any time from the start on, or a little after so many requests."""
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, 2 * _START_S))
    else:
        one.wait_for_arrivals(process, chance.randrange(1, 2 * share))
        time.sleep(chance.uniform(0, 0.02))


def _restart(
    sandbox: SandboxProcess, one: Rig, process: subprocess.Popen[str], chance: random.Random, share: int
) -> None:
    one.wait_for_arrivals(process, chance.randrange(1, share))
    sandbox.kill()
    time.sleep(chance.uniform(0, 0.3))
    sandbox.start()
