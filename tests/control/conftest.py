from __future__ import annotations

import pytest

from fleetops.control.client import TRANSPORT_VARIABLE


@pytest.fixture(params=["httpx", "direct"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the control client send by each of the ways that it has."""
    monkeypatch.setenv(TRANSPORT_VARIABLE, request.param)
