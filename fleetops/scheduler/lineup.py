"""Where every device is that is not in flight, and which one is next.

A device is in exactly one place: ready (a heap by `Sequences.rank`), waiting for a moment (a heap by time: it settles
or backs off), in line for a place in its group, in a later wave, shut out of the present window, or at its end.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from fleetops.policy.waves import assign
from fleetops.scheduler.groups import GroupLoad
from fleetops.scheduler.instructions import WaitFor
from fleetops.scheduler.openings import Openings
from fleetops.scheduler.rollout import Rollout
from fleetops.scheduler.sequences import Sequences

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    from fleetops.model import Outcome, Steps
    from fleetops.policy import Policy
    from fleetops.scheduler.progress import Progress


class Lineup:
    """The devices of a run, in the order in which they are served.

    Attributes:
        rollout: The waves; None where the policy has none.
        openings: The maintenance windows; None where there are none.
    """

    def __init__(self, steps: Steps, policy: Policy, progress: Progress, *, wave_seed: str, heed_window: bool) -> None:
        self._steps = steps
        self._sequences = Sequences(steps)
        self._ready: list[int] = []
        self._timers: list[tuple[int, int]] = []
        self._shut_out: list[tuple[int, int]] = []
        self._later: list[tuple[int, int]] = []
        self._rest_until_ns: dict[int, int] = {}
        self._groups: GroupLoad | None = None
        if policy.group_cap is not None and any(steps.groups):
            self._groups = GroupLoad(steps.groups, policy.group_cap, progress.disturbed_until_ns)
        self.openings = Openings(policy) if policy.window and heed_window else None
        self.rollout: Rollout | None = None
        if policy.waves is not None:
            wave_of = assign(policy.waves, steps.groups, self._sequences.devices, wave_seed)
            self.rollout = Rollout(wave_of, policy.gate)
        self._take_up(progress)

    def _take_up(self, progress: Progress) -> None:
        sequences, device_of = self._sequences, self._steps.device_of
        outcomes = progress.outcomes or bytes(len(self._steps))
        away = {device_of[sent] for sent in (*progress.lost, *progress.unconfirmed)}
        # Their next step may come sooner than another run's settle time on them is over.
        self._rest_until_ns = {one: due_ns for one, due_ns in progress.not_before_ns.items() if one in away}
        if self._groups is not None:
            self._groups.occupy(away)
        ended, touched = bytearray(sequences.devices), bytearray(sequences.devices)
        for tried in progress.troubles:
            touched[device_of[tried]] = 1
        placed: list[tuple[int, int]] = []
        for device in range(sequences.devices):
            step = sequences.current(device)
            while step is not None and outcomes[step] and step not in progress.unconfirmed:
                touched[device] = 1
                sequences.advance(device)
                step = sequences.current(device)
            ended[device] = step is None
            if step is not None and device not in away:
                placed.append((device, progress.not_before_ns.get(device, 0)))
        if self.rollout is not None:
            self.rollout.take_up(device_of, outcomes, ended, touched, waived=progress.gate_waived)
            self._later = [entry for entry in placed if not self.rollout.is_in(entry[0])]
            placed = [entry for entry in placed if self.rollout.is_in(entry[0])]
        self._ready = [sequences.rank(device) for device, due_ns in placed if not due_ns]
        self._timers = [(due_ns, device) for device, due_ns in placed if due_ns]
        heapify(self._ready)
        heapify(self._timers)

    def __bool__(self) -> bool:
        return bool(self._ready or self._timers or self._later or self._shut_out or self._in_line)

    @property
    def _in_line(self) -> int:
        return 0 if self._groups is None else self._groups.waiting

    @property
    def resting(self) -> int:
        """Devices that settle or back off."""
        return len(self._timers)

    @property
    def ready(self) -> int:
        """Devices that wait for nothing of their own: for a slot, their wave, their group or the window."""
        return len(self._ready) + len(self._later) + len(self._shut_out) + self._in_line

    def wake(self, now_ns: int) -> bool:
        """Make the devices ready whose moment has come; whether a window has opened."""
        opened = self.openings is not None and not self.openings.is_open(now_ns) and self.openings.enter(now_ns)
        if opened:
            self._timers += self._shut_out
            heapify(self._timers)
            self._shut_out.clear()
        timers = self._timers
        while timers and timers[0][0] <= now_ns:
            heappush(self._ready, self._sequences.rank(heappop(timers)[1]))
        if self._groups is not None:
            self._make_ready(self._groups.settled(now_ns))
        return opened

    def _make_ready(self, ranks: Iterable[int]) -> None:
        for rank in ranks:
            heappush(self._ready, rank)

    def take(self, now_ns: int) -> int | None:
        """The step to send now, of the device that is next; None where no device can be sent to."""
        ready, steps, openings = self._ready, self._steps, self.openings
        while ready:
            rank = heappop(ready)
            device = Sequences.device_of_rank(rank)
            step = self._sequences.current(device)
            assert step is not None, "a ready device has a step"  # noqa: S101 - an invariant of this class
            if openings is not None and not openings.fits(now_ns, steps.settle_ns_of[step]):
                self._shut_out.append((now_ns, device))
            elif self._groups is None or self._groups.take(device, rank):
                return step
        return None

    def next_moment(self) -> tuple[int, WaitFor] | None:
        """When something changes by itself, where no device is ready now; None where nothing does in this window."""
        timers, openings = self._timers, self.openings
        if openings is not None:
            while timers and not openings.fits(timers[0][0], self._settle_ns(timers[0][1])):
                self._shut_out.append(heappop(timers))
        moments = [(timers[0][0], WaitFor.DEVICES)] if timers else []
        if self._groups is not None and (release_ns := self._groups.next_release_ns()) is not None:
            moments.append((release_ns, WaitFor.DEVICES))
        if self.rollout is not None and self.rollout.judge_at_ns is not None:
            moments.append((self.rollout.judge_at_ns, WaitFor.SOAK))
        return min(moments, default=None)

    def shortest_need_ns(self) -> int:
        """The shortest settle time of the steps that wait for a window."""
        return min((self._settle_ns(device) for _, device in self._shut_out), default=min(self._steps.settle_ns_of))

    def _settle_ns(self, device: int) -> int:
        """The settle time after the device's current step."""
        step = self._sequences.current(device)
        return 0 if step is None else self._steps.settle_ns_of[step]

    def give_back(self, device: int) -> None:
        """The device was not sent to after all."""
        heappush(self._ready, self._sequences.rank(device))
        self.landed(device, 0, 0)

    def landed(self, device: int, until_ns: int, now_ns: int) -> None:
        """A request to the device is over; until when that disturbs the device, 0 where it does not."""
        if self._groups is not None:
            self._make_ready(self._groups.landed(device, until_ns, now_ns))

    def again(self, device: int, due_ns: int) -> None:
        """Serve the device's current step at `due_ns`."""
        heappush(self._timers, (max(due_ns, self._rest_until_ns.get(device, 0)), device))

    def go_on(self, device: int, due_ns: int, now_ns: int) -> None:
        """Serve the device's next step at `due_ns`, where it has one."""
        if self._sequences.advance(device):
            heappush(self._timers, (max(due_ns, self._rest_until_ns.get(device, 0)), device))
        elif self.rollout is not None:
            self.rollout.ended(device, now_ns)

    def drop_rest(self, device: int, now_ns: int) -> array[int]:
        """End the device's sequence after its current step; the steps that are left out."""
        if self.rollout is not None:
            self.rollout.ended(device, now_ns)
        return self._sequences.drop_rest(device)

    def count(self, step: int, outcome: Outcome) -> None:
        """A step has its outcome; a wave's gate is judged by it."""
        if self.rollout is not None:
            self.rollout.count(self._steps.device_of[step], outcome)

    def let_in_next_wave(self, rollout: Rollout) -> str:
        """Let the next wave in; in words."""
        wave = rollout.let_in_next()
        let_in = [entry for entry in self._later if rollout.is_in(entry[0])]
        self._later = [entry for entry in self._later if not rollout.is_in(entry[0])]
        for device, due_ns in let_in:
            heappush(self._timers, (due_ns, device))
        return f"wave {wave + 1} of {rollout.waves}: {len(let_in)} devices"
