"""Log lines for programs: one JSON object a line on stderr, where that was asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer


class LogFormat(StrEnum):
    """How stderr is written."""

    TEXT = "text"
    JSON = "json"


LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", help="Progress for people, or a JSON object a line for each event.")
]

_format: ContextVar[LogFormat] = ContextVar("log_format", default=LogFormat.TEXT)
_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_fields")


@contextmanager
def one_log() -> Iterator[None]:
    """Have the format of the log be that of one command."""
    format_before, fields_before = _format.set(LogFormat.TEXT), _fields.set({})
    try:
        yield
    finally:
        _format.reset(format_before)
        _fields.reset(fields_before)


def log_as(log_format: LogFormat, **fields: Any) -> None:
    """From now on, write the log of this command in a format, with these fields in every line."""
    _format.set(log_format)
    _fields.set(fields)


def logs_json() -> bool:
    """Whether stderr is to be lines of JSON."""
    return _format.get() is LogFormat.JSON


def log_line(level: str, event: str, fields: Mapping[str, Any], at_ns: int | None = None) -> str:
    """An event as a line of JSON, all of it ASCII.

    Args:
        level: `info`, `warning` or `error`.
        event: What happened, in a word.
        fields: What else there is to say.
        at_ns: When it happened, in nanoseconds since the epoch; None for now.
    """
    moment = datetime.fromtimestamp((time.time_ns() if at_ns is None else at_ns) / 1e9, tz=UTC)
    at = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": at, "level": level, "event": event, **_fields.get(), **fields}, default=str)
