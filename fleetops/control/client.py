"""One request, one answer: deadlines, bounds, and whether a request may have reached the service.

httpx's transports are used without its client: the client's redirects, cookies, authentication and logging are all
things that must not happen here (it fails on a Location that it cannot parse, followed or not). The transport that is
our own is used without httpx's models too, which cost more than all the rest of a request.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import anyio
import httpx

from fleetops.control.base_url import parse_base_url, proxy_for
from fleetops.control.direct import DirectTransport, Timeouts, header_block, request_line, request_tail
from fleetops.control.wording import bounded, printable
from fleetops.errors import UsageError
from fleetops.model import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.control.token import Token
    from fleetops.control.transport import OneConnectionEach

_NOT_REACHED: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)
_TIMED_OUT: Final = (httpx.ReadTimeout, httpx.WriteTimeout)
_BROKEN_OFF: Final = ("Server disconnected", "peer closed connection")
"""How httpcore and h11 begin to say that a connection ended too early; all else they say of a reply is of bad HTTP."""

TRANSPORT_VARIABLE: Final = "FLEETOPS_TRANSPORT"
"""`httpx` in this environment variable has httpx's own connections used, as they are where there is a proxy."""

_LONGEST_CHAIN: Final = 10
_SSL_DECORATION: Final = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")
"""What Python's ssl module puts around OpenSSL's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How the control plane is reached.

    Attributes:
        base_url: As `parse_base_url` takes it.
        token: The bearer token of every request.
        concurrency: Connections, and so requests in flight, at most.
        connect_timeout_s: To get a free connection, and again to resolve, connect and agree on TLS.
        read_timeout_s: From the first byte sent to the whole reply, however slowly it drips.
        ca_bundle: A file or folder of CA certificates instead of the usual ones.
    """

    base_url: str
    token: Token = field(repr=False)
    concurrency: int = 16
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    ca_bundle: Path | None = None


class Headers(NamedTuple):
    """Headers as they came, looked through only when one is asked for: few replies have one that matters."""

    raw: list[tuple[bytes, bytes]]

    def get(self, name: str) -> str | None:
        """The value of a header, whose name is given in lower case; values of the same name are joined by commas."""
        wanted = name.encode()
        value: str | None = httpx.Headers([header for header in self.raw if header[0].lower() == wanted]).get(name)
        return value


