"""The service's own words for the report: bounded, printable, in one line."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_DETAIL: Final = 300
"""Characters."""

_HTML_READ: Final = 4096
"""Characters of an HTML page that are looked at: removing tags is quadratic in the worst case."""

_DEEPEST: Final = 4
"""Levels of nested JSON that are spelled out."""

_ESCAPE_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS
    r"|\x1b[ -/]*[0-~]"
)
_SCRIPT: Final = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^<>]*>")


def printable(text: str) -> str:
    """`text` in one line: terminal escapes are removed, runs of what cannot be printed become one space.

    Not printable are control characters, newlines, and the format characters that reorder or hide text.
    """
    if text.isascii() and text.isalnum():
        return text
    text = _ESCAPE_SEQUENCE.sub("", text)
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())


def bounded(text: str, longest: int = LONGEST_DETAIL) -> str:
    """`text`, cut to `longest` characters with an ellipsis where it is longer."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def words_of(body: bytes) -> str:
    """What a reply's body says, not yet cleaned: a JSON error's messages, an HTML page's title, or its text."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
        return _html_words(text) if text.lstrip("\ufeff \t\r\n").startswith("<") else text
    if isinstance(said, dict) and isinstance(said.get("detail"), str):
        return str(said["detail"])
    return "; ".join(_flattened(said, 0))


def _flattened(said: Any, depth: int) -> Iterator[str]:
    """The messages in a JSON value, each after the names of the fields that lead to it."""
    if depth == _DEEPEST:
        yield "…"
    elif isinstance(said, dict):
        for name, below in said.items():
            yield f"{name}: {', '.join(_flattened(below, depth + 1))}"
    elif isinstance(said, list):
        for below in said:
            yield from _flattened(below, depth + 1)
    else:
        yield said if isinstance(said, str) else json.dumps(said)


def _html_words(page: str) -> str:
    lowered = page.lower()
    # `find` and not a pattern: a page of unclosed tags would take a pattern quadratic time.
    start = lowered.find(">", lowered.find("<title")) + 1 if "<title" in lowered else 0
    end = lowered.find("</title", start)
    if start and end > start and page[start:end].strip():
        return html.unescape(page[start:end])
    return html.unescape(_TAG.sub(" ", _SCRIPT.sub(" ", page[:_HTML_READ])))
