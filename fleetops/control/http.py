"""The control plane over HTTP: one PUT for one operation on one device."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fleetops.control.base_url import path_segment
from fleetops.control.client import ControlClient, NoAnswer
from fleetops.control.inventory import HttpInventory
from fleetops.control.replies import classify
from fleetops.model import Operation, Reply, ReplyKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from fleetops.control.client import ClientSettings

_MOST_BYTES: Final = 64 * 1024
"""Of a reply's body. The answer itself has about 40."""

_OK: Final = 200
_CONTENT: Final = {operation: json.dumps({"operation": operation.value}).encode() for operation in Operation}


class HttpControlPlane:
    """A `ControlPlane` that speaks the service's HTTP API.

    A request is put on the wire at most once: nothing here or below repeats it.

    Args:
        settings: How the service is reached.
        transport: What carries the requests instead of connections to the base URL.

    Raises:
        UsageError: The settings or the environment's proxy cannot be used.
    """

    def __init__(self, settings: ClientSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = ControlClient(settings, transport=transport)
        self._url = f"{self._client.base_url}/inventory_device_serial_operation/"

    async def execute(self, serial: str, operation: Operation) -> Reply:
        """As `ControlPlane.execute`."""
        url = f"{self._url}{path_segment(serial)}/"
        answer = await self._client.exchange("PUT", url, content=_CONTENT[operation], most_bytes=_MOST_BYTES)
        if isinstance(answer, NoAnswer):
            kind = ReplyKind.MAYBE if answer.reached else ReplyKind.NOT_REACHED
            return Reply(kind, answer.reason, detail=answer.detail)
        return classify(
            answer.status,
            answer.headers,
            answer.body,
            cut=answer.cut,
            asked=operation,
            now=None if answer.status == _OK else datetime.now(UTC),
            redact=self._client.redact,
        )

    def inventory(self, pace: Callable[[], Awaitable[None]] | None = None) -> HttpInventory:
        """The inventory of the same service, over the same connections.

        Args:
            pace: Waited for before each read, where reads share a rate with sends.
        """
        return HttpInventory(self._client, pace=pace)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
