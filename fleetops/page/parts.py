"""What a page is made of. All text is plain: markup in it is shown and not obeyed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Terms and what they are, such as `devices` and `40,000`."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Notes:
    """A list of remarks, each with a hint; an empty hint is left out."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; the first cell of a row is what the row is about.

    Attributes:
        caption: What the table shows.
        header: The names of the columns.
        rows: The cells; numbers are set to the right.
        folded: Whether it is shown only where it is opened.
        left_out: Rows that are not listed.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    folded: bool = False
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """Text to be shown as it is, such as JSON, folded away under a title."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows, in a few words.
        description: What there is to see in it, in a sentence: what somebody hears who does not see it.
        option: The chart as ECharts takes it, without functions and colours: those are the page's, by order of the
            series. A series of the name `""` is drawn invisibly, to hold others up in a stack.
        table: The same figures as a table.
        height_px: Its height on a screen.
    """

    title: str
    description: str
    option: Mapping[str, Any]
    table: Table
    height_px: int = 320


Part = Text | Facts | Notes | Table | Source | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a page."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        title: Its title.
        lead: A line under it.
        sections: What is in it.
        footer: A line at the end.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    footer: str
