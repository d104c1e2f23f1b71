"""Bytes to one reply after the other.

httptools parses; what it leaves open is settled here. A reply that differs from what RFC 9112 allows is refused rather
than read in one of several ways.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, cast

import httptools
import httpx

if TYPE_CHECKING:
    from httptools.parser.protocol import HTTPProtocol

MOST_HEAD_BYTES: Final = 100 * 1024
"""Of a reply's headers, of its trailers, or of anything else between two pieces of its body."""

_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_PHRASE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_FIRST_BYTE: Final = b"H"[0]
_LINE_ENDS: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"


class Received(NamedTuple):
    """A reply whose headers came to their end.

    Attributes:
        status: Its status, of the final reply.
        headers: Its headers as they came.
        body: Its body, or as much of it as came and was allowed.
        error: Why the body is not whole; None where it is.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    error: httpx.TransportError | None


class _EnoughError(Exception):
    """Stops the parser: nothing that follows is wanted."""


class ReplyParser:
    """Reads the replies of one connection, each asked for by `expect`.

    Attributes:
        keep_alive: Whether the connection can carry another request after the reply that has ended.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(cast("HTTPProtocol", self))
        self._last_head = b""
        self._last_bytes = 0
        self._last: tuple[int, list[tuple[bytes, bytes]]] = (0, [])
        self.expect(0)

    def expect(self, most_bytes: int, *, no_body: bool = False) -> None:
        """Begin a reply.

        Args:
            most_bytes: Of its body.
            no_body: Whether it has none, whatever its headers say.
        """
        self._most_bytes = most_bytes
        self._no_body = no_body
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._since_body = 0
        self._error: httpx.TransportError | None = None
        self._begun = self._has_head = self._until_close = self._ended = False
        self.keep_alive = False

    def result(self) -> Received:
        """The reply.

        Raises:
            httpx.TransportError: It did not come to the end of its headers.
        """
        if self._has_head:
            return Received(self._status, self._headers, b"".join(self._body)[: self._most_bytes], self._error)
        raise self._error or httpx.ReadError("there is no reply")

    def feed(self, data: bytes) -> bool:
        """Take what has come; whether the reply has ended, well or not."""
        if not self._begun:
            if len(data) == self._last_bytes and data.startswith(self._last_head) and not self._no_body:
                return self._feed_the_like(data)
            if data[0] != _FIRST_BYTE:
                return self.fail(httpx.RemoteProtocolError("illegal status line"))
            self._feed(data)
            if self.keep_alive:
                self._remember(data)
            return self._ended
        self._feed(data)
        return self._ended

    def _feed_the_like(self, data: bytes) -> bool:
        """Take a reply whose head is, byte for byte, that of the one before, and whose body is as long.

        Most replies of a busy connection are such, and parsing is a quarter of what the client does with a request.
        """
        body = data[len(self._last_head) :]
        self._begun = self._has_head = self._ended = True
        self._status, self._headers = self._last
        self._body = [body]
        self._body_bytes = len(body)
        if self._body_bytes > self._most_bytes:
            return self.fail(httpx.RemoteProtocolError(f"the body is longer than {self._most_bytes} bytes"))
        self.keep_alive = True
        return True

    def _remember(self, data: bytes) -> None:
        """Keep the head of a reply that came in one piece, has ended, and is framed by the length of its body."""
        head = data[: data.find(_HEAD_END) + len(_HEAD_END)]
        framed = any(name.lower() == b"content-length" for name, _ in self._headers)
        plain = framed and not self._no_body and len(data) == len(head) + self._body_bytes
        self._last_head, self._last_bytes = (head, len(data)) if plain else (b"", 0)
        self._last = (self._status, self._headers)

    def _feed(self, data: bytes) -> None:
        self._begun = True
        self._since_body += len(data)
        try:
            # What follows a reply begins another one (`on_message_begin`). Line ends between the two the parser skips,
            # so the last of them goes in by itself: a reply that has ended before it is followed by something.
            if data[-1] in _LINE_ENDS:
                self._parser.feed_data(memoryview(data)[:-1])
                data = data[-1:]
                if self._ended:
                    self.keep_alive = False
                    return
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as stopped:
            self.keep_alive = False
            if not isinstance(stopped.__context__, _EnoughError):
                raise
        except httptools.HttpParserUpgrade:
            self.fail(httpx.RemoteProtocolError("the protocol was switched"))
        except httptools.HttpParserError as malformed:
            self.keep_alive = False
            if not self._ended:
                self.fail(httpx.RemoteProtocolError(str(malformed)))
        if self._since_body > MOST_HEAD_BYTES and not self._ended:
            self.fail(httpx.RemoteProtocolError(f"more than {MOST_HEAD_BYTES} bytes of headers"))

    def end_of_stream(self) -> None:
        """The connection was closed in good order: the end of a reply that has no other."""
        if self._ended:
            return
        if not self._has_head:
            self.fail(httpx.RemoteProtocolError("Server disconnected without sending a response."))
        elif not self._until_close:
            self.fail(httpx.RemoteProtocolError("peer closed connection before the end of the body"))
        self._ended = True

    def fail(self, error: httpx.TransportError) -> bool:
        """End the reply with an error."""
        self._error = self._error or error
        self._ended = True
        self.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """Called by httptools at the first byte of a reply, interim ones included."""
        if self._ended:
            raise _EnoughError

    def on_status(self, phrase: bytes) -> None:
        """Called by httptools with the reason phrase, or a piece of it."""
        if not _PHRASE.fullmatch(phrase):
            self._refuse("illegal status line")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Called by httptools with a header of the reply, or one of its trailers."""
        if not self._has_head:
            self._headers.append((name, (value or b"").rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Called by httptools at the end of the headers."""
        status = self._parser.get_status_code()
        if self._ended or status < HTTPStatus.CONTINUE:
            self._refuse(f"illegal status {status}")
        if status < HTTPStatus.OK:
            return
        if self._parser.get_http_version() not in _VERSIONS:
            self._refuse("another version of HTTP")
        self._until_close = self._is_unframed() and status not in _BODILESS
        self._status = status
        self._has_head = True
        if self._no_body:
            self._ended = True
            raise _EnoughError

    def _is_unframed(self) -> bool:
        """Whether no header says where the body ends."""
        unframed = True
        codings = 0
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"transfer-encoding":
                codings += 1
                if codings > 1 or value.lower() != b"chunked":
                    self._refuse("a transfer encoding other than chunked")
                unframed = False
            elif lower == b"content-length":
                unframed = False
        return unframed

    def on_body(self, body: bytes) -> None:
        """Called by httptools with a piece of the body."""
        self._since_body = 0
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._most_bytes:
            self._refuse(f"the body is longer than {self._most_bytes} bytes")

    def on_message_complete(self) -> None:
        """Called by httptools at the end of the reply, or of an interim one."""
        if self._has_head:
            self._ended = True
            self.keep_alive = self._parser.should_keep_alive()
        else:
            self._headers = []
            self._since_body = 0

    def _refuse(self, words: str) -> NoReturn:
        if not self._ended:
            self.fail(httpx.RemoteProtocolError(words))
        raise _EnoughError
