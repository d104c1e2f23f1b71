"""A server on loopback that does to each connection just what a script says, byte by byte."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Script = Callable[["Peer"], None]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was read to its end."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        return str(json.loads(self.body)["operation"])

    def reply(self, status: str = "200 OK", *headers: str, **fields: Any) -> bytes:
        """A whole reply, by default the one that accepts this request."""
        return reply(json.dumps({"id": 7, "operation": self.operation, **fields}), status, *headers)


def reply(body: str | bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """A whole reply with a right Content-Length."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Peer:
    """The server's end of one connection.

    Attributes:
        number: Connections before this one.
    """

    def __init__(self, server: ScriptedServer, sock: socket.socket, number: int) -> None:
        self._server = server
        self._buffer = b""
        self.sock = sock
        self.number = number

    def request(self) -> Arrival:
        """Read one whole request; raises ConnectionError where the client closes before it ends."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._receive()
        method, target, _ = first.split(" ")
        arrival = Arrival(method, target, headers, self._buffer[:length])
        self._buffer = self._buffer[length:]
        self._server.arrivals.append(arrival)
        return arrival

    def _receive(self) -> None:
        received = self.sock.recv(65536)
        if not received:
            raise ConnectionError
        self._buffer += received

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def first_byte(self) -> None:
        """Wait until something has arrived, without reading it."""
        self.sock.recv(1, socket.MSG_PEEK)

    def wait_closed(self) -> None:
        """Wait until the client closes, whatever it sends meanwhile."""
        while self.sock.recv(65536):
            pass

    def closed_within(self, wait_s: float) -> bool:
        """Whether the client has closed, or does so soon."""
        readable, _, _ = select.select([self.sock], [], [], wait_s)
        return bool(readable) and not self.sock.recv(65536)

    def reset(self) -> None:
        """Close with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


class ScriptedServer:
    """Runs a script for each connection, in a thread of its own.

    Attributes:
        arrivals: The requests that were read to their end, in order.
        port: Where it listens.
        connections: How many connections were accepted.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        # Accepted sockets inherit it: what a script leaves unread stays with the client, whatever the system allows.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.port: int = self._listener.getsockname()[1]
        self._socks: list[socket.socket] = []
        self._scripts: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._leaving = False
        self.arrivals: list[Arrival] = []
        self.connections = 0

    @property
    def base_url(self) -> str:
        host = "http://127.0.0.1" if self._tls is None else "https://localhost"
        return f"{host}:{self.port}/api/v1"

    @property
    def operations(self) -> Counter[str]:
        """Arrivals by operation."""
        return Counter(arrival.operation for arrival in self.arrivals)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._accepting.join()
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.wait_for_scripts()

    def wait_for_scripts(self) -> None:
        """Wait for the scripts of the connections so far; one that still listens ends where the client closes."""
        for thread in list(self._scripts):
            thread.join(timeout=10)
            assert not thread.is_alive(), "a script hangs"

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._leaving:
                sock.close()
                return
            self._socks.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True)
            self._scripts.append(thread)
            self.connections += 1
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock, contextlib.suppress(OSError):
            if self._tls is None:
                self._script(Peer(self, sock, number))
                return
            with self._tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True) as wrapped:
                self._socks.append(wrapped)
                self._script(Peer(self, wrapped, number))


def accepting(peer: Peer) -> None:
    """Accept every request of the connection."""
    while True:
        peer.send(peer.request().reply())


def answers(make: Callable[[Arrival], bytes]) -> Script:
    """Answer every request of the connection."""

    def script(peer: Peer) -> None:
        while True:
            peer.send(make(peer.request()))

    return script
