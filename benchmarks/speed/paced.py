"""At a rate: how much of it is used, how exactly it is kept, and what that costs."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.speed import fleet
from benchmarks.speed.services import answering_after, nginx
from benchmarks.speed.tables import Section, Target

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_S = 0.02
IN_FLIGHT = 64
WAITING_DEVICES = 20_000
RATES = (
    (1, 20),
    (7, 140),
    (50, 1_000),
    (500, 30_000),
    (2_000, 40_000),
    (5_000, 60_000),
    (10_000, 80_000),
    (20_000, 160_000),
)
"""Operations a second, and how many of them are sent."""
COSTLY_PER_S = 500


def measure_waiting(folder: Path, rounds: int) -> Section:
    """Against a service that answers in 20 ms: how many of the requests that fit are sent."""
    possible = IN_FLIGHT / ANSWER_S
    rows, shares = [], []
    with answering_after(ANSWER_S) as base_url:
        for loop in ("uvloop", "asyncio"):
            runs = [fleet.run(folder, base_url, WAITING_DEVICES, loop=loop) for _ in range(rounds)]
            per_s = median(run.sending_per_s for run in runs)
            cpu_us = median(run.took.cpu_s / WAITING_DEVICES for run in runs) * 1e6
            rows.append([loop, f"{per_s:,.0f}", f"{per_s / possible:.1%}", f"{cpu_us:.0f}"])
            shares.append(per_s / possible)
    head = ["event loop", f"operations/s of {possible:,.0f}", "share", "processor time per operation, µs"]
    return Section(head, rows, [Target("share of what 64 requests in flight and 20 ms allow", shares[0], 0.93)])


def measure_pacing(folder: Path, rounds: int) -> Section:
    """At rates from slow to fast: over the run, in its fullest second, and the share of a core that it takes."""
    rows, targets = [], []
    with nginx(folder / "nginx") as base_url:
        for loop in ("uvloop", "asyncio"):
            for per_s, sends in RATES:
                run = fleet.run(folder, base_url, sends, rate=f"{per_s}/s", in_flight=IN_FLIGHT, loop=loop)
                share, fullest = run.paced_per_s / per_s, run.most_in_a_second()
                core = run.took.cpu_s / run.took.wall_s
                row = [f"{per_s:,}/s on {loop}", f"{sends:,}", f"{share:.4f}", f"{fullest:,}", f"{core:.1%}"]
                rows.append(row)
                targets.append(Target(f"{per_s:,}/s on {loop}: sent over the run", share, 0.99, 1.0))
                targets.append(Target(f"{per_s:,}/s on {loop}: in its fullest second", fullest, None, per_s))
                if per_s == COSTLY_PER_S:
                    targets.append(Target(f"{per_s:,}/s on {loop}: share of a core", core, None, 0.15))
    return Section(["rate", "sends", "share of it sent", "most in a second", "share of a core"], rows, targets)
