"""The server's connections, for the faults that happen below HTTP."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

_LINGER_NOT: bytes = struct.pack("ii", 1, 0)


class Connections:
    """The connections that are open, by the address at the other end."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """Uvicorn's protocol, made to tell of its connections."""
        opened = self._open

        class Told(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own type
                super().connection_made(transport)
                opened[transport.get_extra_info("peername")[:2]] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                opened.pop(self.transport.get_extra_info("peername")[:2], None)
                super().connection_lost(exc)

        return Told

    def write(self, scope: Any, data: bytes) -> None:
        """Put bytes on a request's connection as they are."""
        transport = self._open.get(tuple(scope["client"]))
        if transport is not None:
            transport.write(data)

    def close(self, scope: Any) -> None:
        """Close a request's connection, once what was written has left."""
        transport = self._open.get(tuple(scope["client"]))
        if transport is not None:
            transport.close()

    def reset(self, scope: Any) -> None:
        """Reset a request's connection."""
        transport = self._open.get(tuple(scope["client"]))
        if transport is not None:
            raw: socket.socket = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()
