"""Every way in which a request can go wrong: what the server does, and what the client must make of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

from fleetops.model import Reason, ReplyKind
from tests.control.scripted_server import Peer, accepting, answers, reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.control.scripted_server import Arrival, Script

SECRET = "s3cret-T0ken-Value/with+chars="
LONGEST_BODY = 64 * 1024

K, R = ReplyKind, Reason


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server does to each connection, and what each request must come to.

    Attributes:
        arrivals: Requests that the server reads to their end, for each that is asked for.
        times_out: Whether the client waits for its read timeout.
    """

    name: str
    script: Script
    kind: ReplyKind
    reason: Reason | None = None
    status: int | None = None
    arrivals: int = 1
    says: str = ""
    retry_after_s: float | None = None
    times_out: bool = False


def sends(*parts: bytes, then: Callable[[Peer], None] = Peer.close) -> Script:
    """Read one request, send the parts one by one, then end the connection."""

    def script(peer: Peer) -> None:
        peer.request()
        for part in parts:
            peer.send(part)
        then(peer)

    return script


def says_status(status: str, body: str | bytes = b"", *headers: str) -> Script:
    return answers(lambda _: reply(body, status, *headers))


def _byte_by_byte(peer: Peer) -> None:
    for byte in peer.request().reply():
        peer.send(bytes([byte]))
    peer.wait_closed()


def _reset_before_reading(peer: Peer) -> None:
    peer.first_byte()
    peer.reset()


def _reset_in_the_middle_of_the_request(peer: Peer) -> None:
    peer.sock.recv(10)
    peer.reset()


def _drips(peer: Peer) -> None:
    peer.request()
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 1000:
        peer.send(bytes([byte]))
        if peer.closed_within(0.01):
            return


