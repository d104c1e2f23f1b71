"""The database's clock, as a process of another host reads it: with an offset, and a bound on how wrong that may be."""

from __future__ import annotations

from typing import Final

from fleetops.journal.clock import RunClock, since_boot_ns
from fleetops.model import NS_PER_S

_DRIFT_PER_S: Final = 100e-6
"""How much two clocks may drift apart: what is known of the offset is worth less and less."""
_STEP_NS: Final = NS_PER_S
"""A change of the offset that no drift explains: the database's clock was set, or it is another server."""


class DatabaseClock(RunClock):
    """Nanoseconds since the epoch by the database's clock; they pass by the time since boot, and never go back.

    Attributes:
        stepped: Whether the database's clock was set meanwhile: times of before mean nothing any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._offset_ns = self.wall_minus_boot_ns
        self._bound_ns: int | None = None
        self._measured_ns = 0
        self._last_ns = 0
        self.stepped = False

    def measured(self, asked_ns: int, at_ns: int, answered_ns: int) -> None:
        """The database read `at_ns` from its clock at some time between two moments since boot."""
        offset_ns = at_ns - (asked_ns + answered_ns) // 2
        bound_ns = (answered_ns - asked_ns) // 2
        if self._bound_ns is not None and abs(offset_ns - self._offset_ns) > _STEP_NS + bound_ns:
            self.stepped = True
            return
        if self._bound_ns is None or bound_ns < self._bound_at(answered_ns):
            self._offset_ns, self._bound_ns, self._measured_ns = offset_ns, bound_ns, answered_ns

    def _bound_at(self, boot_ns: int) -> int:
        return (self._bound_ns or 0) + round((boot_ns - self._measured_ns) * _DRIFT_PER_S)

    @property
    def bound_ns(self) -> int:
        """How far off `now_ns` may be."""
        return self._bound_at(since_boot_ns())

    def now_ns(self) -> int:
        """The time now."""
        self._last_ns = max(self._last_ns, since_boot_ns() + self._offset_ns)
        return self._last_ns
