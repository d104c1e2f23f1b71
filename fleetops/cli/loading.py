"""How a command passes from loading what it needs to its work."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from importlib import import_module


def begin_work(needs: Iterable[str] = ()) -> None:
    """Load what a command needs, and have the collector look for garbage among what is made from now on.

    Where the collector was on all along, as in a program that calls a command by itself, it is left alone.

    Args:
        needs: Modules of fleetops that the command imports first thing, such as `validation`.
    """
    for name in needs:
        import_module(f"fleetops.{name}")
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
