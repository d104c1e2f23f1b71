"""The formats of a report, one file each: a function that writes a run's report to a stream."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """How a report is written."""

    CSV = "csv"
    JSON = "json"
    JUNIT = "junit"
    HTML = "html"
    MANIFEST = "manifest"
