from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.errors import InvalidInputError, Problem, Problems
from fleetops.manifest import csv_file
from fleetops.manifest.csv_file import read_table
from tests.manifest.frames import lists_of

if TYPE_CHECKING:
    from fleetops.manifest.table import Table


def table(text: str | bytes, problems: Problems | None = None) -> Table:
    data = text.encode() if isinstance(text, str) else text
    return read_table(data, "m.csv", problems if problems is not None else Problems())


def serials(text: str) -> list[str]:
    return list(table(text).cells["serial_number"])


def hints(text: str) -> list[str | None]:
    problems = Problems()
    table(text, problems)
    return [problem.hint for problem in problems.listed]


def refused(text: str) -> list[Problem]:
    with pytest.raises(InvalidInputError) as caught:
        table(text)
    return caught.value.problems.listed


def row_problems(text: str) -> list[tuple[str, int | None, int | None]]:
    problems = Problems()
    table(text, problems)
    return [(one.code, one.line, one.column) for one in problems.listed]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_are_found(delimiter: str, end: str) -> None:
    lines = ["serial_number,operation,note", 'A1,reboot,"x, y; z\t"', "A2,sync,"]
    text = end.join(lines).replace(",", delimiter)
    rows = table(text)
    assert list(rows.cells["serial_number"]) == ["A1", "A2"]
    assert list(rows.cells["operation"]) == ["reboot", "sync"]
    assert list(rows.line) == [2, 3]


def test_a_quoted_header_does_not_mislead_the_search_for_the_delimiter() -> None:
    rows = table('"a, b, c, d, e";serial;op\nx;A1;sync\n')
    assert list(rows.cells["serial_number"]) == ["A1"]
    assert list(rows.carried) == ["a, b, c, d, e"]


@pytest.mark.parametrize("header", ["serial_number,operation", " Serial Number , OPERATION ", "serial,op", "SERIAL,Op"])
def test_names_of_columns_may_vary_in_case_and_spaces(header: str) -> None:
    assert serials(f"{header}\nA1,sync\n") == ["A1"]


def test_a_spreadsheets_sep_line_is_taken_at_its_word() -> None:
    assert serials("sep=;\r\nserial;op\r\nA1;sync\r\n") == ["A1"]


def test_other_columns_are_carried_untouched() -> None:
    carried = table('Site, serial,op,NA\n" x ",A1,sync,NULL\n,A2,sync,007\n').carried
    assert lists_of(carried) == {"Site": [" x ", ""], "NA": ["NULL", "007"]}


def test_lines_are_physical_also_after_quoted_line_ends_and_blank_lines() -> None:
    text = 'serial,op,note\r\n\r\nA1,sync,"two\r\nlines\nor ""three"""\r\n   \r\nA2,sync,\r\n'
    rows = table(text)
    assert list(rows.line) == [3, 7]
    assert list(rows.cells["note"]) == ['two\r\nlines\nor "three"', ""]


def test_a_cell_is_located_in_its_own_physical_line() -> None:
    rows = table('note,serial,op\n"a\nb ""c"", d",  A1,"sync"\n"é",A2,sync')
    assert rows.locate(0, "serial_number") == ("m.csv", 3, 15)
    assert rows.locate(0, "operation") == ("m.csv", 3, 18)
    assert rows.locate(1, "serial_number") == ("m.csv", 4, 5)


def test_rows_with_too_few_or_too_many_cells_are_reported_and_the_rest_is_read() -> None:
    text = "serial,op,note\nA1,sync\nA2,sync,x\nA3,sync,x,y\nA4,sync,z\n"
    problems = Problems()
    assert list(table(text, problems).cells["serial_number"]) == ["A2", "A4"]
    assert [(one.code, one.line, one.column) for one in problems.listed] == [
        ("too-few-cells", 2, 1),
        ("too-many-cells", 4, 11),
    ]
    assert problems.listed[0].message == "2 cells where the header has 3"


def test_ragged_rows_beyond_those_listed_are_counted() -> None:
    problems = Problems()
    table("serial,op\n" + "A1\n" * 70 + "A1,sync,x\n" * 30 + "A1,sync\n", problems)
    assert (len(problems.listed), problems.errors) == (50, 100)


def test_rows_with_nothing_in_their_cells_are_left_out_with_a_warning() -> None:
    assert row_problems('serial,op\nA1,sync\n,\n"",\nA2,sync\n') == [("empty-row", 3, 1), ("empty-row", 4, 1)]
    assert [code for code, *_ in row_problems("serial,op\n , \t\n,  \nA2,sync\n")] == ["empty-row", "empty-row"]
    assert serials("serial,op\n A1,sync\n ,sync\n  ,\n") == [" A1", " "]


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ('serial,op\nA1,sync\n"A2,sync\nA3,sync\n', "unterminated-quote", 3, 1),
        ('serial,op\nA"1,sync\n', "stray-quote", 2, 2),
        ('serial,op\n"A1"x,sync\n', "stray-quote", 2, 4),
        ('serial,op\n"A1,sync\n"A2",sync\n', "stray-quote", 3, 1),
        ('serial,op\nA1, "sync"\n', "stray-quote", 2, 5),
        ('"serial,op\n', "unterminated-quote", 1, 1),
        ("serial,op\n", "no-rows", None, None),
        ("serial,op,serial_number\nA,sync,B\n", "duplicate-column", 1, 11),
        ("serial,op,site,site\nA,sync,B,C\n", "duplicate-column", 1, 16),
        ("serial,op,\nA,sync,\nB,sync,x\n", "unnamed-column", 3, 8),
        ("A1,sync\nA2,sync\n", "missing-column", 1, 1),
        ("serial,opertion\nA2,sync\n", "missing-column", 1, 1),
        ("serial,op" + ",x" * 2000 + "\nA1,sync\n", "too-many-columns", 1, 1),
        ("serial,op\n" + "A" * (1 << 21), "line-too-long", 2, 1),
        ("sep=;\n\n", "empty-file", None, None),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_pointed_at(
    text: str, code: str, line: int | None, column: int | None
) -> None:
    found = refused(text)[0]
    assert (found.code, found.line, found.column) == (code, line, column)


