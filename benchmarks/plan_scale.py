"""How long planning takes, and how much memory: `fleetops plan` on manifests of ten thousand to three million steps.

    python benchmarks/plan_scale.py [--most STEPS] [--out docs/table.md]

Each is a process of its own, from start to exit, as an operator would run it; `fleetops validate` on the same manifest
is the peer, since reading and checking the rows is the least that a plan can take. It takes about two minutes.
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
class Result:
    """How long a case took, in seconds, and the most memory it had, in megabytes."""

    case: Case
    plan_s: float
    validate_s: float
    plan_mb: float

    def row(self) -> str:
        """As a row of a Markdown table."""
        case = self.case
        passes = "range and remedies too" if case.steps <= MOST_STEPS_IN_PASSES else "once"
        waves = ", in waves" if case.options else ""
        return (
            f"| {case.devices:,} x {len(case.operations)}{waves} | {case.steps:,} | {passes} | {self.plan_s:.1f} s | "
            f"{self.plan_s / case.steps * 1e6:.1f} us | {self.plan_mb:,.0f} MB | {self.plan_s / self.validate_s:.1f} |"
        )

    @property
    def is_late(self) -> bool:
        """Whether it is over its target."""
        key = (self.case.devices, len(self.case.operations))
        return self.plan_s > TARGETS_S.get(key, 1e9) or self.plan_mb > MOST_MB.get(key, 1e9)


HEADER = (
    "| devices x steps | steps | simulated | time | per step | memory | times as long as `validate` |\n"
    "|---|---:|---|---:|---:|---:|---:|"
)


def took(arguments: Sequence[str], state: Path) -> tuple[float, float]:
    """Run fleetops; how long it took in seconds, and the most memory it had in megabytes."""
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
    return ended_s - began_s, usage.ru_maxrss / 1024


def play(case: Case, folder: Path) -> Result:
    """Plan a case."""
    manifest = folder / "night.csv"
    case.write(manifest)
    validate_s, _ = took(["validate", str(manifest)], folder)
    plan_s, plan_mb = took(["plan", str(manifest), "--rate", RATE, *case.options], folder)
    return Result(case, plan_s, validate_s, plan_mb)


def main() -> int:
    """Play the cases; 1 where one is over its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--most", type=int, default=3_000_000, help="leave larger manifests out")
    parser.add_argument("--out", type=Path, help="where the table goes; it is printed anyway")
    options = parser.parse_args()
    print(HEADER, flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if case.steps <= options.most:
                results.append(play(case, Path(folder)))
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
