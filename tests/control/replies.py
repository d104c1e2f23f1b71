"""Replies for hypothesis to make: well-formed ones, ones with oddities in the framing, and ones with random damage."""

from __future__ import annotations

from hypothesis import strategies as st

_STATUS_LINES = st.sampled_from(
    [
        *[b"HTTP/1.1 200 OK"] * 6,
        *(b"HTTP/1.1 %d X" % status for status in (99, 100, 101, 103, 199, 201, 204, 206, 301, 304, 404, 429, 500)),
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.9 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 200 \xff\x00",
    ]
)
_HEADERS = st.sampled_from(
    [
        b"Retry-After: 5",
        b"retry-after:5",
        b"X: a, b",
        b"X:",
        b"X:\t a \t",
        b"X : a",
        b" X: a",
        b"X: a\r\n b",
        b"X: \xe9\xff",
        b"X: \x00",
        b"X: \x7f",
        b"X\xe9: a",
        b": a",
        b"X",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: upgrade",
        b"Upgrade: h2c",
        b"Content-Length: 5",
        b"Content-Length: 05",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: 0x5",
        b"Content-Length: 99999999999999999999999",
        b"Content-Length:",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: Chunked \t",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:\x0bchunked",
        b"Content-Encoding: identity",
    ]
)
_BODIES = st.sampled_from(
    [
        b"",
        b"hello",
        b"hello world",
        b'{"operation": "reboot"}',
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"5;" + b"a" * 50 + b"\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nTrailer\r\n\r\n",
        b"5\r\nhello\r\n0\r\n",
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ]
)
_ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """A reply that is well-formed but for what its parts may bring with them."""
    end = draw(_ENDS)
    headers = draw(st.lists(_HEADERS, max_size=4))
    body = draw(_BODIES)
    if draw(st.booleans()):
        headers.append(b"Content-Length: %d" % len(body))
    interim = draw(
        st.sampled_from([b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nX: y\r\n\r\n"])
    )
    return interim + end.join([draw(_STATUS_LINES), *headers, b"", b""]) + body


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A reply with some of its bytes replaced, left out, or put in."""
    reply = draw(framed())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(reply)))
        gone = draw(st.integers(0, 3))
        reply = reply[:start] + draw(st.binary(max_size=3)) + reply[start + gone :]
    return reply


REPLIES = st.one_of(framed(), damaged())
