"""Wave by wave: which devices are let in, and what a wave has to show before the next one is."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from fleetops.model import GOOD, OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleetops.policy.waves import Gate, Verdict


class Rollout:
    """The waves of a run.

    Attributes:
        wave: The last wave that was let in, from 0.
        waves: How many there are.
        judge_at_ns: When the wave that is done has soaked and is to be judged; None while it is not done.
    """

    def __init__(self, wave_of: bytes, gate: Gate) -> None:
        self._wave_of = wave_of
        self._gate = gate
        self.waves = max(wave_of, default=0) + 1
        self.wave = 0
        self.judge_at_ns: int | None = None
        self._left = [0] * self.waves
        self._counts = [[0, 0, 0] for _ in range(self.waves)]

    def by_wave(self, devices: Iterable[int]) -> list[array[int]]:
        """Devices wave by wave, in the order in which they are given."""
        waves = [array("I") for _ in range(self.waves)]
        wave_of = self._wave_of
        for device in devices:
            waves[wave_of[device]].append(device)
        return waves

    def take_up(
        self,
        device_of: Sequence[int],
        outcomes: bytes | bytearray,
        ended: bytearray,
        touched: bytearray,
        *,
        waived: bool,
    ) -> None:
        """Go on where earlier processes left off.

        Args:
            device_of: Device by step.
            outcomes: As `Progress.outcomes`.
            ended: By device, 1 where it has no step left.
            touched: By device, 1 where something was sent to it or decided about it.
            waived: Whether the operator lets the next wave in, whatever the last one showed.
        """
        for device, wave in enumerate(self._wave_of):
            self._left[wave] += not ended[device]
            if touched[device]:
                self.wave = max(self.wave, wave)
        if any(outcomes):
            for step, code in enumerate(outcomes):
                if code:
                    self.count(device_of[step], OUTCOMES[code - 1])
        while self.wave < self.waves - 1 and not self._left[self.wave]:
            if not waived:
                # How much of the soak is over is not known, so it is kept in full.
                self.judge_at_ns = -1
                return
            self.wave += 1

    def count(self, device: int, outcome: Outcome) -> None:
        """A step of the device has its outcome."""
        counts = self._counts[self._wave_of[device]]
        if outcome in GOOD:
            counts[0] += 1
        elif outcome is Outcome.FAILED:
            counts[1] += 1
        elif outcome is Outcome.UNKNOWN:
            counts[2] += 1

    def was_not_confirmed(self, device: int) -> None:
        """An accepted step of the device was not confirmed: to a gate it is unknown how the device is."""
        counts = self._counts[self._wave_of[device]]
        counts[0] -= 1
        counts[2] += 1

    def ended(self, device: int, now_ns: int) -> None:
        """The device has no step left."""
        wave = self._wave_of[device]
        self._left[wave] -= 1
        if wave == self.wave and not self._left[wave] and wave < self.waves - 1:
            self.judge_at_ns = now_ns + self._gate.soak_ns

    def judge(self, now_ns: int) -> Verdict | None:
        """The verdict on the wave that is done, None while it still soaks."""
        if self.judge_at_ns is None:
            return None
        if self.judge_at_ns < 0:
            self.judge_at_ns = now_ns + self._gate.soak_ns
        if now_ns < self.judge_at_ns:
            return None
        return self._gate.verdict(*self._counts[self.wave])

    def explain(self) -> str:
        """The figures behind the verdict."""
        return f"wave {self.wave + 1} of {self.waves}: {self._gate.explain(*self._counts[self.wave])}"

    def let_in_next(self) -> int:
        """Let the next wave in; its number. A wave of which nothing is left is done at once."""
        self.wave += 1
        self.judge_at_ns = None
        if not self._left[self.wave] and self.wave < self.waves - 1:
            self.judge_at_ns = -1
        return self.wave