class Answer(NamedTuple):
    """A reply whose status was understood.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body, at most as long as was asked for.
        cut: Why `body` is not the whole body: `READ_TIMEOUT`, `CONNECTION_LOST`, or `BAD_REPLY` where it is too long
            or not framed as HTTP says. None where it is whole.
    """

    status: int
    headers: Headers
    body: bytes
    cut: Reason | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The lack of one.

    Attributes:
        reached: Whether the request may have reached the service.
        reason: The word for the report.
        detail: What happened, printable and bounded, without the token.
    """

    reached: bool
    reason: Reason
    detail: str


class ControlClient:
    """Sends requests to one control plane over connections that are kept and shared.

    Raises:
        UsageError: The base URL, the CA bundle or the environment's proxy cannot be used.
    """

    def __init__(self, settings: ClientSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.base_url = parse_base_url(settings.base_url)
        self._authority = httpx.URL(self.base_url).netloc.decode("ascii")
        self._token = settings.token
        self._connect_timeout_s = settings.connect_timeout_s
        self._read_timeout_s = settings.read_timeout_s
        self._headers = httpx.Headers(
            {
                "Authorization": settings.token.authorization(),
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": _user_agent(),
            }
        )
        self._headers_with_body = httpx.Headers({**self._headers, "Content-Type": "application/json"})
        # One deadline of ours covers each phase, so that httpx needs no timer for every read.
        self._timeouts = {"connect": None, "read": None, "write": None, "pool": settings.connect_timeout_s}
        _quieten_httpcore()
        self._transport = transport or _transport(self.base_url, settings)
        self._direct = None
        if isinstance(self._transport, DirectTransport):
            self._direct = _Direct(self._transport, self.base_url, self._headers, self._headers_with_body)

    def redact(self, text: str) -> str:
        """`text` without the token."""
        return self._token.redact(text)

    def printable(self, text: str) -> str:
        """`text` as it can go into a report: in one line, bounded, without the token."""
        return bounded(self.redact(printable(self.redact(text))))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def exchange(
        self, method: str, url: str, *, content: bytes | None = None, most_bytes: int
    ) -> Answer | NoAnswer:
        """Send one request, once, and read its reply. Never raises for anything that the network does.

        Args:
            method: The method.
            url: The whole URL, percent-encoded.
            content: A JSON body.
            most_bytes: Of the reply's body; the connection is closed rather than read further.
        """
        if self._direct is None:
            return await self._exchange_by_httpx(method, url, content, most_bytes)
        try:
            request = self._direct.rendered(method, url, content)
            got = await self._direct.transport.carry(request, most_bytes=most_bytes, no_body=method == "HEAD")
        except Exception as error:  # noqa: BLE001 - whatever it is, the step must get its reply
            timed_out = isinstance(error, _TIMED_OUT)
            return self._no_answer(error, sent=not isinstance(error, _NOT_REACHED), timed_out=timed_out)
        cut = _why_lost(got.error, timed_out=isinstance(got.error, _TIMED_OUT)) if got.error else None
        return Answer(got.status, Headers(got.headers), got.body, cut)

    async def _exchange_by_httpx(
        self, method: str, url: str, content: bytes | None, most_bytes: int
    ) -> Answer | NoAnswer:
        progress = _Progress(self._connect_timeout_s, self._read_timeout_s)
        try:
            request = self._request(method, url, content, progress)
        except httpx.InvalidURL as unusable:
            return self._unreached(f"no request can be made: {unusable}")
        response: httpx.Response | None = None
        body = bytearray()
        error: Exception | None = None
        with progress.scope:
            try:
                response = await self._transport.handle_async_request(request)
                async for chunk in cast("httpx.AsyncByteStream", response.stream):
                    body += chunk
                    if len(body) > most_bytes:
                        break
            except Exception as raised:  # noqa: BLE001 - whatever it is, the step must get its reply
                error = raised
            finally:
                if response is not None:
                    await _close(response)
        timed_out = progress.scope.cancelled_caught or isinstance(error, _TIMED_OUT)
        if response is None:
            unsent = not progress.sent and (progress.connecting or isinstance(error, _NOT_REACHED))
            return self._no_answer(error, sent=not unsent, timed_out=timed_out)
        cut = _why_lost(error, timed_out=timed_out) if timed_out or error else None
        if len(body) > most_bytes:
            cut = Reason.BAD_REPLY
        return Answer(response.status_code, Headers(response.headers.raw), bytes(body[:most_bytes]), cut)

    def _request(self, method: str, url: str, content: bytes | None, progress: _Progress) -> httpx.Request:
        return httpx.Request(
            method,
            url,
            headers=self._headers if content is None else self._headers_with_body,
            content=content,
            extensions={"trace": progress.trace, "timeout": self._timeouts},
        )

    def _unreached(self, words: str) -> NoAnswer:
        return NoAnswer(reached=False, reason=Reason.UNREACHABLE, detail=self.printable(words))

    def _no_answer(self, error: Exception | None, *, sent: bool, timed_out: bool) -> NoAnswer:
        if isinstance(error, httpx.LocalProtocolError):
            return self._unreached(f"no request can be made: {error}")
        if not sent:
            words = _words(error) if error else f"not within {self._connect_timeout_s:g} s"
            return self._unreached(f"no connection to {self._authority}: {words}")
        reason = _why_lost(error, timed_out=timed_out)
        if reason is Reason.READ_TIMEOUT:
            detail = f"no reply within {self._read_timeout_s:g} s"
        else:
            detail = f"the reply is not HTTP: {error}" if reason is Reason.BAD_REPLY else _words(error)
        return NoAnswer(reached=True, reason=reason, detail=self.printable(detail))


class _Direct:
    """Requests to the base URL below httpx's models; holds the token, and so shows nothing of itself."""

    __slots__ = ("_headers", "_headers_with_body", "_origin", "_tails", "transport")

    def __init__(
        self, transport: DirectTransport, base_url: str, headers: httpx.Headers, headers_with_body: httpx.Headers
    ) -> None:
        self.transport = transport
        url = httpx.URL(base_url)
        self._origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        host = (b"Host", url.netloc)
        self._headers = header_block([host, *headers.raw])
        self._headers_with_body = header_block([host, *headers_with_body.raw])
        self._tails: dict[tuple[str, bytes | None], bytes] = {}

    def rendered(self, method: str, url: str, content: bytes | None) -> bytes:
        """A request as it goes over the wire; there are few bodies, and all but the target is made once for each."""
        tail = self._tails.get((method, content))
        if tail is None:
            headers = self._headers if content is None else self._headers_with_body
            tail = self._tails[method, content] = request_tail(method, headers, content)
        return request_line(method, url.removeprefix(self._origin).encode()) + tail


