"""A transport to one origin that writes each request itself, once, and knows whether it has.

It takes httpx's requests, and requests that were never made into httpx's models. A reply is read as a whole, within a
deadline and a length, before anything of it is given out.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
import httpx

from fleetops.control.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterable

    from fleetops.control.parsing import Received

KEEPALIVE_S: Final = 1.5
"""Idle for longer, a connection is replaced. Common servers close theirs after 2 s and more; a request that
crosses with that close would be one that may have run."""

MOST_BODY_BYTES: Final = 16 * 1024 * 1024
"""Of a reply's body, for whoever asks through httpx and has not set another limit."""

_GOODBYE_S: Final = 0.5
_PATIENCE_S: Final = 1.0
"""For an address that does not answer, where the name has another."""
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_LONGEST_TARGET: Final = 65536
_TARGET: Final = re.compile(rb"/[\x21-\x7e]*")
_BODY_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})


def header_block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they go over the wire, without those that say how long a body is.

    Raises:
        httpx.LocalProtocolError: One of them cannot be sent.
    """
    lines = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise httpx.LocalProtocolError(f"illegal header {name!r}")
        if name.lower() not in {b"content-length", b"transfer-encoding"}:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


class Timeouts(NamedTuple):
    """How long each part of a request may take, in seconds; None for ever.

    Attributes:
        pool: To get a free connection.
        connect: To resolve, connect and agree on TLS.
        read: From the first byte sent to the whole reply, however slowly it drips.
    """

    pool: float | None
    connect: float | None
    read: float | None


_DEFAULT_TIMEOUTS: Final = Timeouts(10.0, 10.0, 30.0)


class DirectTransport(httpx.AsyncBaseTransport):
    """A transport of at most `size` connections to the origin of `base_url`, on asyncio.

    Raises, before anything was sent, `httpx.ConnectError`, `httpx.ConnectTimeout`, `httpx.PoolTimeout`,
    `httpx.UnsupportedProtocol` or `httpx.LocalProtocolError`; once something may have been sent, `httpx.WriteError`,
    `httpx.ReadError`, `httpx.ReadTimeout` or `httpx.RemoteProtocolError`. It never sends a request again. A request
    that is cancelled closes its connection.

    Args:
        base_url: Its scheme, host and port say where to.
        size: How many connections there are at most.
        ssl_context: For `https`.
        timeouts: Where a request has none of its own.
    """

    def __init__(
        self,
        base_url: str,
        size: int,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    ) -> None:
        url = httpx.URL(base_url)
        self._origin = _origin(url)
        self._ssl = (ssl_context or httpx.create_ssl_context()) if url.scheme == "https" else None
        self._timeouts = timeouts
        self._idle: list[Wire] = []
        self._open: set[Wire] = set()
        self._answered: Any = None
        self._all_gone = asyncio.Event()
        self._free = anyio.Semaphore(size, max_value=size, fast_acquire=True)
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one of httpx's requests; the reply's body has been read, or has failed, when it is given out."""
        if _origin(request.url) != self._origin:
            raise httpx.UnsupportedProtocol("this transport is for another origin", request=request)
        own = request.extensions.get("timeout", {})
        received = await self.exchange(
            request.method,
            request.url.raw_path,
            header_block(request.headers.raw),
            await request.aread() or None,
            timeouts=self._timeouts._replace(**{name: own[name] for name in Timeouts._fields if name in own}),
        )
        return httpx.Response(received.status, headers=received.headers, stream=_Body(received), request=request)

    async def exchange(
        self,
        method: str,
        target: bytes,
        headers: bytes,
        body: bytes | None,
        *,
        most_bytes: int = MOST_BODY_BYTES,
        timeouts: Timeouts | None = None,
    ) -> Received:
        """Send one request and read its reply.

        Args:
            method: The method.
            target: Path and query, percent-encoded.
            headers: As `header_block` makes them, with the `Host`.
            body: What to send.
            most_bytes: Of the reply's body; the connection is closed rather than read further.
            timeouts: Others than the transport's.
        """
        request = request_line(method, target) + request_tail(method, headers, body)
        return await self.carry(request, most_bytes=most_bytes, no_body=method == "HEAD", timeouts=timeouts)

    async def carry(
        self, request: bytes, *, most_bytes: int, no_body: bool = False, timeouts: Timeouts | None = None
    ) -> Received:
        """As `exchange`, for a request as `request_line` and `request_tail` make it.

        Args:
            request: All of it.
            most_bytes: Of the reply's body.
            no_body: Whether the reply has none, whatever its headers say.
            timeouts: Others than the transport's.
        """
        pool_s, connect_s, read_s = timeouts or self._timeouts
        if self._closed:
            raise httpx.ConnectError("the client is closed")
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            await self._acquire(pool_s)
        try:
            wire = self._take() or await self._connect(connect_s)
            received = await wire.ask(request, timeout_s=read_s, most_bytes=most_bytes, no_body=no_body)
            if wire.usable and not self._closed:
                self._idle.append(wire)
            elif received.error is None:
                wire.close()
            else:
                wire.abort()
            return received
        finally:
            self._free.release()

    async def aclose(self) -> None:
        """Close what is idle now, and the rest as its replies end."""
        self._closed = True
        for wire in self._idle:
            wire.close()
        self._idle.clear()
        self._all_gone.clear()
        if self._open:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_GOODBYE_S):
                await self._all_gone.wait()
        for wire in list(self._open):
            if not wire.busy:
                wire.abort()

    async def _acquire(self, timeout_s: float | None) -> None:
        try:
            with anyio.fail_after(timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"no connection became free within {timeout_s:g} s") from None

    def _take(self) -> Wire | None:
        """The connection that was used last, where it can carry another request."""
        while self._idle:
            wire = self._idle.pop()
            if wire.usable and wire.idle_s() < KEEPALIVE_S and wire.quiet():
                return wire
            wire.close()
        return None

    async def _connect(self, timeout_s: float | None) -> Wire:
        """A new connection, with TLS agreed on where there is any."""
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                sock = await self._connected_socket()
                options: dict[str, Any] = {}
                if self._ssl is not None:
                    host = self._origin[1].decode("ascii")
                    options = {"ssl": self._ssl, "server_hostname": host, "ssl_shutdown_timeout": _GOODBYE_S}
                loop = asyncio.get_running_loop()
                _, wire = await loop.create_connection(lambda: Wire(self._gone), sock=sock, **options)
        except (OSError, UnicodeError) as error:
            if deadline.expired():
                raise httpx.ConnectTimeout(f"not within {timeout_s:g} s") from None
            raise httpx.ConnectError(str(error)) from error
        self._open.add(wire)
        return wire

    async def _connected_socket(self) -> socket.socket:
        """A socket to the first of the host's addresses that answers; the one that did last is tried first."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._origin[1].decode("ascii"), self._origin[2], type=socket.SOCK_STREAM)
        addresses = [(family, address) for family, _, _, _, address in found]
        addresses.sort(key=lambda address: address != self._answered)
        for position, (family, address) in enumerate(addresses, start=1):
            patience_s = None if position == len(addresses) else _PATIENCE_S
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(patience_s):
                    await loop.sock_connect(sock, address)
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError) or position == len(addresses):
                    raise
            else:
                self._answered = (family, address)
                return sock
        raise OSError("the name has no address")

    def _gone(self, wire: Wire) -> None:
        self._open.discard(wire)
        if not self._open:
            self._all_gone.set()


class _Body(httpx.AsyncByteStream):
    """A body that has been read already, and the error that ended it, if one did."""

    def __init__(self, received: Received) -> None:
        self._received = received

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._received.body:
            yield self._received.body
        if self._received.error is not None:
            raise self._received.error


def _origin(url: httpx.URL) -> tuple[bytes, bytes, int]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    return url.raw_scheme, url.raw_host, port


def request_line(method: str, target: bytes) -> bytes:
    """The first line of a request.

    Raises:
        httpx.LocalProtocolError: It cannot be sent.
    """
    if len(target) > _LONGEST_TARGET:
        raise httpx.LocalProtocolError("the URL is too long")
    if not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("illegal characters in the URL")
    return b"%b %b HTTP/1.1\r\n" % (method.encode(), target)


def request_tail(method: str, headers: bytes, body: bytes | None) -> bytes:
    """What follows the first line of a request: its headers and its body.

    Raises:
        httpx.LocalProtocolError: It cannot be sent.
    """
    if not _TOKEN.fullmatch(method.encode()) or method == "CONNECT":
        raise httpx.LocalProtocolError(f"no request can be made with the method {method!r}")
    if body is None and method not in _BODY_EXPECTED:
        return headers + b"\r\n"
    content = body or b""
    return b"%bContent-Length: %d\r\n\r\n%b" % (headers, len(content), content)
