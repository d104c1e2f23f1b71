from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Result = TypeVar("Result")


class _NoWait(selectors.DefaultSelector):
    """Passes the time that it is told to wait at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # A little even where there is nothing to wait for: a timer may be due in less than a float can tell.
        self.now_s += max(1e-9, timeout or 0.0)
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _NoWait()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now_s


class VirtualTime:
    """An event loop on which sleeping takes no time, and its clock."""

    def __init__(self) -> None:
        self._loop = _VirtualLoop()

    def now_ns(self) -> int:
        return round(self._loop.time() * NS_PER_S)

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        try:
            return self._loop.run_until_complete(main())
        finally:
            self._loop.close()


@pytest.fixture
def virtual_time() -> VirtualTime:
    return VirtualTime()
