"""Pages as HTML: every text escaped, scripts allowed by their digest alone, and no network."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fleetops.page.parts import Chart, Facts, Notes, Panel, Source, Table, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetops.page.parts import Page, Part, Section

_LIBRARY: Final = "echarts.common.min.js"


def render_page(page: Page) -> str:
    """The page as one HTML document."""
    return "\n".join(_Rendering(page).lines()) + "\n"


@dataclass(frozen=True, slots=True)
class Pieces:
    """What changes in a page whose figures change.

    Attributes:
        lead: The line under the title.
        sections: Each section as HTML.
        charts: The option of each chart, as JSON.
    """

    lead: str
    sections: tuple[str, ...]
    charts: tuple[str, ...]


def render_pieces(page: Page) -> Pieces:
    """The changing pieces of a page, to be put in the place of those of one with the same sections and charts."""
    return _Rendering(page).pieces()


@cache
def _asset(name: str) -> str:
    return files("fleetops.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _library_source() -> str:
    return _source(_asset(_LIBRARY))


def _source(script: str) -> str:
    """How a content security policy allows a script by its digest."""
    return f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _embedded(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class _Rendering:
    """One page while it is written."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._charts: list[dict[str, object]] = []
        self._panels: list[Panel] = []

    def pieces(self) -> Pieces:
        page = self._page
        sections = tuple("\n".join(self._section(section, number)) for number, section in enumerate(page.sections))
        return Pieces(page.lead, sections, tuple(_embedded(chart["option"]) for chart in self._charts))

    def lines(self) -> Iterator[str]:
        page = self._page
        sections = [line for number, section in enumerate(page.sections) for line in self._section(section, number)]
        scripts = [*([_asset("page.js")] if self._charts else []), *(panel.script for panel in self._panels)]
        allowed = [*([_library_source()] if self._charts else []), *map(_source, scripts)] or ["'none'"]
        connect = "connect-src 'self'; " if page.connects else ""
        yield "<!doctype html>"
        yield '<html lang="en">'
        yield "<head>"
        yield '<meta charset="utf-8">'
        yield (
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            f"style-src 'unsafe-inline'; {connect}script-src {' '.join(allowed)}; "
            "base-uri 'none'; form-action 'none'\">"
        )
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield '<meta name="referrer" content="no-referrer">'
        yield '<link rel="icon" href="data:,">'
        yield f"<title>{escape(page.title)}</title>"
        yield f"<style>\n{_asset('page.css')}</style>"
        yield from (f"<style>\n{panel.style}</style>" for panel in self._panels)
        yield "</head>"
        yield "<body>"
        yield '<a class="skip" href="#content">Skip to the content</a>'
        yield f'<header><h1>{escape(page.title)}</h1><p id="lead">{escape(page.lead)}</p></header>'
        yield '<nav aria-label="On this page"><ul>'
        for number, section in enumerate(page.sections):
            yield f'<li><a href="#part-{number}">{escape(section.title)}</a></li>'
        yield "</ul></nav>"
        yield '<main id="content" tabindex="-1">'
        yield from sections
        yield "</main>"
        yield f"<footer><p>{escape(page.footer)}</p></footer>"
        if self._charts:
            yield f'<script type="application/json" id="charts">{_embedded(self._charts)}</script>'
            yield f"<script>{_asset(_LIBRARY)}</script>"
        for panel in self._panels:
            for name, value in panel.data.items():
                yield f'<script type="application/json" id="{name}">{_embedded(value)}</script>'
        yield from (f"<script>{script}</script>" for script in scripts)
        yield "</body>"
        yield "</html>"

    def _section(self, section: Section, number: int) -> Iterator[str]:
        yield f'<section aria-labelledby="part-{number}"><h2 id="part-{number}">{escape(section.title)}</h2>'
        for part in section.parts:
            yield from self._part(part)
        yield "</section>"

    def _part(self, part: Part) -> Iterator[str]:
        match part:
            case Text():
                yield f"<p>{escape(part.text)}</p>"
            case Facts():
                yield "<dl>"
                for term, what in part.pairs:
                    yield f"<div><dt>{escape(term)}</dt><dd>{escape(what)}</dd></div>"
                yield "</dl>"
            case Notes():
                yield "<ul>"
                for text, hint in part.items:
                    more = f'<br><span class="hint">{escape(hint)}</span>' if hint else ""
                    yield f"<li>{escape(text)}{more}</li>"
                yield "</ul>"
            case Table():
                yield from _table(part)
            case Source():
                yield f"<details><summary>{escape(part.title)}</summary>"
                yield f'<pre tabindex="0">{escape(part.text)}</pre></details>'
            case Chart():
                yield from self._chart(part)
            case Panel():
                self._panels.append(part)
                yield part.markup

    def _chart(self, chart: Chart) -> Iterator[str]:
        number = len(self._charts)
        self._charts.append({"option": chart.option, "description": chart.description})
        yield f'<figure><figcaption id="chart-{number}-title">{escape(chart.title)}</figcaption>'
        yield f"<p>{escape(chart.description)}</p>"
        yield (
            f'<div class="chart" id="chart-{number}" style="height: {chart.height_px}px" role="img" tabindex="0" '
            f'aria-labelledby="chart-{number}-title" aria-describedby="chart-{number}-keys"></div>'
        )
        yield (
            f'<p class="keys" id="chart-{number}-keys">The arrow keys read the figures out, one after another; '
            "the table has them all.</p>"
        )
        yield f'<output for="chart-{number}" aria-live="polite"></output>'
        yield from _table(chart.table)
        yield "</figure>"


def _table(table: Table) -> Iterator[str]:
    caption = escape(table.caption)
    if table.folded:
        yield f"<details><summary>{caption}: {len(table.rows):,} rows</summary>"
    # A table that is wider than the screen is scrolled by itself, also by keyboard.
    yield f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table><caption>{caption}</caption>'
    yield f"<thead><tr>{_headings(table)}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        yield f"<tr>{_cells(row)}</tr>"
    yield "</tbody></table>"
    if table.left_out:
        yield f"<p>and {table.left_out:,} more</p>"
    yield "</div>"
    if table.folded:
        yield "</details>"


def _headings(table: Table) -> str:
    first = table.rows[0] if table.rows else table.header
    numeric = [not isinstance(value, str) and at > 0 for at, value in enumerate(first)]
    return "".join(
        f'<th scope="col" class="{"number" if right else "text"}">{escape(name)}</th>'
        for name, right in zip(table.header, numeric, strict=True)
    )


def _cells(row: Sequence[str | float]) -> str:
    first, *others = row
    return f'<th scope="row">{_cell(first)}</th>' + "".join(
        f"<td>{cell}</td>" if isinstance(value, str) else f'<td class="number">{cell}</td>'
        for value, cell in ((value, _cell(value)) for value in others)
    )


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
