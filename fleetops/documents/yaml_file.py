"""YAML as people write it, read from the parser's events: nothing is built before it is known to be small and safe.

Plain scalars follow the core schema of YAML 1.2, so `12:30`, `0x12`, `00123` and `no` are text. Where no types are
asked for every scalar is text as written, except that a plain null or nothing at all is None.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from fleetops.documents.document import DEEPEST, Document, Place
from fleetops.documents.reading import place_of
from fleetops.documents.wording import found, invalid, refusal
from fleetops.errors import Problem, Problems, Severity

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from yaml.events import Event

MOST_VALUES: Final = 500_000
"""Values in one document, those that aliases repeat included."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAGS: Final = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "int", "float", "bool", "null"))
_TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30}|(?=[eE])))(?:[eE][-+]?[0-9]{1,3})?")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]")
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_MOST_DIRECTIVES: Final = 10
_DIRECTIVE: Final = re.compile(r"^%", re.MULTILINE)


def read_yaml(data: bytes, source: str) -> Document:
    """The document in UTF-8 text, its scalars typed.

    Raises:
        InvalidInputError: With every problem that was found.
    """
    problems = Problems()
    document = parse_yaml(data, source, problems)
    if problems.errors:
        raise invalid(source, problems)
    return document


def parse_yaml(data: bytes, source: str, problems: Problems, *, typed_under: Container[str] | None = None) -> Document:
    """The document in UTF-8 text.

    Args:
        data: The text.
        source: The file as the user named it.
        problems: Takes what is wrong but does not stop reading: keys that are there twice.
        typed_under: The top-level keys below which scalars are typed; None for all of them.

    Raises:
        InvalidInputError: It is not YAML, is not one mapping, or is too large or too deep to be what it seems.
    """
    text = data.decode("utf-8")
    _refuse_unprintable(data, text, source)
    if len(_DIRECTIVE.findall(text)) > _MOST_DIRECTIVES:
        # The parser compares each directive with all before it.
        raise refusal("bad-yaml", "there are lines that begin with %", source, hint="leave out YAML directives")
    builder = _Builder(source, problems, typed_under)
    try:
        values, place = builder.root(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        message, hint = f"not valid YAML: {what}", _hint(text, mark.index)
        raise refusal("bad-yaml", message, source, mark.line + 1, mark.column + 1, hint) from None
    except yaml.YAMLError:
        raise refusal("bad-yaml", "not valid YAML", source) from None
    return Document(source, values, place)


def _refuse_unprintable(data: bytes, text: str, source: str) -> None:
    at = _UNPRINTABLE.search(text)
    if at is not None:
        raise refusal(
            "control-character",
            f"there is an unprintable character here: {found(at[0])}",
            source,
            *place_of(data, len(text[: at.start()].encode())),
            'leave it out, or write it as an escape in double quotes such as "\\x07"',
        )


def _hint(text: str, index: int) -> str:
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    if "\t" in text[start : index + 1]:
        return "indent with spaces: YAML does not take tabs"
    return "check the indentation, and put text with : # { [ or % in quotes"


class _Builder:
    """Builds values and their places from events."""

    def __init__(self, source: str, problems: Problems, typed_under: Container[str] | None) -> None:
        self._source = source
        self._problems = problems
        self._typed_under = typed_under
        self._events: Iterator[Event] = iter(())
        self._anchors: dict[str, tuple[Any, Place, int] | None] = {}
        self._count = 0

    def root(self, events: Iterator[Event]) -> tuple[dict[str, Any], Place]:
        """The one mapping that a file consists of."""
        self._events = events
        next(events)  # the stream starts
        if not isinstance(next(events), yaml.DocumentStartEvent):
            raise refusal(
                "empty-file",
                f"{found(self._source)} has nothing in it but comments",
                self._source,
                hint="take the mark off at least one line",
            )
        event = next(events)
        values, place = self._node(event, 0, typed=self._typed_under is None)
        if not isinstance(values, dict):
            raise self._refusal(
                "not-a-mapping", f"the file is {_kind(values)}, not a mapping", event, "write `key: value` lines"
            )
        next(events)  # the document ends
        if isinstance(after := next(events), yaml.DocumentStartEvent):
            raise self._refusal("many-documents", "a second document begins here", after, "keep one, without `---`")
        return values, place

    def _refusal(self, code: str, message: str, event: Event, hint: str | None = None) -> Exception:
        return refusal(code, message, self._source, *_at(event), hint)

    def _counted(self, count: int, event: Event) -> None:
        self._count += count
        if self._count > MOST_VALUES:
            raise self._refusal(
                "too-large",
                f"there are more than {MOST_VALUES:,} values, counting those that aliases repeat",
                event,
                "give the steps as CSV, or the devices in a file of their own with devices_from",
            )

    def _node(self, event: Any, depth: int, *, typed: bool, key: tuple[int, int] | None = None) -> tuple[Any, Place]:
        """The value that begins with `event`, where it stands, and its key where it has one."""
        if depth > DEEPEST:
            raise self._refusal("too-deep", f"there are more than {DEEPEST} levels inside one another", event)
        before = self._count
        self._counted(1, event)
        if isinstance(event, AliasEvent):
            value, place = self._alias(event)
            return value, place._replace(key=key or _at(event))
        tag, anchor = event.tag, event.anchor
        if tag is not None and tag not in _TAGS and tag not in _TEXT_TAGS:
            raise self._refusal("unknown-tag", f"the tag {found(tag)} is not supported", event, "leave the tag out")
        if anchor is not None:
            self._anchors[anchor] = None
        below: dict[str, Place] | list[Place] | None = None
        if isinstance(event, ScalarEvent):
            value = _typed(event) if typed else _text(event)
        elif isinstance(event, SequenceStartEvent):
            value, below = self._sequence(depth, typed=typed)
        else:
            value, below = self._mapping(depth, typed=typed)
        at = _at(event)
        place = Place(*at, key or at, below)
        if anchor is not None:
            self._anchors[anchor] = value, place, self._count - before
        return value, place

    def _alias(self, event: Any) -> tuple[Any, Place]:
        if event.anchor not in self._anchors:
            raise self._refusal("bad-yaml", f"nothing before this is anchored as {found(event.anchor)}", event)
        known = self._anchors[event.anchor]
        if known is None:
            raise self._refusal("bad-yaml", f"the alias {found(event.anchor)} is inside of what it stands for", event)
        value, place, size = known
        self._counted(size, event)
        return value, place

    def _sequence(self, depth: int, *, typed: bool) -> tuple[list[Any], list[Place]]:
        values: list[Any] = []
        places: list[Place] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            value, place = self._node(event, depth + 1, typed=typed)
            values.append(value)
            places.append(place)
        return values, places

    def _mapping(self, depth: int, *, typed: bool) -> tuple[dict[str, Any], dict[str, Place]]:
        values: dict[str, Any] = {}
        places: dict[str, Place] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key, at = self._key(event), _at(event)
            below_typed = typed or (depth == 0 and self._typed_under is not None and key in self._typed_under)
            value, place = self._node(next(self._events), depth + 1, typed=below_typed, key=at)
            if key in places:
                self._repeated(key, at, places[key].key)
            else:
                values[key], places[key] = value, place
        return values, places

    def _key(self, event: Any) -> str:
        if not isinstance(event, ScalarEvent):
            raise self._refusal("bad-key", "a key has to be a word", event, "put text with { [ or * in quotes")
        if event.value == "<<" and event.implicit[0]:
            raise self._refusal("bad-key", "merge keys (<<) are not supported", event, "write the keys out")
        self._counted(1, event)
        return event.value

    def _repeated(self, key: str, at: tuple[int, int], first: tuple[int, int]) -> None:
        self._problems.add(
            Problem(
                Severity.ERROR,
                "duplicate-key",
                f"the key {found(key)} is there twice: in line {first[0]} and in line {at[0]}",
                self._source,
                *at,
                hint="keep one of them",
            )
        )


def _at(event: Event) -> tuple[int, int]:
    mark: Any = event.start_mark
    return mark.line + 1, mark.column + 1


def _text(event: Any) -> str | None:
    """A scalar as it is written; None where it is plain and says that it is nothing."""
    text: str = event.value
    plain = event.tag not in _TEXT_TAGS and (event.implicit[0] or event.tag)
    return None if plain and text in _NULLS else text


def _typed(event: Any) -> Any:
    """A scalar by the core schema; numbers with leading zeros or of many digits stay text."""
    text = _text(event)
    if text is None or event.tag in _TEXT_TAGS or not (event.implicit[0] or event.tag):
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not _LEADING_ZERO.match(text):
        return float(text)
    return _BOOLEANS.get(text, text)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "a single value"
