"""As fast as it goes: whole processes, from start to exit, against nginx."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.speed import fleet
from benchmarks.speed.rivals import RIVALS, floor
from benchmarks.speed.services import nginx
from benchmarks.speed.tables import Section, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEVICES = 50_000
DEVICES_BY_HTTPX = 10_000
OURS, OURS_BY_HTTPX = "fleetops run", "fleetops run, over httpx's connections"
BOUND = "only the system calls and the SQL of a run, sending"
LEAST = {
    "a naive httpx script": 40.0,
    "a bare aiohttp script, on uvloop": 1.8,
    "`curl -Z --parallel-max 64`": 1.0,
    "wrk, one thread": 0.3,
}
LEAST_BY_HTTPX = 4.0


def _ours(folder: Path, base_url: str) -> float:
    return DEVICES / fleet.run(folder, base_url, DEVICES).took.wall_s


def _ours_by_httpx(folder: Path, base_url: str) -> float:
    return DEVICES_BY_HTTPX / fleet.run(folder, base_url, DEVICES_BY_HTTPX, transport="httpx").took.wall_s


def measure(folder: Path, rounds: int) -> Section:
    """Operations per second of everything, in rounds."""
    contenders: dict[str, Callable[[Path, str], float]] = {
        OURS: _ours,
        OURS_BY_HTTPX: _ours_by_httpx,
        **RIVALS,
        BOUND: floor,
    }
    per_s: dict[str, list[float]] = {name: [] for name in contenders}
    with nginx(folder / "nginx") as base_url:
        for _ in range(rounds):
            for name, contender in contenders.items():
                per_s[name].append(contender(folder, base_url))
    middle = {name: median(figures) for name, figures in per_s.items()}
    rows = [
        [
            name,
            f"{middle[name]:,.0f}",
            f"{min(figures):,.0f} to {max(figures):,.0f}",
            f"{middle[OURS] / middle[name]:.2f}",
        ]
        for name, figures in per_s.items()
    ]
    targets = [Target(f"fleetops beside {name}", middle[OURS] / middle[name], least) for name, least in LEAST.items()]
    naive = middle["a naive httpx script"]
    targets.append(
        Target("httpx's connections beside a naive httpx script", middle[OURS_BY_HTTPX] / naive, LEAST_BY_HTTPX)
    )
    return Section(["what", "operations/s", "of all rounds", "fleetops is so many times as fast"], rows, targets)
