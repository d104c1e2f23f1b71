"""The server's connections, for the faults that happen below HTTP."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_KEY: Final = "fleetops.sandbox.connection"


class Connection:
    """The connection on which a request came."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    @classmethod
    def of(cls, scope: Any) -> Connection:
        """The connection of a request, by its ASGI scope."""
        connection: Connection = scope[_KEY]
        return connection

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._transport.write(data)

    def close(self) -> None:
        """Close it, once what was written has left."""
        self._transport.close()

    def reset(self) -> None:
        """Reset it."""
        if not self._transport.is_closing():
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._transport.abort()


class Protocol(H11Protocol):
    """Uvicorn's protocol, with its connection in the scope of every request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own type
        """Remember the connection."""
        super().connection_made(transport)
        app: Any = self.app
        connection = Connection(transport)

        async def with_connection(scope: Any, receive: Any, send: Any) -> None:
            scope[_KEY] = connection
            await app(scope, receive, send)

        self.app = with_connection
