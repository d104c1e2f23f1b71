"""The control plane over HTTP: one PUT for one operation on one device."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fleetops.control.base_url import path_segment
from fleetops.control.client import ControlClient, NoAnswer
from fleetops.control.inventory import HttpInventory
from fleetops.control.replies import classify
from fleetops.model import Operation, Reason, Reply, ReplyKind

if TYPE_CHECKING:
    import httpx

    from fleetops.control.client import Answer, ClientSettings

_MOST_BYTES: Final = 64 * 1024
"""Of a reply's body. The answer itself has about 40."""

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
        return self._lost(answer) if isinstance(answer, NoAnswer) else self._answered(answer, operation)

    def inventory(self) -> HttpInventory:
        """The inventory of the same service, over the same connections."""
        return HttpInventory(self._client)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _lost(self, lack: NoAnswer) -> Reply:
        kind = ReplyKind.MAYBE if lack.reached else ReplyKind.NOT_REACHED
        return Reply(kind, lack.reason, detail=lack.detail)

    def _answered(self, answer: Answer, operation: Operation) -> Reply:
        if answer.timed_out and answer.status // 100 == 2:  # noqa: PLR2004 - the 2xx
            detail = "the time was up in the middle of the reply"
            return Reply(ReplyKind.MAYBE, Reason.READ_TIMEOUT, answer.status, detail=detail)
        return classify(
            answer.status,
            answer.headers,
            answer.body,
            complete=answer.complete,
            asked=operation,
            now=datetime.now(UTC),
            redact=self._client.redact,
        )
