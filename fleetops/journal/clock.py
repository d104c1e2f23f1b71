"""The time a run lives by: the wall clock at its start, then the time since boot, so that it never jumps."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Final

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", None)
_since_boot_ns: Final = time.monotonic_ns if _BOOT_CLOCK is None else partial(time.clock_gettime_ns, _BOOT_CLOCK)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def since_boot_ns() -> int:
    """Nanoseconds since the host started, sleep included where the platform can tell."""
    return _since_boot_ns()


def boot_id() -> str:
    """What identifies this start of the host; empty where the platform does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class RunClock:
    """Nanoseconds since the epoch that pass evenly, whatever is done to the wall clock meanwhile.

    Attributes:
        wall_minus_boot_ns: The wall clock less the time since boot when this clock was made; two clocks of the
            same boot differ by just this.
        boot_id: The start of the host that this clock belongs to.
    """

    def __init__(self) -> None:
        self.boot_id = boot_id()
        self.wall_minus_boot_ns = time.time_ns() - since_boot_ns()

    def now_ns(self) -> int:
        """The time now."""
        return _since_boot_ns() + self.wall_minus_boot_ns

    def shift_ns(self, boot: str, wall_minus_boot_ns: int) -> int:
        """What to add to a time that another clock gave to have it in this clock's terms.

        Zero across boots, where only the wall clock is left to go by.
        """
        if not self.boot_id or boot != self.boot_id:
            return 0
        return self.wall_minus_boot_ns - wall_minus_boot_ns
