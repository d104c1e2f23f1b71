from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from fleetops.model import NS_PER_S
from fleetops.policy import Policy
from fleetops.runner import gate as real
from fleetops.simulation.pace import VirtualGate


@pytest.mark.parametrize(("rate", "burst"), [("1/m", 0), ("2.5/s", 0), ("20/s", 3), ("1000/s", 0), ("1000/s", 50)])
def test_slots_come_when_the_real_gate_gives_them(rate: str, burst: int, virtual_time: Any) -> None:
    policy = Policy.model_validate({"rate": rate, "burst": burst})
    per_s = policy.rate.per_s

    async def take() -> list[int]:
        gate = real.Gate(policy)
        slots = []
        for number in range(200):
            if number == 100:
                # A pause, after which the bucket is empty.
                await asyncio.sleep(3 / per_s)
            await gate.slot(per_s)
            slots.append(virtual_time.now_ns())
        return slots

    expected = virtual_time.run(take)
    gate = VirtualGate(policy)
    now_ns, slots = 0, []
    for number in range(200):
        if number == 100:
            now_ns += round(3 * NS_PER_S / per_s)
        now_ns = gate.slot_ns(now_ns, per_s)
        slots.append(now_ns)
    # The real one gives what falls due within `_AT_ONCE_S` in one go.
    at_once_ns = real._AT_ONCE_S * NS_PER_S if per_s * real._AT_ONCE_S > 1 else 0
    assert slots == pytest.approx(expected, rel=1e-4, abs=at_once_ns + 20_000_000 / per_s)


def gate_at(rate: str, burst: int = 0) -> VirtualGate:
    return VirtualGate(Policy.model_validate({"rate": rate, "burst": burst}))


def test_a_burst_is_given_once() -> None:
    gate = gate_at("1/s", burst=3)
    slots = [gate.slot_ns(0, 1.0)]
    while len(slots) < 8:
        slots.append(gate.slot_ns(slots[-1], 1.0))
    assert slots[:4] == [0, 0, 0, 0]
    assert all(later - earlier > 0.9 * NS_PER_S for earlier, later in pairwise(slots[3:]))


def test_a_change_of_rate_is_no_reason_for_a_burst() -> None:
    gate = gate_at("10/s", burst=3)
    now_ns = 0
    for _ in range(4):
        now_ns = gate.slot_ns(now_ns, 10.0)
    moments = []
    for step in range(20):
        now_ns = gate.slot_ns(now_ns, 5.0 + step / 100)
        moments.append(now_ns)
    assert all(later - earlier > 0.15 * NS_PER_S for earlier, later in pairwise(moments))


def test_another_rate_that_is_asked_for_bounds_at_once() -> None:
    gate = gate_at("2/s")
    for _ in range(2):
        gate.bound.sent(0)
    assert gate.bound.free_at_ns() == NS_PER_S
    gate.ask(3.0)
    assert gate.bound.free_at_ns() == 0
