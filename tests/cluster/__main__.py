"""Kill workers, submitters and database servers at random moments, and say what became of their campaigns."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.cluster.kills import Figures, play

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEVICES: Final = 300
_KILLS: Final = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code is 1 where anything was found that must not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first campaign's seed")
    parser.add_argument("--kills", type=int, default=100, help="how many processes to kill at least")
    parser.add_argument("--campaigns", type=int, help="how many campaigns to play, whatever the kills")
    options = parser.parse_args(arguments)
    began_s = time.monotonic()
    figures, broken, seed = Figures(), 0, options.seed
    while figures.kills < options.kills if options.campaigns is None else seed < options.seed + options.campaigns:
        with tempfile.TemporaryDirectory(prefix="fleetops-cluster-") as folder:
            played = play(Path(folder), seed, devices=_DEVICES, kills=_KILLS)
        figures.add(played.figures)
        broken += len(played.breaches)
        _say(f"seed {seed}: {played.figures.kills} kills, {len(played.breaches)} breaches")
        for breach in played.breaches[:10]:
            _say(f"  {breach}; replay: python -m tests.cluster --seed {seed} --campaigns 1")
        seed += 1
    rows = {
        "runs": figures.runs,
        "workers killed": figures.worker_kills,
        "submitters killed": figures.submitter_kills,
        "database servers killed": figures.database_kills,
        "steps": figures.steps,
        "requests that arrived": figures.arrivals,
        "duplicates of answered steps": figures.duplicates,
        "lost steps": figures.lost,
        "steps reported unknown": figures.unknowns,
        f"sends in the busiest second, of {figures.rate_per_s}": figures.busiest_second,
        "breaches": broken,
        "seconds": round(time.monotonic() - began_s),
    }
    _say("\n".join(f"{name:<37} {value:>8,}" for name, value in rows.items()))
    return 1 if broken else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