class _Progress:
    """How far one request has come, as httpcore's trace tells, and the deadline that goes with it.

    A transport that does not trace leaves `connecting` and `sent` false: then nothing is certain, and one deadline
    covers it all.
    """

    __slots__ = ("_connect_timeout_s", "_read_timeout_s", "connecting", "scope", "sent")

    def __init__(self, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self.connecting = False
        self.sent = False
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + 2 * connect_timeout_s + read_timeout_s)

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            # A proxy is sent a CONNECT first, which the service never sees.
            if info["request"].method != b"CONNECT":
                self.sent = True
                self.scope.deadline = anyio.current_time() + self._read_timeout_s
        elif event == "connection.connect_tcp.started":
            self.connecting = True
            self.scope.deadline = anyio.current_time() + self._connect_timeout_s


async def _close(response: httpx.Response) -> None:
    """Close a reply that has been judged already: a failure to close it changes nothing."""
    with anyio.CancelScope(shield=True), suppress(Exception):
        await response.aclose()


def _why_lost(error: Exception | None, *, timed_out: bool) -> Reason:
    if timed_out:
        return Reason.READ_TIMEOUT
    malformed = isinstance(error, httpx.RemoteProtocolError) and not str(error).startswith(_BROKEN_OFF)
    return Reason.BAD_REPLY if malformed else Reason.CONNECTION_LOST


def _words(error: BaseException | None) -> str:
    """The most exact words there are for an error: the operating system's or TLS's, else its own, else its name."""
    inner, seen = error, 0
    while inner is not None and seen < _LONGEST_CHAIN:
        if isinstance(inner, ssl.SSLError):
            return f"TLS: {_SSL_DECORATION.sub('', inner.strerror or str(inner))}"
        if isinstance(inner, socket.gaierror):
            return inner.strerror or str(inner)
        if isinstance(inner, OSError) and inner.errno:
            return os.strerror(inner.errno)
        if isinstance(inner, BaseExceptionGroup):  # noqa: SIM108 - mypy narrows only a statement
            inner = inner.exceptions[0]
        else:
            inner = inner.__cause__ or inner.__context__
        seen += 1
    if isinstance(error, httpx.TransportError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _transport(base_url: str, settings: ClientSettings) -> httpx.AsyncBaseTransport:
    proxy = proxy_for(base_url)
    if proxy is not None or os.environ.get(TRANSPORT_VARIABLE) == "httpx":
        return stock_transport(base_url, settings, proxy)
    connect_s, read_s = settings.connect_timeout_s, settings.read_timeout_s
    return DirectTransport(
        base_url,
        settings.concurrency,
        ssl_context=_ssl_context(base_url, settings.ca_bundle),
        timeouts=Timeouts(connect_s, connect_s, read_s),
    )


def stock_transport(base_url: str, settings: ClientSettings, proxy: httpx.Proxy | None = None) -> OneConnectionEach:
    """Connections of httpx's own, through a proxy where one is given.

    Raises:
        UsageError: The CA bundle cannot be used.
    """
    # httpcore, which is of no use elsewhere, takes longer to load than most of what is.
    from fleetops.control.transport import OneConnectionEach, connections_to  # noqa: PLC0415

    tls = _ssl_context(base_url, settings.ca_bundle)
    return OneConnectionEach(connections_to(base_url, ssl_context=tls, proxy=proxy), settings.concurrency)


def _ssl_context(base_url: str, ca_bundle: Path | None) -> ssl.SSLContext | None:
    if base_url.startswith("http://"):
        return None
    if ca_bundle is None:
        return httpx.create_ssl_context()
    try:
        if ca_bundle.is_dir():
            return ssl.create_default_context(capath=ca_bundle)
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise UsageError(
            f"the CA bundle {ca_bundle} cannot be used: {_words(error)}",
            hint="give a file of certificates in PEM format, or a folder of them as `openssl rehash` makes it",
        ) from None


def _user_agent() -> str:
    try:
        return f"fleetops/{version('fleetops')}"
    except PackageNotFoundError:
        return "fleetops"


def _quieten_httpcore() -> None:
    """Keep httpcore from logging the headers of replies, in which a service could echo the token.

    A level that someone has set for it in particular stands.
    """
    logger = logging.getLogger("httpcore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
