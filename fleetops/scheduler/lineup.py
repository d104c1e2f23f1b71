"""Where every device is that is not in flight, and which one is next.

A device is in exactly one place: ready, waiting for a moment (a heap by time: it settles or backs off), in line for a
place in its group, in a later wave, shut out of the present window, or at its end.

The ready ones are served by `Sequences.rank`. Those that a run or a wave begins with are sorted once and then only
taken from one end; a heap has those that come in later, and stays small however many devices there are.
"""

from __future__ import annotations

from array import array
from heapq import heapify, heappop, heappush
from itertools import chain, compress, filterfalse
from operator import not_
from typing import TYPE_CHECKING, Final

from fleetops.model import OUTCOMES, Outcome
from fleetops.policy.waves import assign
from fleetops.scheduler.groups import GroupLoad
from fleetops.scheduler.instructions import Wait, WaitFor
from fleetops.scheduler.openings import Openings
from fleetops.scheduler.rollout import Rollout
from fleetops.scheduler.sequences import DEVICE_BITS, DEVICE_MASK, Sequences

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from fleetops.model import Steps
    from fleetops.policy import Policy
    from fleetops.scheduler.progress import Progress

_SKIPPED: Final = OUTCOMES.index(Outcome.SKIPPED) + 1


def devices_left_out(steps: Steps, outcomes: bytes | bytearray) -> frozenset[int]:
    """The devices that nothing is done on: those whose first step is skipped, which is only done by request.

    Args:
        steps: The campaign's steps.
        outcomes: As `Progress.outcomes`.
    """
    if _SKIPPED not in outcomes:
        return frozenset()
    code_of_first: dict[int, int] = {}
    for device, code in zip(steps.device_of, outcomes, strict=True):
        code_of_first.setdefault(device, code)
    return frozenset(device for device, code in code_of_first.items() if code == _SKIPPED)


