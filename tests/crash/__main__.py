"""Kill campaigns at random moments until there were so many kills, and say what became of them.

`python -m tests.crash --seed N --campaigns 1` plays one again: its faults and its plan of kills are the same, the exact
moments are the host's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.crash.kills import Figures, Played, play
from tests.crash.rig import RigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DEVICES: Final = 400
_KILLS: Final = 12


def _campaign(seed: int) -> Played:
    with tempfile.TemporaryDirectory(prefix="fleetops-crash-") as folder:
        return play(Path(folder), seed, devices=_DEVICES, kills=_KILLS, sandbox_kills=seed % 3)


def _outcome(future: Future[Played], seed: int) -> Played:
    try:
        return future.result()
    except RigError as error:
        return Played(seed, Figures(), [str(error)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code is 1 where anything was found that must not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first campaign's seed")
    parser.add_argument("--kills", type=int, default=200, help="how many processes to kill at least")
    parser.add_argument("--campaigns", type=int, help="how many campaigns to play, whatever the kills")
    parser.add_argument("--jobs", type=int, default=1 + (os.cpu_count() or 1), help="how many to play at a time")
    options = parser.parse_args(arguments)

    began_s = time.monotonic()
    figures, broken = Figures(), 0
    for played in _play_all(options):
        figures.add(played.figures)
        broken += len(played.breaches)
        _say(f"seed {played.seed}: {played.figures.kills} kills, {len(played.breaches)} breaches")
        for breach in played.breaches[:10]:
            _say(f"  {breach}; replay: python -m tests.crash --seed {played.seed} --campaigns 1")
    rows = {**_rows(figures), "breaches": broken, "seconds": round(time.monotonic() - began_s)}
    _say("\n".join(f"{name:<29} {value:>8,}" for name, value in rows.items()))
    return 1 if broken else 0


def _play_all(options: argparse.Namespace) -> Iterator[Played]:
    """Campaigns side by side, until there are as many of them, or of kills, as were asked for."""
    seed, kills = options.seed, 0
    playing: dict[Future[Played], int] = {}
    with ThreadPoolExecutor(options.jobs) as pool:

        def more() -> bool:
            if options.campaigns is not None:
                return bool(seed < options.seed + options.campaigns)
            return bool(kills + _KILLS * len(playing) < options.kills)

        while True:
            while len(playing) < options.jobs and more():
                playing[pool.submit(_campaign, seed)] = seed
                seed += 1
            if not playing:
                return
            done, _ = wait(playing, return_when=FIRST_COMPLETED)
            for future in done:
                played = _outcome(future, playing.pop(future))
                kills += played.figures.kills
                yield played


def _rows(figures: Figures) -> dict[str, int]:
    return {
        "runs": figures.runs,
        "fleetops processes killed": figures.kills,
        "sandbox processes killed": figures.sandbox_kills,
        "steps": figures.steps,
        "requests that arrived": figures.arrivals,
        "duplicates of answered steps": figures.duplicates,
        "lost steps": figures.lost,
        "steps reported unknown": figures.unknowns,
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