def test_all_that_is_wrong_with_a_header_is_reported_at_once() -> None:
    assert [one.code for one in refused("site,site,opertion\nx,y,z\n")] == [
        "duplicate-column",
        "missing-column",
        "missing-column",
    ]


def test_a_misspelt_column_is_recognised() -> None:
    assert refused("serial,opertion\nA,sync\n")[0].hint == "is it the one called 'opertion'?"


def test_an_unnamed_column_without_text_is_left_out() -> None:
    assert list(table("serial,op,,\nA,sync,,\n").carried) == []


def test_more_lines_than_a_campaign_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "MOST_STEPS", 10)
    assert refused("serial,op\n" + "A,sync\n" * 10)[0].code == "too-many-steps"


def test_more_delimiters_or_quotes_than_can_be_meant_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "MOST_MARKS", 10)
    assert refused("serial,op\n" + "A,sync\n" * 9 + ",,,,,\n")[0].code == "too-large"
    assert refused("serial,op\n" + '"A",sync\n' * 6)[0].code == "too-large"


def test_rows_are_found_across_pieces_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_PIECE", 7)
    text = "serial,op\n" + "".join(f"A{at},sync\n" for at in range(50))
    assert serials(text) == [f"A{at}" for at in range(50)]


def test_rows_are_split_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_ROWS", 7)
    monkeypatch.setattr(csv_file, "_OFTEN", 3)
    lines = [f"A{at},{'sync' if at % 3 else chr(34) + 're,conf' + chr(34)}\n" for at in range(50)]
    rows = table("serial,op\n" + "\n".join(lines))
    assert list(rows.cells["serial_number"]) == [f"A{at}" for at in range(50)]
    assert list(rows.cells["operation"]) == ["sync" if at % 3 else "re,conf" for at in range(50)]


@pytest.mark.parametrize("few", [0, 10**6])
def test_a_single_column_is_read(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_MANY_CELLS", few)
    rows = read_table(b'serial\nA1\n\n"A2"\nA3', "m.csv", Problems(), required=("serial_number",))
    assert list(rows.cells["serial_number"]) == ["A1", "A2", "A3"]


def test_what_is_not_split_as_expected_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_split_rows", lambda text, _: text.split())
    assert refused("serial,op\nA1,sync\n")[0].code == "bad-csv"


def test_a_blank_line_does_no_harm_where_the_last_line_has_no_end() -> None:
    assert serials("serial,op\nA1,sync\n\nA2,sync") == ["A1", "A2"]


@pytest.mark.parametrize("few", [0, 10**6])
def test_a_byte_order_mark_in_a_cell_is_text(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_MANY_CELLS", few)
    assert serials("serial,op\n\ufeffA1,sync\n") == ["\ufeffA1"]


def test_a_quoted_cell_may_be_long_and_leaves_the_limit_of_the_csv_module_as_it_is() -> None:
    limit = csv.field_size_limit()
    text = "x\n" * limit
    assert list(table(f'serial,op,note\nA1,sync,"{text}"\n').cells["note"]) == [text]
    assert csv.field_size_limit() == limit


_cells = st.text(st.sampled_from('ab,;\t"\n\r é'), max_size=6)


def _written(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',;\t"\r\n') else cell


@settings(deadline=None)
@given(
    st.lists(st.tuples(_cells, _cells), min_size=1, max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from([0, 10**6]),
)
def test_what_is_written_is_read_back(
    rows: list[tuple[str, str]], delimiter: str, end: str, last: bool, few: int
) -> None:
    text, lines = delimiter.join(["serial", "op", "x"]), []
    for row in rows:
        text += end
        lines.append(text.count("\n") + text.count("\r") - text.count("\r\n") + 1)
        text += delimiter.join(["A", *map(_written, row)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "_MANY_CELLS", few)
        table_read = table(text + end * last)
    assert list(table_read.cells["operation"]) == [operation for operation, _ in rows]
    assert list(table_read.carried["x"]) == [other for _, other in rows]
    assert list(table_read.line) == lines


def test_what_is_wrong_with_a_row_that_is_too_long_is_told_from_how_it_ends() -> None:
    assert hints("serial,op\nA1,sync,\nA2,sync, ,\r\nA3,a, b\n") == [
        "remove `,` from its end",
        "remove `,` from its end",
        "put text with `,` in it in quotes",
    ]
    assert hints("serial\top\nA1\tsync\t\n") == ["remove a tab from its end"]


@pytest.mark.parametrize("header", ["serial_number|operation", "op | serial", "serial:op:note"])
def test_another_delimiter_is_named_as_what_is_wrong(header: str) -> None:
    assert refused(f"{header}\nx\n")[0].hint == "separate the columns by a comma, a semicolon or a tab"
