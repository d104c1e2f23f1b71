"""How far the scheduler's makespan is from the least that any order of sends could take: ten campaigns, simulated.

    python benchmarks/plan_optimality.py [--only NAME] [--out docs/table.md]

The bound is the tightest of those that a plan names: steps over rate, the longest device's chain, requests over
concurrency, devices over the places of their group, and waves with all of these. No order of sends is shorter, so the
ratio says what a perfect scheduler could still gain at most. The service answers everything after the same time.
"""

from __future__ import annotations

import argparse
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetops.model import CODE_OF, NS_PER_S, Operation, Steps
from fleetops.plan.assumptions import AssumedWorld, Assumptions
from fleetops.plan.bounds import Bounds
from fleetops.plan.wording import span
from fleetops.policy import Policy
from fleetops.policy.waves import assign
from fleetops.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_NS = 1_767_225_600 * NS_PER_S
MOST = 1.02
SEED = "optimality"


@dataclass(frozen=True)
class Case:
    """A campaign one of whose bounds is tight.

    Attributes:
        name: What keeps it.
        sequences: How many devices, what each is told, and of how many groups they are.
        policy: Its policy, in the shape of a policy file.
        latency_s: The time to an answer.
    """

    name: str
    sequences: Sequence[tuple[int, Sequence[str], int]]
    policy: dict[str, Any]
    latency_s: float = 0.3


RESET = ("factory", "sync", "reconf")


def cases() -> Iterator[Case]:
    """The campaigns."""
    yield Case("rate, one step each", [(40_000, ["reboot"], 0)], {"rate": "20/s"})
    yield Case("rate, three steps each", [(5_000, RESET, 0)], {"rate": "10/s"})
    yield Case("rate, long among short", [(300, RESET * 2, 0), (6_000, ["reboot"], 0)], {"rate": "5/s"})
    yield Case("longest chain", [(40, RESET, 0), (400, ["sync"], 0)], {"rate": "50/s"})
    yield Case("concurrency", [(9_000, ["reconf"], 0)], {"rate": "500/s", "concurrency": 8}, latency_s=1.5)
    yield Case("group cap, one step each", [(1_600, ["reboot"], 40)], {"rate": "20/s", "group_cap": 2})
    yield Case("group cap, three steps each", [(960, RESET, 60)], {"rate": "20/s", "group_cap": "25%"})
    yield Case(
        "waves",
        [(30_000, ["reboot"], 0)],
        {"rate": "20/s", "waves": "1%,10%,100%", "gate": "failed<=2%, soak 10m"},
    )
    yield Case(
        "waves of sequences",
        [(6_000, RESET, 0)],
        {"rate": "5/s", "waves": "25%,60%,100%", "gate": "failed<=2%, soak 5m"},
    )
    yield Case(
        "waves and group cap",
        [(2_000, ["reboot"], 50)],
        {"rate": "20/s", "waves": "20%,100%", "gate": "failed<=2%, soak 5m", "group_cap": 2},
    )


def steps_of(case: Case, policy: Policy) -> Steps:
    """A case's steps, with the settle times of its policy."""
    devices = [(operations, groups) for count, operations, groups in case.sequences for _ in range(count)]
    rows = [(device, Operation(name)) for device, (operations, _) in enumerate(devices) for name in operations]
    return Steps(
        serials=[f"ZQ{device:09}" for device in range(len(devices))],
        groups=[f"olt-{device % groups}" for device, (_, groups) in enumerate(devices)] if devices[0][1] else (),
        device_of=array("I", (device for device, _ in rows)),
        operation_of=bytes(CODE_OF[operation] for _, operation in rows),
        settle_ns_of=array("q", (policy.settle.after_ns(operation) for _, operation in rows)),
    )


@dataclass(frozen=True)
class Result:
    """How near a campaign is to its bound; times in seconds."""

    name: str
    steps: int
    bound: str
    bound_s: float
    took_s: float

    @property
    def ratio(self) -> float:
        """The makespan as a multiple of the bound."""
        return self.took_s / self.bound_s

    def row(self) -> str:
        """As a row of a Markdown table."""
        return (
            f"| {self.name} | {self.steps:,} | {self.bound} | {span(self.bound_s)} | {span(self.took_s)} "
            f"| {self.ratio:.4f} |"
        )


HEADER = "| campaign | steps | tightest bound | no shorter than | takes | ratio |\n|---|---:|---|---:|---:|---:|"


def play(case: Case) -> Result:
    """Simulate a case, and hold it against its bounds."""
    policy = Policy.model_validate(case.policy)
    steps = steps_of(case, policy)
    assumptions = Assumptions(latency_s=(case.latency_s,), host_s=0)
    wave_of = b"" if policy.waves is None else assign(policy.waves, steps.groups, len(steps.serials), SEED)
    tightest = Bounds(steps, policy, assumptions, wave_of).all()[0]
    trace = simulate(steps, policy, b"run", AssumedWorld(assumptions), START_NS, wave_seed=SEED)
    return Result(case.name, len(steps), tightest.name, tightest.at_least_s, trace.makespan_ns / NS_PER_S)


def main() -> int:
    """Play the cases; 1 where one takes more than 1.02 times its bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", help="the name of one case")
    parser.add_argument("--out", type=Path, help="where the table goes; it is printed anyway")
    options = parser.parse_args()
    print(HEADER, flush=True)
    results = []
    for case in cases():
        if options.only in (None, case.name):
            results.append(play(case))
            print(results[-1].row(), flush=True)
    if options.out:
        options.out.write_text("\n".join([HEADER, *(result.row() for result in results)]) + "\n")
    off = [result.name for result in results if result.ratio > MOST]
    print(f"over {MOST}: {', '.join(off) or 'none'}", file=sys.stderr)
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
