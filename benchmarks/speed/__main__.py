"""Measure fleetops beside what else one would reach for, and write the tables down.

    python -m benchmarks.speed [--rounds 5] [--only throughput,pacing] [--out docs/performance.md] [--check]

What is compared is run one after the other within a round, the client on one core and the service on another, and the
median of the rounds is taken. With `--check`, it fails where a ratio is below its target.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed import large, paced, rivals, throughput
from benchmarks.speed.tables import Section, write_page

if TYPE_CHECKING:
    from collections.abc import Callable

SECTIONS: dict[str, Callable[[Path, int], Section]] = {
    "throughput": throughput.measure,
    "waiting": paced.measure_waiting,
    "pacing": paced.measure_pacing,
    "large": large.measure_million,
    "growth": large.measure_growth,
}


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--folder", type=Path, default=Path(".bench"))
    parser.add_argument("--out", type=Path, help="the page whose tables are replaced")
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(exist_ok=True)
    rivals.prepare(folder)
    missed = []
    for name in options.only.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        section = SECTIONS[name](folder, options.rounds)
        print(section.text(), flush=True)
        missed += [target for target in section.targets if not target.met]
        if options.out is not None:
            write_page(options.out, name, section, _machine())
    for target in missed:
        print(f"missed: {target.text()}", file=sys.stderr)
    return 1 if options.check and missed else 0


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"Measured on {day}, {os.cpu_count()} cores, {platform.machine()}, {python}."


if __name__ == "__main__":
    sys.exit(main())
