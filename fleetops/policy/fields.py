"""How the values that people write in a policy become the types that the rules work with, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from fleetops.policy.budget import Budget, format_percent, parse_budget, parse_percent_ppm
from fleetops.policy.units import Rate, format_duration, parse_duration_ns, parse_rate
from fleetops.policy.waves import Gate, Reach, Waves, parse_gate, parse_waves
from fleetops.policy.window import Window, parse_window

if TYPE_CHECKING:
    from collections.abc import Callable

Parsed = TypeVar("Parsed")


class Settings(BaseModel):
    """What every part of a policy has in common: it does not change, and knows all of its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True)


def _text_or(kind: type[Parsed], parse: Callable[[str], Parsed]) -> Callable[[object], object]:
    """Reads text, and leaves alone what has been read already."""

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r:.40} is not text")  # noqa: TRY004 - pydantic expects it
        return parse(value)

    return read


def _some_of(kind: type[Parsed], parse: Callable[[str], Parsed]) -> Callable[[object], object]:
    """Reads one text or a list of them; None is none at all."""
    one = _text_or(kind, parse)

    def read(value: object) -> object:
        if value is None:
            return ()
        return tuple(map(one, value)) if isinstance(value, list | tuple) else (one(value),)

    return read


def _texts(values: tuple[object, ...]) -> list[str]:
    return [str(value) for value in values]


def _text_or_texts(description: str, examples: list[str]) -> WithJsonSchema:
    text: dict[str, Any] = {"type": "string", "examples": examples}
    return WithJsonSchema({"anyOf": [text, {"type": "array", "items": text}], "description": description})


Duration = Annotated[
    int,
    BeforeValidator(parse_duration_ns),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h)?\s*)+$"},
                {"type": "number", "minimum": 0},
            ],
            "description": "500ms, 90s, 2m, 1h, 1h30m, or a number of seconds.",
        }
    ),
]
"""Nanoseconds inside, `90s` outside."""


def _read_rate(value: object) -> object:
    return value if isinstance(value, Rate) else parse_rate(value)  # type: ignore[arg-type]  # it refuses what it cannot read


RateSetting = Annotated[
    Rate,
    BeforeValidator(_read_rate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(/\s*[smh])?\s*$"},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "description": "20/s, 90/m, 500/h, or a number per second.",
        }
    ),
]

Windows = Annotated[
    tuple[Window, ...],
    BeforeValidator(_some_of(Window, parse_window)),
    PlainSerializer(_texts, return_type=list[str]),
    _text_or_texts("When operations may be started.", ["02:00-05:00 Europe/Madrid", "sat,sun 22:00-04:00 UTC"]),
]

Budgets = Annotated[
    tuple[Budget, ...],
    BeforeValidator(_some_of(Budget, parse_budget)),
    PlainSerializer(_texts, return_type=list[str]),
    _text_or_texts("How much may go wrong before the run stops.", ["failed>5% after 100", "consecutive>10"]),
]


def _read_waves(value: object) -> object:
    if value is None or isinstance(value, Waves):
        return value
    return parse_waves(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


WaveSizes = Annotated[
    Waves | None,
    BeforeValidator(_read_waves),
    PlainSerializer(lambda waves: None if waves is None else str(waves), return_type=str | None),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "examples": ["1%,10%,100%", "5,50,all"]},
                {"type": "array", "items": {"type": ["string", "integer"]}},
                {"type": "null"},
            ],
            "description": "How many devices are let in by the end of each wave.",
        }
    ),
]

WaveGate = Annotated[
    Gate,
    BeforeValidator(_text_or(Gate, parse_gate)),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["failed<=2%, unknown<=1%, after 50, soak 10m"]}),
]


def _read_cap(value: object) -> object:
    if value is None or isinstance(value, Reach):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Reach(count=value)
    text = str(value).strip()
    if text.isdecimal() and int(text):
        return Reach(count=int(text))
    if text.endswith("%"):
        return Reach(share_ppm=parse_percent_ppm(text))
    raise ValueError(f"{text[:40]!r} is not a cap: write a number of devices such as 2, or a share such as 5%")


def cap_of(cap: Reach, devices: int) -> int:
    """How many devices of a group of so many may be disturbed at once: a share is rounded down, but never to none."""
    if cap.share_ppm is not None:
        return max(1, devices * cap.share_ppm // 1_000_000)
    return cap.count or 1


def format_cap(cap: Reach | None) -> str | None:
    """A cap as it is written."""
    if cap is None:
        return None
    return format_percent(cap.share_ppm) if cap.share_ppm is not None else str(cap.count)


GroupCap = Annotated[
    Reach | None,
    BeforeValidator(_read_cap),
    PlainSerializer(format_cap, return_type=str | None),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\s*(\d+|\d+(\.\d+)?\s*%)\s*$"},
                {"type": "null"},
            ],
        }
    ),
]


def _read_pattern(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a pattern is text")  # noqa: TRY004 - pydantic expects it
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Pattern = Annotated[str, BeforeValidator(_read_pattern)]


def _read_patterns(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_LIKE_A_SHELLS: Final = re.compile(r"(?<!\\)[\w-]\*")


def _check_serials_pattern(pattern: str) -> str:
    """Refuse `AB*`: as a regular expression it leaves ABC1 alone, which whoever denies it would not expect."""
    if _LIKE_A_SHELLS.search(pattern):
        raise ValueError(
            f"{pattern[:40]!r} looks like a pattern of a shell, and is a regular expression: write .* for anything"
        )
    return pattern


SerialsPattern = Annotated[Pattern, AfterValidator(_check_serials_pattern)]

Patterns = Annotated[tuple[SerialsPattern, ...], BeforeValidator(_read_patterns)]
"""Regular expressions, each for a whole serial number."""
