from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from importlib.resources import files

from fleetops.page import Chart, Facts, Notes, Page, Part, Section, Source, Table, Text, render_page

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\u2028"
TABLE = Table("figures", ("at", "count"), [("a", 1_234), ("b", 0.5)], folded=True, left_out=2)


class Read(HTMLParser):
    """Elements, texts, and whether every element is closed where it has to be."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def chart(title: str) -> Chart:
    option = {"xAxis": {"type": "category", "data": [NASTY]}, "yAxis": {"type": "value"}, "series": []}
    return Chart(title, NASTY, option, TABLE)


def page(*parts: Part) -> str:
    return render_page(Page(NASTY, NASTY, [Section(NASTY, parts)], NASTY))


def read(text: str) -> Read:
    parser = Read()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_no_text_becomes_markup() -> None:
    nasty: list[Part] = [
        Text(NASTY),
        Facts([(NASTY, NASTY)]),
        Notes([(NASTY, NASTY), ("plain", "")]),
        Source(NASTY, NASTY),
    ]
    table = Table(NASTY, (NASTY,), [(NASTY,)])
    parser = read(page(*nasty, table, chart(NASTY)))
    tags = [tag for tag, _ in parser.elements]
    assert "img" not in tags
    assert tags.count("script") == 3
    assert parser.texts.count(NASTY) > 8


def test_scripts_are_allowed_by_their_digest_alone() -> None:
    text = page(chart("one"))
    policy = next(str(attrs["content"]) for tag, attrs in read(text).elements if tag == "meta" and "content" in attrs)
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        assert f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy


def test_nothing_is_fetched() -> None:
    for tag, attrs in read(page(chart("one"))).elements:
        assert "src" not in attrs, tag
        assert str(attrs.get("href", "#")).startswith(("#", "data:")), tag


def test_the_chart_library_is_the_published_file() -> None:
    data = files("fleetops.page").joinpath("echarts.common.min.js").read_bytes()
    published = "61f13280aba3161f77fc801bf5f9c786f55f10432153a0683fc5cc0700b013d5"
    assert hashlib.sha256(data).hexdigest() == published
    assert b'.version="6.1.0"' in data


def test_a_page_without_charts_has_no_scripts() -> None:
    text = page(Text("plain"))
    assert "<script" not in text
    assert "script-src 'none'" in text


def test_chart_options_are_embedded_as_they_are() -> None:
    text = page(chart("one"), chart("two"))
    embedded = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    charts = json.loads(embedded[1])
    assert [one["option"]["xAxis"]["data"] for one in charts] == [[NASTY], [NASTY]]


def test_tables_say_what_their_rows_and_columns_are_about() -> None:
    text = page(TABLE)
    assert '<th scope="col" class="number">count</th>' in text
    assert '<th scope="row">a</th><td class="number">1,234</td>' in text
    assert '<td class="number">0.5</td>' in text
    assert "and 2 more" in text
    assert "<summary>figures: 2 rows</summary>" in text
    assert '<th scope="col" class="text">x</th>' in page(Table("empty", ("x",), []))
