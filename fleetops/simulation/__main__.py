"""Play random campaigns with faults and crashes, and check what every run has to keep.

`python -m fleetops.simulation --seed N` replays one and says what became of it; `--campaigns M` plays M of them.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from fleetops.model import NS_PER_S
from fleetops.simulation.campaigns import EPOCH_NS, play
from fleetops.simulation.engine import StuckError
from fleetops.simulation.promises import breaches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetops.simulation.campaigns import Run, Story


def check(seed: int) -> tuple[Story | None, list[str]]:
    """Play the story of a seed; the story, None where it came to no end, and what it did not keep."""
    try:
        story = play(seed)
    except (StuckError, AssertionError) as error:
        return None, [f"{type(error).__name__}: {error}"]
    return story, [f"{promise}: {text}" for promise, texts in breaches(story).items() for text in texts]


def describe(story: Story) -> Iterator[str]:
    """What became of a story, in a line a process."""
    for number, run in enumerate(story.runs):
        campaign = run.campaign
        yield (
            f"run {number}: {len(campaign.steps)} steps on {len(campaign.steps.serials)} devices at "
            f"{campaign.policy.rate}, burst {campaign.policy.burst}, concurrency {campaign.policy.concurrency}"
        )
        yield from (f"  {line}" for line in _lives(run))
        counts = {outcome.value: count for outcome, count in run.lives[-1].trace.counts().items() if count}
        yield f"  outcomes: {', '.join(f'{count} {name}' for name, count in counts.items())}"


def _lives(run: Run) -> Iterator[str]:
    for life in run.lives:
        trace = life.trace
        start_s, end_s = ((moment_ns - EPOCH_NS) / NS_PER_S for moment_ns in (trace.start_ns, trace.end_ns))
        ended = f"crashed after {trace.events} events" if trace.ended is None else trace.ended.value
        orders = "".join(f", told to {order} at {(at_ns - EPOCH_NS) / NS_PER_S:.3f} s" for at_ns, order in life.orders)
        yield f"from {start_s:.3f} s to {end_s:.3f} s: {len(trace)} sends, {ended}{orders}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code is 1 where a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m fleetops.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first campaign's seed")
    parser.add_argument("--campaigns", type=int, default=1, help="how many to play, of the seeds from there on")
    options = parser.parse_args(arguments)
    broken = processes = sends = 0
    for seed in range(options.seed, options.seed + options.campaigns):
        story, texts = check(seed)
        if story is not None:
            processes += sum(len(run.lives) for run in story.runs)
            sends += sum(len(life.trace) for run in story.runs for life in run.lives)
            if options.campaigns == 1:
                sys.stdout.writelines(f"{line}\n" for line in describe(story))
        if texts:
            broken += 1
            sys.stdout.write(f"seed {seed} breaks {len(texts)}; replay: python -m fleetops.simulation --seed {seed}\n")
            sys.stdout.writelines(f"  {text}\n" for text in texts[:10])
    sys.stdout.write(f"{options.campaigns} campaigns, {processes} processes, {sends} sends: {broken} broke a promise\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
