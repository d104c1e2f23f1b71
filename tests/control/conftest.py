from __future__ import annotations

import pytest

from fleetops.control.client import TRANSPORT_VARIABLE
from fleetops.runner.event_loop import LOOP_VARIABLE


@pytest.fixture(params=[("httpx", "asyncio"), ("direct", "asyncio"), ("direct", "uvloop")], ids=" on ".join)
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the control client send by each of the ways that it has, on each event loop where that makes a difference."""
    transport, loop = request.param
    monkeypatch.setenv(TRANSPORT_VARIABLE, transport)
    monkeypatch.setenv(LOOP_VARIABLE, loop)
