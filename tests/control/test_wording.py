from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.control.wording import LONGEST_DETAIL, bounded, printable, words_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        (" two\r\n\t lines ", "two lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x9b1mbold", "bold"),
        ("\x1bPdevice\x1b\\control", "control"),
        ("a\x1bcb", "ab"),
        ("a\x00b\x08c", "a b c"),
        ("a\u202eb\u200bc", "a b c"),
        ("é 中 \U0001f600", "é 中 \U0001f600"),
        ("\ud800x", "x"),
    ],
)
def test_text_is_made_printable_in_one_line(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(max_size=200))
@settings(deadline=None)
def test_whatever_comes_out_is_printable_and_comes_out_the_same_again(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert bounded("x" * LONGEST_DETAIL) == "x" * LONGEST_DETAIL
    assert bounded("x" * (LONGEST_DETAIL + 1)) == "x" * (LONGEST_DETAIL - 1) + "…"
    assert bounded("ab cd", 4) == "ab…"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "Not found."}', "Not found."),
        (b'{"operation": ["Bad.", "Worse."], "x": 1}', "operation: Bad., Worse.; x: 1"),
        (b'{"detail": {"code": null}}', "detail: code: null"),
        (b'["a", ["b"], true]', "a; b; true"),
        (b'"just words"', "just words"),
        (b'{"a": {"b": {"c": {"d": {"e": 1}}}}}', "a: b: c: d: …"),
        (b"<html><head><title>502 Bad &amp; Gateway</title></head>", "502 Bad & Gateway"),
        (b"<html><TITLE lang=en>Oops</TITLE>", "Oops"),
        (b"\xef\xbb\xbf  <p>no title</p><script>x = 1</script>", "no title"),
        (b"<title></title><p>empty title</p>", "empty title"),
        (b"plain \xff words", "plain \N{REPLACEMENT CHARACTER} words"),
        (b"", ""),
    ],
)
def test_the_words_of_a_body_are_found(body: bytes, words: str) -> None:
    assert printable(words_of(body)) == words


def test_json_nested_too_deep_is_taken_as_text() -> None:
    body = b"[" * 60_000
    assert words_of(body) == body.decode()


@pytest.mark.parametrize("part", [b"<title", b"<script>", b"<", b"<style></", b"&amp;", b"\x1b]", b"\x1b[1", b"{"])
def test_a_hostile_page_takes_no_longer_than_its_length_is_worth(part: bytes) -> None:
    before_s = time.process_time()
    printable(words_of(b"<" + part * (65_536 // len(part))))
    assert time.process_time() - before_s < 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
@settings(deadline=None)
def test_any_json_has_words(value: object) -> None:
    assert isinstance(words_of(json.dumps(value).encode()), str)
