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
            series, or by a series' `tone`, which counts them from 0. A series of the name `""` is drawn invisibly, to
            hold others up in a stack.
        table: The same figures as a table.
        height_px: Its height on a screen.
    """

    title: str
    description: str
    option: Mapping[str, Any]
    table: Table
    height_px: int = 320


@dataclass(frozen=True, slots=True)
class Panel:
    """Something of the program's own that works by a script. Unlike the texts of other parts, its markup is obeyed.

    Attributes:
        markup: HTML, with no text from outside in it.
        style: CSS.
        script: JavaScript; it runs once the page is there.
        data: What the script finds as JSON, by the id of the element that holds it. Any text may be in it.
    """

    markup: str
    style: str
    script: str
    data: Mapping[str, object]


Part = Text | Facts | Notes | Table | Source | Chart | Panel


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
        connects: Whether its scripts may talk to the server that it comes from; else they can reach nothing.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    footer: str
    connects: bool = False
