from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.journal import RunClock
from fleetops.model import NS_PER_S
from fleetops.policy.pacing import PACED_SHARE
from fleetops.runner.gate import SHORTEST_SLEEP_S, Gate
from fleetops.scheduler import StopReason
from tests.journal.runs import rows
from tests.runner.plane import Plane, drive, quick_policy, read, start, until

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.policy import Policy
    from fleetops.runner import Runner
    from fleetops.runner.session import Watch


def most_in_a_second(moments_s: list[float]) -> int:
    """The most that any sliding second holds."""
    most = first = 0
    for last, moment_s in enumerate(moments_s):
        while moments_s[first] <= moment_s - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def drive_and_see(
    root: Path, policy: Policy, steps: int, watch: Watch | None = None, plane: Plane | None = None
) -> list[float]:
    """When each request left, in seconds."""
    with start(root, rows(steps), policy) as session:
        drive(session, plane or Plane(latency_s=0.005), watch)
    return [sent_ns / NS_PER_S for (sent_ns,) in read(root, "SELECT sent_ns FROM attempt ORDER BY sent_ns")]


@pytest.mark.parametrize(("rate", "steps", "share"), [(20, 31, 0.8), (400, 601, 0.4), (2_000, 3_001, 0.05)])
def test_no_sliding_second_carries_more_than_the_rate_and_hardly_less_on_the_whole(
    tmp_path: Path, rate: int, steps: int, share: float
) -> None:
    sent_s = drive_and_see(tmp_path, quick_policy(rate=rate, concurrency=96), steps)
    assert len(sent_s) == steps
    assert most_in_a_second(sent_s) <= rate
    # A busy host may make it slower, and the faster the rate the sooner.
    assert (steps - 1) / (sent_s[-1] - sent_s[0]) >= share * rate


def test_a_burst_may_leave_at_once_and_no_more_than_that(tmp_path: Path) -> None:
    sent_s = drive_and_see(tmp_path, quick_policy(rate=20, burst=15, concurrency=64), 40)
    assert most_in_a_second(sent_s) <= 35
    assert sent_s[14] - sent_s[0] < 0.5


def test_what_left_before_a_rate_was_lowered_counts_against_the_new_one(tmp_path: Path) -> None:
    changed_s: list[float] = []
    clock = RunClock()

    async def lower(runner: Runner) -> None:
        await until(lambda: runner.snapshot().sends >= 60)
        runner.set_rate(40.0)
        changed_s.append(clock.now_ns() / NS_PER_S)
        before = runner.snapshot().sends
        await until(lambda: runner.snapshot().sends >= before + 10)
        runner.stop(StopReason.INTERRUPTED)

    sent_s = drive_and_see(tmp_path, quick_policy(rate=200, concurrency=64), 500, lower)
    after_s = [moment_s for moment_s in sent_s if moment_s > changed_s[0] + 0.001]
    assert len(after_s) >= 10
    for moment_s in after_s:
        assert sum(moment_s - 1 < other_s <= moment_s for other_s in sent_s) <= 40


def test_a_rate_that_is_raised_is_used_at_once(tmp_path: Path) -> None:
    async def raise_it(runner: Runner) -> None:
        await until(lambda: runner.snapshot().sends >= 1)
        runner.set_rate(1_000.0)

    began_s = time.monotonic()
    sent_s = drive_and_see(tmp_path, quick_policy(rate="1/h"), 50, raise_it)
    assert len(sent_s) == 50
    assert time.monotonic() - began_s < 10


def test_a_run_that_waits_costs_next_to_nothing(tmp_path: Path) -> None:
    used_s: list[float] = []

    async def measure(runner: Runner) -> None:
        await until(lambda: runner.snapshot().sends >= 1)
        before_s = time.process_time()
        await anyio.sleep(1.0)
        used_s.append(time.process_time() - before_s)
        runner.stop(StopReason.INTERRUPTED)

    drive_and_see(tmp_path, quick_policy(rate="1/h"), 50, measure)
    assert used_s[0] < 0.1


@pytest.mark.anyio
async def test_a_change_of_the_rate_carries_over_what_there_was_room_for() -> None:
    gate = Gate(quick_policy(rate=1_000, burst=10))
    await gate.slot(1_000)
    with anyio.move_on_after(0.05) as scope:
        for _ in range(12):
            await gate.slot(0.001)
    assert scope.cancelled_caught
    assert gate.is_free(RunClock().now_ns())


@pytest.mark.anyio
@pytest.mark.parametrize("rate", ["1/h", "3/s", "700/s", "20000/s"])
async def test_no_wait_for_a_slot_is_shorter_than_timers_can_tell_nor_longer_than_the_slots_take(rate: str) -> None:
    policy = quick_policy(rate=rate)
    per_s = policy.rate.per_s
    gate = Gate(policy)
    await gate.slot(per_s)
    while gate.take_slot(per_s):
        pass
    assert SHORTEST_SLEEP_S <= gate._until_free_s() <= max(SHORTEST_SLEEP_S, 1.01 / (per_s * PACED_SHARE), 0.0205)


@pytest.mark.anyio
async def test_a_wait_for_a_slot_ends_though_another_one_changes_the_rate_meanwhile() -> None:
    """A look into the inventory paces as a send does, and may be the first to learn of another rate."""
    gate = Gate(quick_policy(rate=1_000))
    await gate.slot(20)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.slot, 20)
            await anyio.wait_all_tasks_blocked()
            await gate.slot(1_000)
