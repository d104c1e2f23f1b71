"""TOML, read by the standard library; where its keys stand is found by a scan of the lines."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from fleetops.documents.document import DEEPEST, Document, Place
from fleetops.documents.wording import refusal

LARGEST_TOML: Final = 1 << 18
"""Bytes. The parser takes quadratic time for some input."""
_LONGEST_LINE: Final = 1 << 14

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_DOTTED: Final = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_TABLE: Final = re.compile(rf"[ \t]*\[[ \t]*({_DOTTED})[ \t]*\]")
_ASSIGNMENT: Final = re.compile(rf"([ \t]*)({_DOTTED})[ \t]*=[ \t]*")
_PART: Final = re.compile(_KEY)
_AT: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def parse_toml(data: bytes, source: str) -> Document:
    """The document in UTF-8 text.

    Raises:
        InvalidInputError: It is not TOML, or is too deep or has lines too long to be a policy.
    """
    text = data.decode("utf-8")
    lines = text.splitlines()
    for number, written in enumerate(lines, 1):
        if len(written) > _LONGEST_LINE:
            raise refusal("too-large", f"the line is longer than {_LONGEST_LINE:,} characters", source, number, 1)
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # tomllib's own, and Python's for numbers of thousands of digits
        at = _AT.search(str(error))
        line = int(at[1] or len(lines)) if at else None
        column = int(at[2]) if at and at[2] else None
        what = str(error)[: at.start()] if at else str(error)
        hint = "text is in quotes, and every key is there once"
        raise refusal("bad-toml", f"not valid TOML: {what[:1].lower()}{what[1:]}", source, line, column, hint) from None
    except RecursionError:
        raise _too_deep(source) from None
    if _deeper_than(values, DEEPEST):
        raise _too_deep(source)
    return Document(source, values, _places(lines))


def _too_deep(source: str) -> Exception:
    return refusal("too-deep", f"there are more than {DEEPEST} levels inside one another", source)


def _deeper_than(value: Any, levels: int) -> bool:
    if levels < 0:
        return True
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_deeper_than(part, levels - 1) for part in inside)


def _places(lines: list[str]) -> Place:
    """Where keys are set at the start of a line; the keys of inline tables count as their table's."""
    root = Place(1, 1, (1, 1), {})
    table = root
    for number, line in enumerate(lines, 1):
        if header := _TABLE.match(line):
            table = _set(root, header[1], Place(number, header.start(1) + 1, (number, header.start(1) + 1), {}))
        elif assignment := _ASSIGNMENT.match(line):
            place = Place(number, assignment.end() + 1, (number, assignment.start(2) + 1), {})
            _set(table, assignment[2], place)
    return root


def _set(table: Place, dotted: str, place: Place) -> Place:
    *parents, last = (part.strip("\"'") for part in _PART.findall(dotted))
    for parent in parents:
        table = _inside(table, parent, place)
    return _inside(table, last, place)


def _inside(table: Place, key: str, place: Place) -> Place:
    below = table.below
    return below.setdefault(key, place._replace(below={})) if isinstance(below, dict) else table
