"""What a simulated run's trace says: who is disturbed when, wave by wave, group by group, window by window.

All of it is worked out by column, so that a million sends take a second and not a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetops.model import NS_PER_S, OPERATIONS, Outcome, ReplyKind
from fleetops.plan.document import GroupUse, Series, WaveUse, WindowUse
from fleetops.plan.wording import moment, plain
from fleetops.policy.fields import cap_of
from fleetops.policy.window import ALWAYS, Calendar
from fleetops.simulation.trace import KIND_CODE, OUTCOME_CODE

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from fleetops.model import Steps
    from fleetops.policy import Policy
    from fleetops.policy.waves import Reach
    from fleetops.simulation import Trace

    Integers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

MOST_SLICES: Final = 480
MOST_GROUPS: Final = 200
MOST_WINDOWS: Final = 100

_DISTURBING: Final = [code for kind, code in KIND_CODE.items() if kind.may_have_run]


@dataclass(frozen=True)
class Timeline:
    """A trace by column, with what follows from it."""

    steps: Steps
    trace: Trace

    @cached_property
    def step(self) -> Integers:
        """The step of each send."""
        return np.asarray(self.trace.step, dtype=np.int64)

    @cached_property
    def device(self) -> Integers:
        """The device of each send."""
        return np.asarray(self.steps.device_of, dtype=np.int64)[self.step]

    @cached_property
    def sent_ns(self) -> Integers:
        """When each send left."""
        return np.asarray(self.trace.sent_ns, dtype=np.int64)

    @cached_property
    def answered_ns(self) -> Integers:
        """When each send was answered."""
        return np.asarray(self.trace.answered_ns, dtype=np.int64)

    @cached_property
    def kind(self) -> Integers:
        """What each answer meant, as `KIND_CODE` numbers it."""
        return np.frombuffer(bytes(self.trace.kind), dtype=np.uint8).astype(np.int64)

    @cached_property
    def group_names(self) -> list[str]:
        """The groups, in the order in which the manifest names them; the empty one where some devices have none."""
        return list(dict.fromkeys(self.steps.groups)) if any(self.steps.groups) else []

    @cached_property
    def group_of(self) -> Integers:
        """The group of each device, as `group_names` numbers it."""
        number = {name: at for at, name in enumerate(self.group_names)}
        return np.fromiter((number[name] for name in self.steps.groups), np.int64, len(self.steps.groups))

    @cached_property
    def disturbances(self) -> tuple[Integers, Integers, Integers]:
        """Device, start and end of every stretch in which a device is disturbed; those of one device do not overlap."""
        settle_ns = np.asarray(self.steps.settle_ns_of, dtype=np.int64)[self.step]
        may_have_run = np.isin(self.kind, _DISTURBING)
        end_ns = self.answered_ns + np.where(may_have_run, settle_ns, 0)
        device, start_ns = self.device, self.sent_ns
        if np.bincount(self.step, minlength=1).max() > 1:
            device, start_ns, end_ns = _without_overlaps(device, start_ns, end_ns)
        return device, start_ns, end_ns

    @cached_property
    def settled_ns(self) -> int:
        """When the last device has settled, and the run has ended."""
        return max(self.trace.end_ns, int(self.disturbances[2].max(initial=self.trace.start_ns)))

    @cached_property
    def _disturbed(self) -> tuple[Integers, Integers]:
        """Moments, and how many devices are disturbed from each on."""
        _, start_ns, end_ns = self.disturbances
        # Moments and what happens in one number: whoever ends at a moment makes room for whoever starts.
        moments = np.concatenate((start_ns << 1 | 1, end_ns << 1))
        moments.sort()
        return moments >> 1, np.cumsum((moments & 1) * 2 - 1)

    def peak(self) -> tuple[int, float]:
        """The most devices that are disturbed at once, and when first, in seconds from the start."""
        moments, count = self._disturbed
        if not len(count):
            return 0, 0.0
        at = int(count.argmax())
        return int(count[at]), self._since_start_s(int(moments[at]))

    def _since_start_s(self, at_ns: int) -> float:
        return round((at_ns - self.trace.start_ns) / NS_PER_S, 3)

    def series(self) -> Series:
        """Disturbed devices and answered steps over time."""
        start_ns = self.trace.start_ns
        length_ns = max(self.settled_ns - start_ns, 1)
        slices = int(min(MOST_SLICES, max(length_ns // NS_PER_S, 1)))
        edges = start_ns + np.linspace(0, length_ns, slices + 1).astype(np.int64)
        answered = {}
        codes = np.frombuffer(self.steps.operation_of, dtype=np.uint8)[self.step]
        accepted = self.kind == KIND_CODE[ReplyKind.ACCEPTED]
        for code in np.unique(codes[accepted]):
            counts, _ = np.histogram(self.answered_ns[accepted & (codes == code)], edges)
            answered[OPERATIONS[int(code)].value] = tuple(counts.tolist())
        return Series(
            slice_s=round(length_ns / slices / NS_PER_S, 6), disturbed=self._peaks_between(edges), answered=answered
        )

    def _peaks_between(self, edges: Integers) -> tuple[int, ...]:
        moments, count = self._disturbed
        if not len(count):
            return (0,) * (len(edges) - 1)
        place = np.searchsorted(moments, edges)
        place[-1] = len(moments)
        before = np.concatenate(([0], count))
        return tuple(
            int(max(before[first], count[first:last].max(initial=0))) for first, last in pairwise(place.tolist())
        )

    def waves(self, by_device: bytes, left_out: Collection[int] = frozenset()) -> tuple[WaveUse, ...]:
        """When each wave starts and ends.

        Args:
            by_device: The wave of each device, from 0; empty without waves.
            left_out: Devices that nothing is done on: they are in none.
        """
        if not by_device:
            return ()
        wave_of = np.frombuffer(by_device, dtype=np.uint8)
        takes_part = ~np.isin(np.arange(len(wave_of)), list(left_out))
        sizes = np.bincount(wave_of[takes_part])
        device_of = np.asarray(self.steps.device_of)
        steps_in = np.bincount(wave_of[device_of[takes_part[device_of]]], minlength=len(sizes))
        of_send = wave_of[self.device]
        uses = []
        for wave, size in enumerate(sizes):
            mine = of_send == wave
            began = self._since_start_s(int(self.sent_ns[mine].min())) if mine.any() else None
            ended = self._since_start_s(int(self.answered_ns[mine].max())) if mine.any() else None
            uses.append(
                WaveUse(wave=wave + 1, devices=int(size), steps=int(steps_in[wave]), start_s=began, end_s=ended)
            )
        return tuple(uses)

    def groups(self, cap: Reach | None) -> tuple[tuple[GroupUse, ...], int]:
        """The load of the groups with the largest peaks, and how many groups are left out."""
        if not self.group_names:
            return (), 0
        number = len(self.group_names)
        device, start_ns, end_ns = self.disturbances
        group = self.group_of[device]
        both = np.concatenate((group, group))
        change = np.repeat(np.array([1, -1]), len(group))
        order = np.lexsort((change, np.concatenate((start_ns, end_ns)), both))
        # Every group ends with nobody disturbed, so one running count serves them all.
        count, of_count = np.cumsum(change[order]), both[order]
        peaks, ends = np.zeros(number, np.int64), np.full(number, self.trace.start_ns)
        np.maximum.at(peaks, of_count, count)
        np.maximum.at(ends, group, end_ns)
        sizes = np.bincount(self.group_of, minlength=number)
        steps_in = np.bincount(self.group_of[np.asarray(self.steps.device_of)], minlength=number)
        largest = np.lexsort((np.arange(number), -peaks))[:MOST_GROUPS]
        uses = tuple(
            GroupUse(
                group=plain(self.group_names[at]),
                devices=int(sizes[at]),
                steps=int(steps_in[at]),
                peak=int(peaks[at]),
                cap=None if cap is None or not self.group_names[at] else cap_of(cap, int(sizes[at])),
                end_s=self._since_start_s(int(ends[at])),
            )
            for at in largest
        )
        return uses, number - len(uses)

    def windows(self, policy: Policy) -> tuple[tuple[WindowUse, ...], int]:
        """The openings that the run goes through, and how many are left out."""
        if not policy.window:
            return (), 0
        calendar = Calendar(policy.window, policy.blackout)
        device_of = np.asarray(self.steps.device_of, dtype=np.int64)
        done_ns = self._done_ns()
        uses: list[WindowUse] = []
        left_out, at_ns = 0, self.trace.start_ns
        while at_ns < self.trace.end_ns:
            opening = calendar.next_opening(at_ns)
            if opening is None or opening.start_ns > self.trace.end_ns:
                break
            at_ns = opening.end_ns
            if len(uses) == MOST_WINDOWS:
                left_out += 1
                continue
            sends = (self.sent_ns >= opening.start_ns) & (self.sent_ns < opening.end_ns)
            left = done_ns > opening.end_ns
            uses.append(
                WindowUse(
                    start_at=moment(opening.start_ns),
                    end_at=None if opening.end_ns >= ALWAYS.end_ns else moment(opening.end_ns),
                    opens_s=self._since_start_s(opening.start_ns),
                    closes_s=self._since_start_s(opening.end_ns),
                    sends=int(sends.sum()),
                    left_steps=int(left.sum()),
                    left_devices=len(np.unique(device_of[left])),
                )
            )
        return tuple(uses), left_out

    def _done_ns(self) -> Integers:
        """When each step got its outcome; the end of time where it got none, its beginning where it was skipped."""
        outcomes = np.frombuffer(bytes(self.trace.outcomes), dtype=np.uint8)
        done_ns = np.where(outcomes == OUTCOME_CODE[Outcome.SKIPPED], ALWAYS.start_ns, ALWAYS.end_ns)
        over = outcomes[self.step] > 0
        done_ns[self.step[over]] = self.answered_ns[over]  # of a step that was sent repeatedly, the last answer stays
        return done_ns

    def closed_s(self, policy: Policy) -> float:
        """How much of the run's time no window is open, in seconds."""
        if not policy.window:
            return 0.0
        calendar = Calendar(policy.window, policy.blackout)
        at_ns, end_ns, closed_ns = self.trace.start_ns, self.trace.end_ns, 0
        while at_ns < end_ns:
            opening = calendar.next_opening(at_ns)
            opens_ns = end_ns if opening is None else min(opening.start_ns, end_ns)
            closed_ns += max(0, opens_ns - at_ns)
            at_ns = end_ns if opening is None else opening.end_ns
        return closed_ns / NS_PER_S


def _without_overlaps(device: Integers, start_ns: Integers, end_ns: Integers) -> tuple[Integers, Integers, Integers]:
    """Stretches by device and time, each cut to what the ones before it of its device do not cover."""
    order = np.lexsort((start_ns, device))
    device, start_ns, end_ns = device[order], start_ns[order], end_ns[order]
    same = device[1:] == device[:-1]
    while True:
        # How far the stretches before reach: handed on one stretch at a time, as often as a device has tries.
        reach = np.where(same, np.maximum(end_ns[1:], end_ns[:-1]), end_ns[1:])
        if (reach == end_ns[1:]).all():
            break
        end_ns = np.concatenate((end_ns[:1], reach))
    start_ns = np.concatenate((start_ns[:1], np.where(same, np.maximum(start_ns[1:], end_ns[:-1]), start_ns[1:])))
    keep = start_ns < end_ns
    return device[keep], start_ns[keep], end_ns[keep]
