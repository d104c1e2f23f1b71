"""The event loop of a run: uvloop's where it is installed, which takes less of the processor for a request."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import anyio

from fleetops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Unpack

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

LOOP_VARIABLE: Final = "FLEETOPS_EVENT_LOOP"
"""`asyncio` or `uvloop` in this environment variable chooses the event loop."""


def run_in_loop(function: Callable[[Unpack[Args]], Awaitable[Result]], *args: *Args) -> Result:
    """Call an async function in an event loop of its own, and return what it returns.

    Raises:
        UsageError: The environment asks for a loop that there is not.
    """
    return anyio.run(function, *args, backend="asyncio", backend_options={"use_uvloop": is_uvloop_wanted()})


def is_uvloop_wanted() -> bool:
    """Whether the environment asks for uvloop's loop, or has it and asks for none.

    Raises:
        UsageError: The environment asks for a loop that there is not.
    """
    wanted = os.environ.get(LOOP_VARIABLE, "")
    installed = find_spec("uvloop") is not None
    if wanted not in {"", "asyncio", "uvloop"} or (wanted == "uvloop" and not installed):
        raise UsageError(
            f"there is no event loop {wanted[:40]!r} for {LOOP_VARIABLE}",
            hint="uvloop comes with `pip install 'fleetops[fast]'`; asyncio is always there",
        )
    return installed and wanted != "asyncio"
