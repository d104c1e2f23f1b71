"""What keeps a run from being shorter: lower bounds that hold whatever the scheduler does.

Each is what the run would take if it were the only thing to wait for. The tightest is what to change first.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from fleetops.model import NS_PER_S, OPERATIONS
from fleetops.plan.document import Bound
from fleetops.plan.wording import counted, plain, span
from fleetops.policy import format_duration
from fleetops.policy.fields import cap_of, format_cap
from fleetops.policy.pacing import CATCH_UP_S

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from fleetops.model import Steps
    from fleetops.plan.assumptions import Assumptions
    from fleetops.policy import Policy

    Seconds = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


class Bounds:
    """The bounds of one campaign under one policy and assumptions.

    Args:
        steps: What is to be done.
        policy: How.
        assumptions: How the service is expected to behave.
        wave_of: The wave of each device, from 0; empty where there are none.
        left_out: Devices that are not sent to.
    """

    def __init__(
        self,
        steps: Steps,
        policy: Policy,
        assumptions: Assumptions,
        wave_of: bytes = b"",
        left_out: Collection[int] = (),
    ) -> None:
        self._steps = steps
        self._policy = policy
        self._latency_s = assumptions.mean_busy_s
        self._limit_per_s = assumptions.limit_per_s
        self._wave_of = np.frombuffer(wave_of, dtype=np.uint8)
        self._devices = len(steps.serials)
        device_of = np.asarray(steps.device_of, dtype=np.int64)
        self._rows = np.flatnonzero(~np.isin(device_of, list(left_out)))
        self._device_of = device_of[self._rows]
        self._settle_s = np.asarray(steps.settle_ns_of, dtype=np.float64)[self._rows] / NS_PER_S
        self._busy_s = np.bincount(self._device_of, self._settle_s + self._latency_s, minlength=self._devices)
        self._last_settle_s = np.zeros(self._devices)
        self._last_settle_s[self._device_of] = self._settle_s  # the last of a device's steps stays

    def all(self) -> list[Bound]:
        """The bounds, the tightest first."""
        if not len(self._rows):
            return []
        found = [self._rate(), self._sequence(), self._concurrency(), self._throttling(), self._group(), self._waves()]
        return sorted((bound for bound in found if bound is not None), key=lambda bound: -bound.at_least_s)

    def tightest_s(self) -> float:
        """No run is shorter."""
        return max((bound.at_least_s for bound in self.all()), default=0.0)

    def _rate(self) -> Bound:
        rate, burst = self._policy.rate, self._policy.burst
        at_least_s = max(0, len(self._rows) - burst - 1) / rate.per_s + self._latency_s
        return _bound("rate", at_least_s, f"{counted(len(self._rows), 'step')} at {rate}")

    def _concurrency(self) -> Bound:
        slots = self._policy.concurrency
        at_least_s = len(self._rows) * self._latency_s / slots
        return _bound("concurrency", at_least_s, f"{slots} at once, each for {span(self._latency_s)} on average")

    def _throttling(self) -> Bound | None:
        if self._limit_per_s is None or self._limit_per_s >= self._policy.rate.per_s:
            return None
        limit_per_s = ceil(self._limit_per_s) if self._limit_per_s > 1 else self._limit_per_s
        at_least_s = (len(self._rows) - max(1, limit_per_s)) / limit_per_s
        return _bound("throttling", at_least_s, f"the service takes about {self._limit_per_s:g}/s")

    def _sequences_s(self) -> Seconds:
        """From the first send to the last answer of each device, if nothing else held it up."""
        return np.asarray(self._busy_s - self._last_settle_s)

    def _sequence(self) -> Bound:
        lasts_s = self._sequences_s()
        device = int(lasts_s.argmax())
        mine = self._rows[self._device_of == device]
        shown = [self._said(int(step), last=step == mine[-1]) for step in mine[:6]]
        chain = ", ".join(shown) + (f" and {len(mine) - 6} more" if len(mine) > 6 else "")  # noqa: PLR2004 - as above
        return _bound("sequence", float(lasts_s[device]), f"{self._steps.serials[device]}: {chain}")

    def _said(self, step: int, *, last: bool) -> str:
        operation = OPERATIONS[self._steps.operation_of[step]]
        settle_ns = self._steps.settle_ns_of[step]
        return str(operation) if last or not settle_ns else f"{operation} and {format_duration(settle_ns)} to settle"

    def _group(self) -> Bound | None:
        """A group with a cap: what its devices take in all, in so many lanes; their last settles are not awaited."""
        if self._capped is None:
            return None
        names, group_of, sizes, places = self._capped
        lanes_s = self._lanes_s(group_of, len(names), places)
        tightest = int(lanes_s.argmax())
        devices, cap = counted(int(sizes[tightest]), "device"), format_cap(self._policy.group_cap)
        what = f"group {plain(names[tightest])}: {devices}, {int(places[tightest])} at once (cap {cap})"
        return _bound("group_cap", float(lanes_s[tightest]), what)

    @cached_property
    def _capped(self) -> tuple[list[str], Integers, Integers, Integers] | None:
        """The groups with a cap: names, group by device (-1 where none), devices, and how many of them at once."""
        cap, groups = self._policy.group_cap, self._steps.groups
        if cap is None or not any(groups):
            return None
        number = {name: at for at, name in enumerate(dict.fromkeys(name for name in groups if name))}
        group_of = np.fromiter((number.get(name, -1) for name in groups), np.int64, len(groups))
        sizes = np.bincount(group_of[group_of >= 0], minlength=len(number))
        return list(number), group_of, sizes, np.array([cap_of(cap, int(size)) for size in sizes])

    def _lanes_s(self, lane_of: Integers, lanes: int, places: Integers) -> Seconds:
        """How long sets of devices take at least that go so many at a time; a device in none has a negative lane."""
        counts = lane_of >= 0
        busy_s = np.bincount(lane_of[counts], self._busy_s[counts], minlength=lanes)
        longest_last_s = np.zeros(lanes)
        np.maximum.at(longest_last_s, lane_of[counts], self._last_settle_s[counts])
        return np.maximum(busy_s / places - longest_last_s, 0.0)

    def _waves(self) -> Bound | None:
        """Each wave takes as long as the tightest of its own bounds, and then the gate's soak."""
        policy = self._policy
        wave_of = self._wave_of
        if not len(wave_of):
            return None
        waves = int(wave_of.max()) + 1
        # After a pause the pacing lets a little more through at once.
        at_once = 1 + policy.burst + CATCH_UP_S * policy.rate.per_s
        each_s = (np.bincount(wave_of[self._device_of], minlength=waves) - at_once) / policy.rate.per_s
        np.maximum.at(each_s, wave_of, self._sequences_s())
        if self._capped is not None:
            names, group_of, _, places = self._capped
            lane_of = np.where(group_of < 0, -1, wave_of * np.int64(len(names)) + group_of)
            lanes_s = self._lanes_s(lane_of, waves * len(names), np.tile(places, waves))
            each_s = np.maximum(each_s, lanes_s.reshape(waves, len(names)).max(axis=1))
        soak_s = policy.gate.soak_ns / NS_PER_S * (waves - 1)
        soak = f", {span(soak_s)} of it soak" if soak_s else ""
        return _bound("waves", float(each_s.sum()) + soak_s, f"{counted(waves, 'wave')} one after another{soak}")


def _bound(name: str, at_least_s: float, explanation: str) -> Bound:
    return Bound(name=name, at_least_s=round(max(0.0, at_least_s), 3), explanation=plain(explanation, 1000))