class Lineup:
    """The devices of a run, in the order in which they are served.

    Attributes:
        rollout: The waves; None where the policy has none.
        openings: The maintenance windows; None where there are none.
        caps_groups: Whether there are caps on devices of a group that are disturbed at once.
    """

    def __init__(self, steps: Steps, policy: Policy, progress: Progress, *, wave_seed: str, heed_window: bool) -> None:
        self._steps = steps
        self._sequences = Sequences(steps)
        self._first_ready = array("Q")
        self._ready: list[int] = []
        self._timers: list[int] = []
        self._shut_out_ready: list[int] = []
        self._shut_out_timers: list[int] = []
        self._later: list[array[int]] = []
        self._held_back = 0
        self._not_before_ns = progress.not_before_ns
        self._rest_until_ns: dict[int, int] = {}
        self._groups: GroupLoad | None = None
        if policy.group_cap is not None and any(steps.groups):
            self._groups = GroupLoad(steps.groups, policy.group_cap, progress.disturbed_until_ns)
        self.caps_groups = self._groups is not None
        self.openings = Openings(policy) if policy.window and heed_window else None
        if self.openings is not None and progress.opened_ns is not None:
            self.openings.enter(progress.opened_ns)
        self._shortest_settle_ns = min(steps.settle_ns_of, default=0)
        self.rollout: Rollout | None = None
        left_out: frozenset[int] = frozenset()
        if policy.waves is not None:
            left_out = devices_left_out(steps, progress.outcomes)
            from_the_start = left_out.difference(progress.left_out_since)
            wave_of = assign(policy.waves, steps.groups, self._sequences.devices, wave_seed, from_the_start)
            self.rollout = Rollout(wave_of, policy.gate)
        self._take_up(progress, left_out)

    def _take_up(self, progress: Progress, left_out: Collection[int]) -> None:
        sequences, device_of = self._sequences, self._steps.device_of
        outcomes = progress.outcomes
        away = {device_of[sent] for sent in (*progress.lost, *progress.unconfirmed)}
        # Their next step may come sooner than another run's settle time on them is over.
        self._rest_until_ns = {one: due_ns for one, due_ns in progress.not_before_ns.items() if one in away}
        if self._groups is not None:
            self._groups.occupy(away)
        ended, touched = bytearray(sequences.devices), bytearray(sequences.devices)
        if any(outcomes):
            ended, touched = sequences.pass_by(outcomes, progress.unconfirmed)
        for tried in progress.troubles:
            touched[device_of[tried]] = 1
        for device in left_out:
            # That nothing is done on it does not let its wave in.
            touched[device] = 0
        placed: Iterable[int] = range(sequences.devices)
        if away or any(ended):
            elsewhere = ended[:]
            for device in away:
                elsewhere[device] = 1
            placed = compress(placed, map(not_, elsewhere))
        if self.rollout is not None:
            self.rollout.take_up(device_of, outcomes, ended, touched, waived=progress.gate_waived)
            placed = self._hold_back(placed, self.rollout)
        self._let_in(placed)

    def _hold_back(self, devices: Iterable[int], rollout: Rollout) -> Iterable[int]:
        """Keep the devices of later waves back; those of the waves that have been let in."""
        self._later = rollout.by_wave(devices)
        let_in = self._later[: rollout.wave + 1]
        self._later[: rollout.wave + 1] = [array("I") for _ in let_in]
        self._held_back = sum(map(len, self._later))
        return chain.from_iterable(let_in)

    def _let_in(self, devices: Iterable[int]) -> None:
        """Serve devices from now on, or from their moment on where they have one."""
        not_before_ns = self._not_before_ns
        if not_before_ns:
            devices = list(devices)
            for device in filter(not_before_ns.__contains__, devices):
                heappush(self._timers, not_before_ns[device] << DEVICE_BITS | device)
            devices = filterfalse(not_before_ns.__contains__, devices)
        self._make_many_ready(self._sequences.ranks(devices))

    def _make_many_ready(self, ranks: Iterable[int]) -> None:
        ready = array("Q", ranks)
        ready += self._first_ready
        self._first_ready = array("Q", sorted(ready, reverse=True))

    def __bool__(self) -> bool:
        return bool(
            self._first_ready
            or self._ready
            or self._timers
            or self._held_back
            or self._shut_out_ready
            or self._shut_out_timers
            or self._in_line
        )

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
        shut_out = len(self._shut_out_ready) + len(self._shut_out_timers)
        return len(self._first_ready) + len(self._ready) + self._held_back + shut_out + self._in_line

    def wake(self, now_ns: int) -> bool:
        """Make the devices ready whose moment has come; whether a window has opened."""
        openings = self.openings
        opened = openings is not None and not openings.is_open(now_ns) and openings.enter(now_ns)
        if opened:
            self._reopen()
        timers = self._timers
        if timers and timers[0] >> DEVICE_BITS <= now_ns:
            ready, rank, over = self._ready, self._sequences.rank, now_ns + 1 << DEVICE_BITS
            while timers and timers[0] < over:
                heappush(ready, rank(heappop(timers) & DEVICE_MASK))
        if self._groups is not None and (let_go := self._groups.settled(now_ns)):
            self._make_ready(let_go)
        return opened

    def _reopen(self) -> None:
        """What the last window shut out goes on."""
        self._timers += self._shut_out_timers
        heapify(self._timers)
        self._shut_out_timers.clear()
        self._make_many_ready(self._shut_out_ready)
        self._shut_out_ready.clear()

    def _make_ready(self, ranks: Iterable[int]) -> None:
        for rank in ranks:
            heappush(self._ready, rank)

    def take(self, now_ns: int) -> int | None:
        """The step to send now, of the device that is next; None where no device can be sent to."""
        openings, groups, sequences = self.openings, self._groups, self._sequences
        if openings is not None and not openings.fits(now_ns, self._shortest_settle_ns):
            self._shut_all_out()
            return None
        first, ready = self._first_ready, self._ready
        while first or ready:
            rank = first.pop() if first and not (ready and ready[0] < first[-1]) else heappop(ready)
            device = rank & DEVICE_MASK
            step = sequences.order[sequences.cursor[device]]
            if openings is not None and not openings.fits(now_ns, self._steps.settle_ns_of[step]):
                self._shut_out_ready.append(rank)
            elif groups is None or groups.take(device, rank):
                return step
        return None

    def _shut_all_out(self) -> None:
        """No device fits into what is left of the window: none of them has to be looked at."""
        self._shut_out_ready += self._first_ready
        self._shut_out_ready += self._ready
        self._first_ready = array("Q")
        self._ready.clear()

    def next_moment(self) -> Wait | None:
        """When something changes by itself, where no device is ready now; None where nothing does in this window."""
        timers, openings = self._timers, self.openings
        if openings is not None:
            while timers and not openings.fits(timers[0] >> DEVICE_BITS, self._settle_ns(timers[0] & DEVICE_MASK)):
                self._shut_out_timers.append(heappop(timers))
        at_ns, what_for = timers[0] >> DEVICE_BITS if timers else None, WaitFor.DEVICES
        if self._groups is not None:
            release_ns = self._groups.next_release_ns()
            if release_ns is not None and (at_ns is None or release_ns < at_ns):
                at_ns = release_ns
        if self.rollout is not None:
            judge_at_ns = self.rollout.judge_at_ns
            if judge_at_ns is not None and (at_ns is None or judge_at_ns < at_ns):
                at_ns, what_for = judge_at_ns, WaitFor.SOAK
        return None if at_ns is None else Wait(at_ns, what_for)

    def shortest_need_ns(self) -> int:
        """The shortest settle time of the steps that wait for a window."""
        shut_out = chain(self._shut_out_ready, self._shut_out_timers)
        return min((self._settle_ns(one & DEVICE_MASK) for one in shut_out), default=self._shortest_settle_ns)

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
        if self._groups is not None and (let_go := self._groups.landed(device, until_ns, now_ns)):
            self._make_ready(let_go)

    def again(self, device: int, due_ns: int) -> None:
        """Serve the device's current step at `due_ns`."""
        if self._rest_until_ns:
            due_ns = max(due_ns, self._rest_until_ns.get(device, 0))
        heappush(self._timers, due_ns << DEVICE_BITS | device)

    def go_on(self, device: int, due_ns: int, now_ns: int) -> None:
        """Serve the device's next step at `due_ns`, where it has one."""
        if self._sequences.advance(device):
            if self._rest_until_ns:
                due_ns = max(due_ns, self._rest_until_ns.get(device, 0))
            heappush(self._timers, due_ns << DEVICE_BITS | device)
        elif self.rollout is not None:
            self.rollout.ended(device, now_ns)

    def drop_rest(self, device: int, now_ns: int) -> array[int]:
        """End the device's sequence after its current step; the steps that are left out."""
        if self.rollout is not None:
            self.rollout.ended(device, now_ns)
        return self._sequences.drop_rest(device)

    def let_in_next_wave(self, rollout: Rollout) -> str:
        """Let the next wave in; in words."""
        wave = rollout.let_in_next()
        let_in, self._later[wave] = self._later[wave], array("I")
        self._held_back -= len(let_in)
        self._let_in(let_in)
        return f"wave {wave + 1} of {rollout.waves}: {len(let_in)} devices"
