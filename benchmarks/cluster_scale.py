"""What the one row that keeps the rate can bear: workers that reserve slots from it, on a virtual clock.

The time that a reservation holds the row is what `cluster.py gate` measures: most of it is the disk's, in its commit.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

BLOCK_S = 0.1
AHEAD_S = 0.05
LEAD_S = AHEAD_S + BLOCK_S
SHORTEST_S = 0.01
NONE_LEFT_S = 0.02
LOOK_S = 0.0005
"""What it takes to see that there is no slot; that holds nothing."""
JITTER_S = 0.004
"""By how much a worker's next request is sooner or later, as event loops and networks have it."""
SPREAD = 1.01
SIMULATED_S = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a simulation.

    Attributes:
        looks_per_s: Requests for slots.
        reservations_per_s: Those that found some.
        busy: The share of the time in which the row is held.
        reached: Slots that were given out in time, as a share of the rate.
        fairness: The least that a worker got, as a share of the most.
    """

    looks_per_s: float
    reservations_per_s: float
    busy: float
    reached: float
    fairness: float


def simulate(workers: int, per_s: float, held_s: float) -> Found:
    """Let so many workers that always want more reserve from one row which each reservation holds for a while."""
    interval_s = SPREAD / per_s
    asks = [(number * 1e-3, number) for number in range(workers)]
    heapify(asks)
    free_s = next_s = 0.0
    reservations = looks = 0
    chance = random.Random(1)
    got = [0] * workers
    while asks[0][0] < SIMULATED_S:
        asked_s, worker = heappop(asks)
        looks += 1
        if next_s > asked_s + LEAD_S:
            heappush(asks, (asked_s + LOOK_S + NONE_LEFT_S + chance.uniform(0, JITTER_S), worker))
            continue
        done_s = free_s = max(asked_s, free_s) + held_s
        reservations += 1
        first_s = max(next_s, done_s)
        granted = max(0, min(max(1, int(per_s * BLOCK_S)), int((done_s + LEAD_S - first_s) / interval_s) + 1))
        if not granted:
            heappush(asks, (done_s + NONE_LEFT_S + chance.uniform(0, JITTER_S), worker))
            continue
        next_s = first_s + granted * interval_s
        got[worker] += granted
        heappush(asks, (max(done_s + SHORTEST_S, next_s - AHEAD_S) + chance.uniform(0, JITTER_S), worker))
    return Found(
        looks / SIMULATED_S,
        reservations / SIMULATED_S,
        reservations * held_s / SIMULATED_S,
        sum(got) / (SIMULATED_S * per_s),
        min(got) / max(got),
    )


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 5, 20, 50])
    parser.add_argument("--rates", type=float, nargs="+", default=[20, 200, 2000])
    parser.add_argument("--held-ms", type=float, nargs="+", default=[1, 3, 6])
    options = parser.parse_args()
    print("workers   rate/s  row held  looks/s  reservations/s  row busy  rate reached  least/most")
    for workers in options.workers:
        for per_s in options.rates:
            for held_ms in options.held_ms:
                found = simulate(workers, per_s, held_ms / 1000)
                asked = f"{found.looks_per_s:>8.0f} {found.reservations_per_s:>15.0f}"
                print(
                    f"{workers:>7} {per_s:>8.0f} {held_ms:>6.0f} ms {asked} "
                    f"{found.busy:>9.0%} {found.reached:>13.1%} {found.fairness:>11.0%}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
