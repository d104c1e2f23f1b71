"""Connections to one origin, one request on each at a time.

httpcore's pool looks through all of its connections at every request and every reply. Here a free connection is
on top of a stack, so that taking one and putting it back cost the same however many there are.

A request is written once. Nothing here repeats one, and a connection carries another request only where the reply
before it ended cleanly and nothing has arrived since: a second reply left over in a buffer would otherwise be taken for
the answer to the next request.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import anyio
import httpcore
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

KEEPALIVE_S: Final = 1.5
"""Idle for longer, a connection is replaced. Common servers close theirs after 2 s and more; a request that
crosses with that close would be one that may have run."""

_HTTPCORE_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


class Connection(Protocol):
    """The part of `httpcore.AsyncConnectionInterface` that is used here."""

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Connect where that is still to do, send the request and read the reply's headers."""

    def is_available(self) -> bool:
        """Whether the last reply ended so that another request can follow."""

    def has_expired(self) -> bool:
        """Whether it was idle for too long, or something has arrived on it since."""

    async def aclose(self) -> None:
        """Close the socket."""


class _Idle(NamedTuple):
    connection: Connection
    stream: httpcore.AsyncNetworkStream


def connections_to(
    base_url: str, *, ssl_context: ssl.SSLContext | None, proxy: httpx.Proxy | None = None
) -> Callable[[], Connection]:
    """What makes a connection, not yet opened, to the origin of a URL, through a proxy's tunnel where one is given."""
    url = httpx.URL(base_url)
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    origin = httpcore.Origin(url.raw_scheme, url.raw_host, port)
    if proxy is None:
        return lambda: httpcore.AsyncHTTPConnection(
            origin, ssl_context=ssl_context, keepalive_expiry=KEEPALIVE_S, retries=0
        )
    through = httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(
            scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
        ),
        proxy_auth=proxy.raw_auth,
        proxy_headers=proxy.headers.raw,
        ssl_context=ssl_context,
        proxy_ssl_context=ssl_context if proxy.url.scheme == "https" else None,
        keepalive_expiry=KEEPALIVE_S,
    )
    return lambda: through.create_connection(origin)


class OneConnectionEach(httpx.AsyncBaseTransport):
    """A transport of at most `size` connections, each with one request at a time.

    Raises what httpx's own transport raises; `httpx.PoolTimeout` where no connection became free within the
    request's pool timeout.

    Args:
        connect: Makes a connection.
        size: How many there are at most.
    """

    def __init__(self, connect: Callable[[], Connection], size: int) -> None:
        self._connect = connect
        self._idle: list[_Idle] = []
        self._free = anyio.Semaphore(size, max_value=size, fast_acquire=True)
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the connection is in use until the response is closed."""
        await self._acquire(request)
        connection: Connection | None = None
        try:
            connection = await self._take()
            trace = _TlsGuard(request.extensions.get("trace"))
            with _as_httpx():
                response = await connection.handle_async_request(
                    httpcore.Request(
                        method=request.method,
                        url=httpcore.URL(
                            scheme=request.url.raw_scheme,
                            host=request.url.raw_host,
                            port=request.url.port,
                            target=request.url.raw_path,
                        ),
                        headers=request.headers.raw,
                        content=request.stream,
                        extensions={**request.extensions, "trace": trace},
                    )
                )
        except BaseException:
            await self._discard(connection)
            raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(self, connection, response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close what is idle now, and the rest as its replies end."""
        self._closed = True
        idle, self._idle = self._idle, []
        with anyio.CancelScope(shield=True):
            for connection, _ in idle:
                await connection.aclose()

    async def _acquire(self, request: httpx.Request) -> None:
        if self._closed:
            raise httpx.ConnectError("the client is closed", request=request)
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            timeout_s = request.extensions.get("timeout", {}).get("pool")
            try:
                with anyio.fail_after(timeout_s):
                    await self._free.acquire()
            except TimeoutError:
                raise httpx.PoolTimeout(f"no connection became free within {timeout_s:g} s") from None

    async def _take(self) -> Connection:
        """The connection that was used last, where it can carry another request, else a new one."""
        while self._idle:
            idle = self._idle.pop()
            if not idle.connection.has_expired() and _nothing_left_over(idle):
                return idle.connection
            with anyio.CancelScope(shield=True):
                await idle.connection.aclose()
        return self._connect()

    async def _discard(self, connection: Connection | None) -> None:
        try:
            with anyio.CancelScope(shield=True):
                if connection is not None:
                    await connection.aclose()
        finally:
            self._free.release()

    async def put_back(self, connection: Connection, response: httpcore.Response) -> None:
        """End the reply: the connection becomes idle where it was read to its end, else it is closed."""
        try:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        except BaseException:
            await self._discard(connection)
            raise
        if self._closed or not connection.is_available():
            await self._discard(connection)
        else:
            self._idle.append(_Idle(connection, response.extensions["network_stream"]))
            self._free.release()


class _Body(httpx.AsyncByteStream):
    """A reply's body, which gives the connection back when it is closed."""

    def __init__(self, transport: OneConnectionEach, connection: Connection, response: httpcore.Response) -> None:
        self._transport = transport
        self._connection = connection
        self._response = response
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for chunk in self._response.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._transport.put_back(self._connection, self._response)


class _TlsGuard:
    """A trace that closes the socket of a TLS handshake that did not come to its end.

    httpcore closes it after an error; after a cancellation it would stay open until it is collected.
    """

    def __init__(self, after: Callable[[str, dict[str, Any]], Awaitable[None]] | None) -> None:
        self._after = after
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        elif event == "connection.start_tls.failed" and self._stream is not None:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
        if self._after is not None:
            await self._after(event, info)


def _nothing_left_over(idle: _Idle) -> bool:
    """Whether nothing has been received beyond the last reply. `has_expired` has looked at the socket itself."""
    http11: Any = idle.connection
    while not hasattr(http11, "_h11_state"):
        http11 = getattr(http11, "_connection", None)
        if http11 is None:
            return False
    received, closed = http11._h11_state.trailing_data  # noqa: SLF001 - nothing public tells, and a wrong answer is worse
    if received or closed:
        return False
    tls = idle.stream.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        # Reads what has been decrypted, or has arrived and waits to be; it does not touch the socket.
        tls.read(1)
    except ssl.SSLWantReadError:
        return True
    except ssl.SSLError:
        return False
    return False


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Raise httpcore's errors as the errors of the same name that httpx has."""
    try:
        yield
    except _HTTPCORE_ERRORS as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
