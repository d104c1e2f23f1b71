"""Durations and rates as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from fleetops.model import NS_PER_S

_UNIT_NS: Final = {"ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S, "h": 3600 * NS_PER_S}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern}\s*)+")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/\s*(s|m|h))?")
_LONGEST_TEXT: Final = 64
LONGEST_NS: Final = 366 * 24 * 3600 * NS_PER_S


def parse_duration_ns(text: str | float) -> int:
    """A duration such as `500ms`, `90s`, `2m`, `1h30m` or a bare number of seconds, in nanoseconds.

    Raises:
        ValueError: It is not a duration, is negative, or is longer than a year.
    """
    if isinstance(text, bool):
        raise ValueError("a duration is written like 500ms, 90s, 2m or 1h")  # noqa: TRY004 - pydantic expects it
    text = (format(text, "f") if isinstance(text, float) else str(text)).strip().lower()
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"{text[:40]!r}... is not a duration: write 500ms, 90s, 2m, 1h or a number of seconds")
    if _NUMBER.fullmatch(text):
        duration_ns = round(float(text) * NS_PER_S)
    elif _DURATION.fullmatch(text):
        duration_ns = sum(round(float(number) * _UNIT_NS[unit]) for number, unit in _PART.findall(text))
    else:
        raise ValueError(f"{text[:40]!r} is not a duration: write 500ms, 90s, 2m, 1h or a number of seconds")
    if duration_ns > LONGEST_NS:
        raise ValueError(f"{text[:40]!r} is longer than a year")
    return duration_ns


def format_duration(duration_ns: int) -> str:
    """A duration in the largest unit that says it exactly, as `parse_duration_ns` reads it."""
    for unit in ("h", "m", "s", "ms"):
        if duration_ns and duration_ns % _UNIT_NS[unit] == 0:
            return f"{duration_ns // _UNIT_NS[unit]}{unit}"
    return f"{duration_ns / NS_PER_S:.9f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True, slots=True)
class Rate:
    """How many operations may be sent in a period.

    Attributes:
        count: Operations.
        unit: The period: `s`, `m` or `h`.
    """

    count: float
    unit: str = "s"

    @property
    def per_s(self) -> float:
        """Operations per second."""
        return self.count * NS_PER_S / _UNIT_NS[self.unit]

    def __str__(self) -> str:
        return f"{self.count:g}/{self.unit}"


FASTEST_PER_S: Final = 100_000
SLOWEST_PER_S: Final = 1 / 86_400


def parse_rate(text: str | float) -> Rate:
    """A rate such as `20/s`, `90/m`, `500/h`, or a bare number per second.

    Raises:
        ValueError: It is not a rate, or outside of one a day to 100,000 a second.
    """
    if isinstance(text, bool):
        raise ValueError("a rate is written like 20/s, 90/m or 500/h")  # noqa: TRY004 - pydantic expects it
    found = _RATE.fullmatch(str(text).strip().lower())
    if found is None:
        raise ValueError(f"{str(text)[:40]!r} is not a rate: write 20/s, 90/m or 500/h")
    rate = Rate(float(found[1]), found[2] or "s")
    if not SLOWEST_PER_S <= rate.per_s <= FASTEST_PER_S:
        raise ValueError(f"{str(text)[:40]!r} is not a usable rate: from one a day to {FASTEST_PER_S:,} a second")
    return rate