def _drips_a_body(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while not peer.closed_within(0.01):
        peer.send(b" ")


def _endlessly(start: bytes, part: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(start)
        for again in repeat(part):
            peer.send(again)

    return script


def _answers_before_reading(peer: Peer) -> None:
    peer.first_byte()
    peer.send(reply("too early", "400 Bad Request"))
    peer.request()
    peer.wait_closed()


def _close_delimited(peer: Peer) -> None:
    body = b'{"id": 7, "operation": "%s"}' % peer.request().operation.encode()
    peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)
    peer.close()


def _chunked(*chunks: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


def _well_chunked(arrival: Arrival) -> bytes:
    body = b'{"operation": "%s"}' % arrival.operation.encode()
    return _chunked(*(b"1;ext=1\r\n%c\r\n" % byte for byte in body), b"0\r\nTrailer: x\r\n\r\n")


def _redirect(status: str, location: str = "http://127.0.0.1:9/elsewhere/") -> Fault:
    code = int(status[:3])
    script = says_status(status, "", f"Location: {location}")
    return Fault(f"redirect {status}", script, K.MISDIRECTED, R.MISDIRECTED, code, says="elsewhere")


def _throttled(name: str, retry_after: str | None, expected_s: float | None) -> Fault:
    headers = [] if retry_after is None else [f"Retry-After: {retry_after}"]
    script = says_status("429 Too Many Requests", '{"detail": "slow down"}', *headers)
    return Fault(name, script, K.THROTTLED, R.THROTTLED, 429, says="slow down", retry_after_s=expected_s)


_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
_HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{"id": 7, "opera'
_TOO_LONG = b'{"operation": "reboot", "x": "' + b"x" * LONGEST_BODY + b'"}'

ACCEPTED = [
    Fault("a plain reply", accepting, K.ACCEPTED, None, 200),
    Fault("a reply in single bytes", _byte_by_byte, K.ACCEPTED, None, 200),
    Fault("a chunked reply with trailers", answers(_well_chunked), K.ACCEPTED, None, 200),
    Fault("an HTTP/1.0 reply that ends with the connection", _close_delimited, K.ACCEPTED, None, 200),
    Fault(
        "interim replies before the final one",
        answers(lambda a: b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + a.reply()),
        K.ACCEPTED,
        None,
        200,
    ),
    Fault("a reply that closes", answers(lambda a: a.reply("200 OK", "Connection: close")), K.ACCEPTED, None, 200),
    Fault("no id", answers(lambda a: reply(f'{{"operation": "{a.operation}"}}')), K.ACCEPTED, None, 200),
    Fault("an id of null", answers(lambda a: a.reply(id=None)), K.ACCEPTED, None, 200),
]

LOST = [
    Fault("reset before reading", _reset_before_reading, K.MAYBE, R.CONNECTION_LOST, arrivals=0),
    Fault(
        "reset in the middle of the request",
        _reset_in_the_middle_of_the_request,
        K.MAYBE,
        R.CONNECTION_LOST,
        arrivals=0,
    ),
    Fault("reset after the request", sends(then=Peer.reset), K.MAYBE, R.CONNECTION_LOST),
    Fault("close after the request", sends(), K.MAYBE, R.CONNECTION_LOST, says="disconnected"),
    Fault("half a status line", sends(b"HTTP/1.1 20"), K.MAYBE, R.CONNECTION_LOST),
    Fault("half the headers", sends(b"HTTP/1.1 200 OK\r\nContent-Le"), K.MAYBE, R.CONNECTION_LOST),
    Fault("only an interim reply", sends(b"HTTP/1.1 100 Continue\r\n\r\n"), K.MAYBE, R.CONNECTION_LOST),
    Fault("half a body", sends(_HALF), K.MAYBE, R.CONNECTION_LOST, 200, says="middle"),
    Fault("reset in the middle of the body", sends(_HALF, then=Peer.reset), K.MAYBE, R.CONNECTION_LOST, 200),
    Fault("chunks that break off", sends(_chunked(b'1\r\n{\r\nff\r\n"')), K.MAYBE, R.CONNECTION_LOST, 200),
    Fault("nothing at all", sends(then=Peer.wait_closed), K.MAYBE, R.READ_TIMEOUT, says="no reply", times_out=True),
    Fault(
        "a body that stalls",
        sends(_HALF, then=Peer.wait_closed),
        K.MAYBE,
        R.READ_TIMEOUT,
        200,
        says="middle",
        times_out=True,
    ),
    Fault("a slow drip of headers", _drips, K.MAYBE, R.READ_TIMEOUT, times_out=True),
    Fault("a slow drip of body", _drips_a_body, K.MAYBE, R.READ_TIMEOUT, 200, times_out=True),
    Fault(
        "interim replies without end",
        _endlessly(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        K.MAYBE,
        R.READ_TIMEOUT,
        times_out=True,
    ),
]

MALFORMED = [
    Fault("garbage", sends(b"\x00\xff\xfe garbage\r\n\r\n"), K.MAYBE, R.BAD_REPLY, says="not HTTP"),
    Fault("another protocol", sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), K.MAYBE, R.BAD_REPLY),
    Fault("a TLS alert", sends(b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n"), K.MAYBE, R.BAD_REPLY),
    Fault("one huge header", sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), K.MAYBE, R.BAD_REPLY),
    Fault("headers without end", _endlessly(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000), K.MAYBE, R.BAD_REPLY),
    Fault("a status line without end", _endlessly(b"HTTP/1.1 200 ", b"O" * 10_000), K.MAYBE, R.BAD_REPLY),
    Fault(
        "two lengths that differ",
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        K.MAYBE,
        R.BAD_REPLY,
    ),
    Fault("a negative length", sends(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), K.MAYBE, R.BAD_REPLY),
    Fault("a status of four digits", sends(b"HTTP/1.1 2000 OK\r\n\r\n"), K.MAYBE, R.BAD_REPLY),
    Fault(
        "another protocol switched to",
        says_status("101 Switching Protocols", "", "Upgrade: x", "Connection: upgrade"),
        K.MAYBE,
        R.BAD_REPLY,
    ),
    Fault("a status of 600", says_status("600 What"), K.MAYBE, R.BAD_REPLY, 600),
]

UNREADABLE = [
    Fault("no body", says_status("200 OK"), K.BAD_REPLY, R.BAD_REPLY, 200, says="no body"),
    Fault("204", answers(lambda _: b"HTTP/1.1 204 No Content\r\n\r\n"), K.BAD_REPLY, R.BAD_REPLY, 204),
    Fault("202 that matches", answers(lambda a: a.reply("202 Accepted")), K.BAD_REPLY, R.BAD_REPLY, 202),
    Fault("a login page", says_status("200 OK", "<html><title>Log in</title>"), K.BAD_REPLY, R.BAD_REPLY, 200),
    Fault(
        "another operation",
        answers(lambda a: a.reply(operation="sync" if a.operation != "sync" else "reboot")),
        K.BAD_REPLY,
        R.BAD_REPLY,
        200,
        says="does not name",
    ),
    Fault("a JSON list", says_status("200 OK", "[]"), K.BAD_REPLY, R.BAD_REPLY, 200),
    Fault("no operation", says_status("200 OK", '{"id": 1}'), K.BAD_REPLY, R.BAD_REPLY, 200),
    Fault("an operation of null", answers(lambda a: a.reply(operation=None)), K.BAD_REPLY, R.BAD_REPLY, 200),
    Fault("JSON nested too deep", says_status("200 OK", "[" * 60_000), K.BAD_REPLY, R.BAD_REPLY, 200),
    Fault("a body that is too long", says_status("200 OK", _TOO_LONG), K.BAD_REPLY, R.BAD_REPLY, 200, says="too long"),
    Fault(
        "a body without end",
        _endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 10_000),
        K.BAD_REPLY,
        R.BAD_REPLY,
        200,
    ),
    Fault(
        "a length that is too short",
        answers(lambda a: a.reply().replace(b"Content-Length: ", b"Content-Length: 5\r\nX-Was: ")),
        K.BAD_REPLY,
        R.BAD_REPLY,
        200,
        says="not JSON",
    ),
    Fault("chunks that are malformed", sends(_chunked(b"zz\r\n{}\r\n")), K.BAD_REPLY, R.BAD_REPLY, 200),
    Fault(
        "a compressed body",
        says_status("200 OK", b"\x1f\x8b\x08\x00", "Content-Encoding: gzip"),
        *(K.BAD_REPLY, R.BAD_REPLY, 200),
    ),
]

STATUSES = [
    Fault(
        "400", says_status("400 Bad Request", '{"operation": ["Invalid."]}'), K.REFUSED, R.INVALID, 400, says="Invalid"
    ),
    Fault("401", says_status("401 Unauthorized", '{"detail": "no"}'), K.TOKEN_REFUSED, R.TOKEN_REFUSED, 401),
    Fault("403", says_status("403 Forbidden", '{"detail": "no"}'), K.TOKEN_REFUSED, R.TOKEN_REFUSED, 403),
    Fault(
        "404", says_status("404 Not Found", '{"detail": "Not found."}'), K.REFUSED, R.NOT_FOUND, 404, says="Not found."
    ),
    Fault("407", says_status("407 Proxy Authentication Required"), K.REFUSED, R.REJECTED, 407),
    Fault("409", says_status("409 Conflict"), K.REFUSED, R.REJECTED, 409),
    Fault("418", says_status("418 I'm a teapot", "short and stout"), K.REFUSED, R.REJECTED, 418, says="stout"),
    Fault("422", says_status("422 Unprocessable Entity", "{}"), K.REFUSED, R.INVALID, 422),
    Fault("499", says_status("499 Custom"), K.REFUSED, R.REJECTED, 499),
    Fault("500", says_status("500 Internal Server Error", "oops"), K.MAYBE, R.SERVER_ERROR, 500, says="oops"),
    Fault("501", says_status("501 Not Implemented"), K.MAYBE, R.SERVER_ERROR, 501),
    Fault("an HTML 502", says_status("502 Bad Gateway", _PAGE), K.MAYBE, R.BAD_GATEWAY, 502, says="502 Bad Gateway"),
    Fault(
        "503",
        says_status("503 Service Unavailable", "", "Retry-After: 7"),
        K.MAYBE,
        R.UNAVAILABLE,
        503,
        retry_after_s=7,
    ),
    Fault("504", says_status("504 Gateway Timeout", _PAGE), K.MAYBE, R.GATEWAY_TIMEOUT, 504),
    Fault("599", says_status("599 Custom"), K.MAYBE, R.SERVER_ERROR, 599),
    Fault("a 500 whose body is too long", says_status("500 Oops", _TOO_LONG), K.MAYBE, R.SERVER_ERROR, 500),
    Fault("a 404 whose body breaks off", sends(_HALF.replace(b"200 OK", b"404 No")), K.REFUSED, R.NOT_FOUND, 404),
    Fault("a reply before the request was read", _answers_before_reading, K.REFUSED, R.INVALID, 400, says="too early"),
]

REDIRECTS = [
    *(_redirect(f"{status} Moved") for status in (300, 301, 302, 303, 307, 308)),
    _redirect("302 to nowhere that can be parsed", "http://[elsewhere"),
    _redirect("302 to a host with the token", f"http://elsewhere.example/?t={SECRET}"),
    Fault(
        "a redirect to nowhere", says_status("302 Found"), K.MISDIRECTED, R.MISDIRECTED, 302, says="without a Location"
    ),
    Fault("304", answers(lambda _: b"HTTP/1.1 304 Not Modified\r\n\r\n"), K.MISDIRECTED, R.MISDIRECTED, 304),
]

THROTTLED = [
    _throttled("429 without a time", None, None),
    _throttled("429 for some seconds", "17", 17.0),
    _throttled("429 until a moment that has passed", "Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
    _throttled("429 until a far moment", "Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
    _throttled("429 for less than nothing", "-1", None),
    _throttled("429 for ever", "9" * 400, 1e9),
    _throttled("429 for garbage", "soon", None),
]

FAULTS = [*ACCEPTED, *LOST, *MALFORMED, *UNREADABLE, *STATUSES, *REDIRECTS, *THROTTLED]
