"""The real runner on a real event loop and the simulation decide alike, given the same steps, policy and answers."""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import TYPE_CHECKING

import pytest

from fleetops.model import OUTCOMES, Operation, Reason, Reply, ReplyKind
from fleetops.simulation.engine import simulate
from tests.journal.runs import ACCEPTED, LOST, RUN_ID, UNREACHABLE, S
from tests.runner.plane import Plane, drive, quick_policy, read, start

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleetops.model import Steps
    from fleetops.policy import Policy
    from fleetops.simulation.world import Seen
    from tests.journal.runs import Row

REPLIES = (
    *[ACCEPTED] * 12,
    LOST,
    UNREACHABLE,
    Reply(ReplyKind.REFUSED, Reason.INVALID, 422),
    Reply(ReplyKind.BAD_REPLY, Reason.BAD_REPLY, 200),
    Reply(ReplyKind.MAYBE, Reason.GATEWAY_TIMEOUT, 504),
)
Sends = list[tuple[int, int]]


class Script:
    """What is answered to each attempt of each step."""

    def __init__(self, seed: int, replies: Sequence[Reply]) -> None:
        self._seed = seed
        self._replies = replies

    def reply(self, step: int, attempt: int) -> Reply:
        return Random(f"{self._seed}/{step}/{attempt}").choice(self._replies)


class ScriptedPlane(Plane):
    """Answers by step and attempt: a device's steps are told apart by their operations, which differ."""

    def __init__(self, script: Script, steps: Steps, latency_s: float) -> None:
        super().__init__(latency_s=latency_s)
        self.sends: Sends = []
        self._step_of = {(steps.serial(step), steps.operation(step)): step for step in range(len(steps))}
        self._attempts: dict[int, int] = defaultdict(int)
        self._replies = script

    async def execute(self, serial: str, operation: Operation) -> Reply:
        step = self._step_of[serial, operation]
        self._attempts[step] += 1
        attempt = self._attempts[step]
        self.sends.append((step, attempt))
        await super().execute(serial, operation)
        return self._replies.reply(step, attempt)


class ScriptedWorld:
    def __init__(self, script: Script, latency_ns: int) -> None:
        self._script = script
        self._latency_ns = latency_ns

    def attempt(self, step: int, attempt: int, sent_ns: int) -> tuple[int, Reply]:
        return sent_ns + self._latency_ns, self._script.reply(step, attempt)

    def look(self, device: int, now_ns: int) -> tuple[int, Seen]:
        raise NotImplementedError


def make_rows(rng: Random, devices: int, settle_ns: int) -> list[Row]:
    """Sequences of one to four different operations, whose rows are mixed."""
    operations = list(Operation)
    made = [
        (f"D{device:04}", operation)
        for device in range(devices)
        for operation in rng.sample(operations, rng.randint(1, 4))
    ]
    rng.shuffle(made)
    return [(serial, operation, settle_ns) for serial, operation in made]


def both(
    root: Path, rows: list[Row], policy: Policy, script: Script, latency_s: float
) -> tuple[Sends, Sends, list[tuple[int, str]], list[tuple[int, str]]]:
    """The sends of both in order, and the outcomes of both by step."""
    with start(root, rows, policy) as session:
        steps = session.loaded.steps
        plane = ScriptedPlane(script, steps, latency_s)
        drive(session, plane)
    trace = simulate(steps, policy, RUN_ID.encode(), ScriptedWorld(script, round(latency_s * S)), 1_767_330_000 * S)
    simulated = [(step, OUTCOMES[code - 1].value) for step, code in enumerate(trace.outcomes)]
    real = read(root, "SELECT step, outcome FROM result ORDER BY step")
    return plane.sends, list(zip(trace.step, trace.attempt, strict=True)), real, simulated


def by_device(sends: Sends, steps: list[Row]) -> dict[str, Sends]:
    taken: dict[str, Sends] = defaultdict(list)
    for step, attempt in sends:
        taken[steps[step][0]].append((step, attempt))
    return taken


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("on_failure", ["skip_rest", "continue"])
def test_one_at_a_time_they_send_the_same_in_the_same_order(tmp_path: Path, seed: int, on_failure: str) -> None:
    rows = make_rows(Random(seed), 60, settle_ns=0)
    policy = quick_policy(concurrency=1, rate=100_000, retries={"attempts": 1}, on_failure=on_failure)
    script = Script(seed, REPLIES)
    real, simulated, real_outcomes, simulated_outcomes = both(tmp_path, rows, policy, script, latency_s=0.0)
    assert real == simulated
    assert real_outcomes == simulated_outcomes


@pytest.mark.parametrize("seed", range(2))
def test_many_at_a_time_they_start_devices_in_the_same_order_and_do_the_same_to_each(tmp_path: Path, seed: int) -> None:
    rows = make_rows(Random(seed), 250, settle_ns=3_000_000)
    policy = quick_policy(concurrency=24, rate=1_500, retries={"attempts": 4})
    real, simulated, real_outcomes, simulated_outcomes = both(
        tmp_path, rows, policy, Script(seed, REPLIES), latency_s=0.003
    )
    assert by_device(real, rows) == by_device(simulated, rows)
    assert real_outcomes == simulated_outcomes
    starts = list(by_device(real, rows))
    assert starts == list(by_device(simulated, rows))
