"""How long planning takes, and how much memory: `fleetops plan` on manifests of ten thousand to three million steps.

    python benchmarks/plan_scale.py [--most STEPS] [--times N] [--out docs/table.md]

Each is a process of its own, from start to exit, as an operator would run it; `fleetops validate` on the same manifest
is the peer, since reading and checking the rows is the least that a plan can take. Each is done several times and the
fastest one counts, since the others say more about what else the host does. It takes about five minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleetops.plan.make import MOST_STEPS_IN_PASSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RATE = "20/s"
WAVES = ("--waves", "1%,10%,100%")
RESET = ("factory", "sync", "reconf")
TARGETS_S = {(1_000_000, 1): 10.0, (100_000, 3): 5.0}
MOST_MB = {(1_000_000, 1): 1000}


@dataclass(frozen=True)
class Case:
    """A manifest: so many devices, each told so many operations; and further options of the plan."""

    devices: int
    operations: Sequence[str] = ("reboot",)
    options: Sequence[str] = ()

    @property
    def steps(self) -> int:
        """Its rows."""
        return self.devices * len(self.operations)

    def write(self, path: Path) -> None:
        """Write the manifest."""
        with path.open("w") as file:
            file.write("serial_number,operation\n")
            for device in range(self.devices):
                file.writelines(f"ZQ{device:09},{operation}\n" for operation in self.operations)


def cases() -> Iterator[Case]:
    """The manifests, one step a device unless it says otherwise."""
    for devices in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000):
        yield Case(devices)
    yield Case(100_000, RESET)
    yield Case(1_000_000, RESET)
    yield Case(1_000_000, options=WAVES)


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds, of them seconds of a processor, and the most memory it had, in megabytes."""

    took_s: float
    cpu_s: float
    mb: float


@dataclass(frozen=True)
class Result:
    """What planning and checking a manifest took, the fastest of each."""

    case: Case
    plan: Cost
    validate: Cost

    def row(self) -> str:
        """As a row of a Markdown table."""
        case = self.case
        passes = "range and remedies too" if case.steps <= MOST_STEPS_IN_PASSES else "once"
        waves = ", in waves" if case.options else ""
        plan = self.plan
        return (
            f"| {case.devices:,} x {len(case.operations)}{waves} | {case.steps:,} | {passes} | {plan.took_s:.1f} s | "
            f"{plan.cpu_s:.1f} s | {plan.cpu_s / case.steps * 1e6:.1f} us | {plan.mb:,.0f} MB | "
            f"{plan.took_s / self.validate.took_s:.1f} |"
        )

    @property
    def is_late(self) -> bool:
        """Whether it is over its target."""
        key = (self.case.devices, len(self.case.operations))
        return self.plan.took_s > TARGETS_S.get(key, 1e9) or self.plan.mb > MOST_MB.get(key, 1e9)


HEADER = (
    "| devices x steps | steps | simulated | time | processor | of it per step | memory | times `validate` |\n"
    "|---|---:|---|---:|---:|---:|---:|---:|"
)


def cost(arguments: Sequence[str], state: Path) -> Cost:
    """What a fleetops command takes."""
    command = [sys.executable, "-m", "fleetops", *arguments]
    began_s = time.perf_counter()
    process = subprocess.Popen(  # ourselves
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FLEETOPS_STATE_DIR": str(state)},
    )
    _, status, usage = os.wait4(process.pid, 0)
    ended_s = time.perf_counter()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(ended_s - began_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def fastest(times: int, arguments: Sequence[str], state: Path) -> Cost:
    """The fastest of so many times."""
    return min((cost(arguments, state) for _ in range(times)), key=lambda one: one.took_s)


def play(case: Case, folder: Path, times: int) -> Result:
    """Plan a case."""
    manifest = folder / "night.csv"
    case.write(manifest)
    validate = fastest(times, ["validate", str(manifest)], folder)
    plan = fastest(times, ["plan", str(manifest), "--rate", RATE, *case.options], folder)
    return Result(case, plan, validate)


def main() -> int:
    """Play the cases; 1 where one is over its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--most", type=int, default=3_000_000, help="leave larger manifests out")
    parser.add_argument("--times", type=int, default=3, help="how often each is done")
    parser.add_argument("--out", type=Path, help="where the table goes; it is printed anyway")
    options = parser.parse_args()
    print(HEADER, flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if case.steps <= options.most:
                results.append(play(case, Path(folder), options.times))
                print(results[-1].row(), flush=True)
    if options.out:
        options.out.write_text("\n".join([HEADER, *(result.row() for result in results)]) + "\n")
    late = [result.row() for result in results if result.is_late]
    print(
        f"host: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; over target: {late or 'none'}", file=sys.stderr
    )
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
