"""Bytes to replies. What becomes of them on a connection is in the fault matrix, and beside httpx in `test_direct`."""

from __future__ import annotations

from itertools import pairwise

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.control.parsing import MOST_HEAD_BYTES, Received, ReplyParser
from tests.control.replies import REPLIES

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def read(*parts: bytes, most_bytes: int = 100, no_body: bool = False) -> tuple[Received | str, bool]:
    """What becomes of the parts and then the end of the stream, and whether another request could follow."""
    parser = ReplyParser()
    parser.expect(most_bytes, no_body=no_body)
    if not any(parser.feed(part) for part in parts if part):
        parser.end_of_stream()
    try:
        return parser.result(), parser.keep_alive
    except httpx.TransportError as error:
        return type(error).__name__, parser.keep_alive


@settings(deadline=None, max_examples=500)
@given(REPLIES, st.lists(st.integers(0, 200), max_size=5))
def test_it_makes_no_difference_in_which_pieces_a_reply_comes(reply: bytes, cuts: list[int]) -> None:
    pieces = [reply[start:end] for start, end in pairwise([0, *sorted(cuts), len(reply)])]
    whole, kept_whole = read(reply)
    split, kept_split = read(*pieces)
    single, kept_single = read(*(bytes([byte]) for byte in reply))
    if isinstance(whole, str) or isinstance(split, str) or isinstance(single, str):
        assert whole == split == single
    else:
        # An error that follows the body in the same piece may come before what is left of the body.
        assert whole[:2] == split[:2] == single[:2]
        assert whole.body == split.body == single.body
        assert (whole.error is None) == (split.error is None) == (single.error is None)
    # What is left over is seen at once only where it comes in the same piece.
    assert kept_whole <= kept_split <= kept_single


def read_on(parser: ReplyParser, reply: bytes, *, most_bytes: int, no_body: bool) -> tuple[Received | str, bool]:
    """What a parser that has read other replies makes of one more."""
    parser.expect(most_bytes, no_body=no_body)
    parser.feed(reply)
    parser.end_of_stream()
    try:
        return parser.result(), parser.keep_alive
    except httpx.TransportError as error:
        return type(error).__name__, parser.keep_alive


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.one_of(st.sampled_from([OK, OK.replace(b"hello", b"again"), OK + b"!"]), REPLIES), max_size=6),
    st.data(),
)
def test_what_a_connection_carried_before_makes_no_difference_to_a_reply(
    replies: list[bytes], data: st.DataObject
) -> None:
    """Most replies have the head of the one before, and are not parsed again."""
    parser = ReplyParser()
    for reply in replies:
        no_body, most_bytes = data.draw(st.booleans()), data.draw(st.sampled_from([4, 100]))
        seen, kept = read_on(parser, reply, most_bytes=most_bytes, no_body=no_body)
        assert (repr(seen), kept) == (repr(read(reply, most_bytes=most_bytes, no_body=no_body)[0]), kept)
        assert kept == read(reply, most_bytes=most_bytes, no_body=no_body)[1]
        if not kept:
            break


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (OK, True),
        (OK + b"\r\n", False),
        (OK + OK, False),
        (OK + b"garbage", False),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False),
        (OK.replace(b"1.1", b"1.0"), False),
        (OK.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"), True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, True),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", False),
    ],
)
def test_a_connection_is_kept_only_after_a_reply_that_ended_by_itself(reply: bytes, kept: bool) -> None:
    received, keep_alive = read(reply)
    assert isinstance(received, Received)
    assert received.error is None
    assert keep_alive is kept


def test_a_reply_without_a_body_ends_with_its_headers_whatever_they_say() -> None:
    head = OK.removesuffix(b"hello")
    assert read(head, no_body=True) == (Received(200, [(b"Content-Length", b"5")], b"", None), False)


def test_one_parser_reads_reply_after_reply() -> None:
    parser = ReplyParser()
    for number in range(3):
        parser.expect(100)
        assert parser.feed(OK.replace(b"hello", b"hell%d" % number))
        assert parser.keep_alive
        assert parser.result().body == b"hell%d" % number


@pytest.mark.parametrize(
    "part", [b"X: " + b"x" * 1000, b"X: y\r\n" * 100, b"Content-Type: text\r\n"], ids=["a value", "headers", "others"]
)
def test_headers_are_bounded(part: bytes) -> None:
    parser = ReplyParser()
    parser.expect(100)
    sent, ended = 0, parser.feed(b"HTTP/1.1 200 OK\r\n")
    while not ended:
        sent += len(part)
        assert sent <= MOST_HEAD_BYTES + len(part)
        ended = parser.feed(part)
    with pytest.raises(httpx.RemoteProtocolError, match="bytes of headers"):
        parser.result()


@pytest.mark.parametrize("between", [b"1;" + b"x" * 5000, b"0\r\nX: " + b"x" * 5000])
def test_what_stands_between_the_chunks_of_a_body_is_bounded(between: bytes) -> None:
    parser = ReplyParser()
    parser.expect(100)
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + between)
    sent = 0
    while not parser.feed(b"x" * 1000):
        sent += 1000
        assert sent <= MOST_HEAD_BYTES
    assert isinstance(parser.result().error, httpx.RemoteProtocolError)


@pytest.mark.parametrize(("length", "error"), [(99, False), (100, False), (101, True), (100_000, True)])
def test_a_body_is_bounded(length: int, error: bool) -> None:
    received, kept = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length)
    assert isinstance(received, Received)
    assert received.body == b"x" * min(length, 100)
    assert (received.error is not None) is error
    assert kept is not error
