from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from fleetops.sandbox import Sandbox, SandboxConfig, sandbox_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

FIRST = "ZQ000000001"
DEVICES = 50


class Service:
    """A sandbox, and a client that has its token."""

    def __init__(self, base_url: str, sandbox: Sandbox, client: httpx.Client) -> None:
        self.url = base_url
        self.root = base_url.removesuffix("/api/v1")
        self.sandbox = sandbox
        self.client = client

    def operation_url(self, serial: str = FIRST) -> str:
        return f"{self.url}/inventory_device_serial_operation/{serial}/"

    def put(self, serial: str = FIRST, operation: str = "reboot") -> httpx.Response:
        return self.client.put(self.operation_url(serial), json={"operation": operation})

    def inventory(self, rest: str = "") -> httpx.Response:
        return self.client.get(f"{self.url}/inventory_device_serial/{rest}")

    def page(self, query: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.inventory(query).json()
        return found

    def device(self, serial: str = FIRST) -> dict[str, Any]:
        return self.page(f"{serial}/")


@contextmanager
def _serve(**settings: Any) -> Iterator[Service]:
    with (
        sandbox_thread(SandboxConfig(**{"devices": DEVICES, **settings})) as (base_url, sandbox),
        # Plain HTTP: certificates that are not loaded save a third of a second.
        httpx.Client(headers={"Authorization": "Bearer sandbox-token"}, timeout=5, verify=False) as client,
    ):
        yield Service(base_url, sandbox, client)


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[Service]]:
    """A sandbox of one's own, by its settings."""
    return _serve


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    with _serve() as service:
        yield service


@pytest.fixture
def service(shared: Service) -> Service:
    """A sandbox as at its start; the server is the same for a whole file."""
    assert shared.client.post(f"{shared.root}/sandbox/reset").status_code == 200
    shared.client.timeout = httpx.Timeout(5)
    return shared
