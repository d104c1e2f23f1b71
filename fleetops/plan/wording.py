"""How plans write moments and spans of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fleetops.model import NS_PER_S

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def moment(at_ns: int) -> str:
    """A moment as RFC 3339 in UTC, to the second."""
    return (_EPOCH + timedelta(seconds=round(at_ns / NS_PER_S))).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """A span of time for people: `0.42 s`, `12.3 s`, `4m 05s`, `2h 15m`, `3d 4h`."""
    if seconds < _MINUTE_S - 0.05:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m {whole % _MINUTE_S:02}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h {whole % _HOUR_S // _MINUTE_S:02}m"
    return f"{whole // _DAY_S}d {whole % _DAY_S // _HOUR_S}h"


def plain(text: str, most: int = 200) -> str:
    """Text from outside as a plan can hold it: in UTF-8, and not too long."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[:most]}..."


def counted(number: int, word: str) -> str:
    """`1 device`, `1,200 devices`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
