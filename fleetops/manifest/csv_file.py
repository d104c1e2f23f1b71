"""CSV text to a table.

Parsers of CSV say neither which line a row was in nor all that is wrong with a file. So quotes, delimiters and line
ends are located first, as arrays of offsets; rows that do not have as many cells as the header are reported and left
out. What is left is split at its delimiters and line ends, or read by the csv module where it has quotes. Where there
is so much of it that this makes up for the time that pandas takes to start, it is left to pandas.
"""

from __future__ import annotations

import csv
import io
import re
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fleetops.documents import found, invalid, nearest, place_of, refusal
from fleetops.errors import Problem, Problems, Severity
from fleetops.manifest.table import COLUMNS, MOST_STEPS, REQUIRED, Table, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fleetops.manifest.table import Cells, Integers, Where

    Offsets = npt.NDArray[np.int32]
    Mask = npt.NDArray[np.bool_]

DELIMITERS: Final = ",;\t"
LONGEST_LINE: Final = 1 << 20
MOST_COLUMNS: Final = 1000
MOST_MARKS: Final = 50_000_000
"""Quotes, or delimiters: ten in each row of the longest manifest."""

_PIECE: Final = 1 << 24
_ROWS: Final = 1 << 14
"""So many rows are split at a time: what that takes beside what comes of it stays small."""
_OFTEN: Final = 1 << 14
"""Columns of no more different words than this, and a piece's, keep each of them once."""
_MANY_CELLS: Final = 3_000_000
_COST_OF_QUOTES: Final = 3
"""So many cells without quotes take as long to read as one with them."""
_QUOTE: Final = ord('"')
_LF: Final = ord("\n")
_CR: Final = ord("\r")
_SEP_LINE: Final = re.compile(rb"sep=(.)(?:\r\n|\r|\n)", re.IGNORECASE)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_QUOTING: Final = "put the whole cell in quotes, and write a quote inside of it twice"


def read_table(data: bytes, source: str, problems: Problems, *, required: tuple[str, ...] = REQUIRED) -> Table:
    """The rows of CSV text.

    Args:
        data: UTF-8 text without a byte order mark.
        source: The file as the user named it.
        problems: Takes what is wrong with single rows, which are left out.
        required: The columns that have to be there.

    Raises:
        InvalidInputError: Nothing can be made of the file as a whole: its header or its quotes are wrong.
    """
    layout = _Layout.of(data, source)
    header = _Header.of(layout, required)
    whole = layout.whole_rows(len(header.names), problems)
    row_of = np.flatnonzero(whole)
    cells = _parsed(layout, row_of, len(header.names))
    empty = _empty_rows(cells, layout.blank_start(row_of))
    if empty.any():
        _report_empty(layout, row_of[empty], problems)
        cells, row_of = [column[~empty] for column in cells], row_of[~empty]
    if not len(row_of) and not problems.errors:
        raise refusal("no-rows", f"{found(source)} has a header but no rows", source, hint="add a row for each step")
    carried = header.carried(cells, layout, row_of)
    return Table(
        cells={name: cells[at] for name, at in header.known.items()},
        carried=carried,
        line=layout.lines_of(row_of),
        locate=lambda row, column: layout.locate(int(row_of[row]), header.known.get(column, 0)),
        serial_place=np.arange(len(row_of)),
        operation_place=np.arange(len(row_of)),
    )


def header_names(data: bytes, source: str) -> list[str]:
    """The cells of the first row that is not blank."""
    return _Layout.of(data, source).header


class _Layout(NamedTuple):
    """Where rows and cells are. A row is what stands between line ends outside of quotes; the first is the header."""

    data: bytes
    source: str
    line_ends: Offsets
    quotes: Offsets
    starts: Integers
    ends: Integers
    delimiter: str
    header: list[str]

    @classmethod
    def of(cls, data: bytes, source: str) -> _Layout:
        if max(data.count(b"\n"), data.count(b"\r")) > MOST_STEPS:
            message = f"{found(source)} has more than {MOST_STEPS:,} lines"
            raise refusal("too-many-steps", message, source, hint="split the campaign")
        line_ends = _line_ends(data, source)
        _refuse_long_lines(line_ends, source)
        quotes = _offsets(data, _QUOTE, source)
        inside = np.searchsorted(quotes, line_ends) & 1
        ends = line_ends[inside == 0].astype(np.int64)
        if not len(ends):
            ends = np.array([len(data)])
        starts = np.concatenate([[0], ends[:-1] + 1])
        announced = _SEP_LINE.match(data)
        skipped = 1 if announced else 0
        filled = np.flatnonzero(_filled(data, starts, ends)[skipped:])
        if not len(filled):
            raise refusal("empty-file", f"{found(source)} is empty", source, hint="was it saved?")
        starts, ends = starts[filled + skipped], ends[filled + skipped]
        text = data[starts[0] : ends[0]].decode("utf-8").rstrip("\r\n")
        delimiter, header = _header(text, announced[1].decode("latin-1") if announced else None)
        layout = cls(data, source, line_ends, quotes, starts, ends, delimiter, header)
        layout.refuse_stray_quotes()
        return layout

    def refuse_stray_quotes(self) -> None:
        """Quotes open and close in turn: each that opens is the first of its cell, each that closes the last.

        A quote written twice inside of a quoted cell closes it and opens it again.
        """
        quotes = self.quotes
        if not len(quotes):
            return
        borders = np.zeros(256, dtype=bool)
        borders[[_QUOTE, _LF, _CR, ord(self.delimiter)]] = True
        text = np.frombuffer(self.data, dtype=np.uint8)
        opening, closing = quotes[::2], quotes[1::2]
        stray_opening = np.flatnonzero(~borders[text[np.maximum(opening - 1, 0)]] & (opening > 0))
        last = len(text) - 1
        stray_closing = np.flatnonzero(~borders[text[np.minimum(closing + 1, last)]] & (closing < last))
        first = min(
            (2 * int(stray[0]) + odd for odd, stray in enumerate((stray_opening, stray_closing)) if len(stray)),
            default=None,
        )
        if first is not None:
            what = "there is a quote in the middle of a cell"
            if first % 2:
                opened = place_of(self.data, int(quotes[first - 1]))[0]
                what = f"more text follows on the quote that closes the one opened in line {opened}"
            raise self._refusal("stray-quote", what, int(quotes[first]))
        if len(quotes) % 2:
            raise self._refusal("unterminated-quote", "a quote opened here is never closed", int(quotes[-1]))

    def _refusal(self, code: str, message: str, offset: int) -> Exception:
        return refusal(code, message, self.source, *place_of(self.data, offset), _QUOTING)

    def whole_rows(self, columns: int, problems: Problems) -> Mask:
        """Which rows but the header have as many cells as it; the others are problems."""
        counts = self._cell_counts()
        whole: Mask = counts == columns
        whole[0] = False
        ragged = np.flatnonzero(counts != columns)
        for row in ragged[: Problems.LISTED]:
            few = counts[row] < columns
            problems.add(
                Problem(
                    Severity.ERROR,
                    "too-few-cells" if few else "too-many-cells",
                    f"{_cells(int(counts[row]))} where the header has {columns}",
                    *self.locate(int(row), 0 if few else columns),
                    hint="is a delimiter missing?" if few else self._surplus_hint(int(row)),
                )
            )
        rest = counts[ragged[Problems.LISTED :]]
        problems.add_unlisted(Severity.ERROR, "too-few-cells", int((rest < columns).sum()))
        problems.add_unlisted(Severity.ERROR, "too-many-cells", int((rest > columns).sum()))
        return whole

    def _surplus_hint(self, row: int) -> str:
        text = self.data[self.starts[row] : self.ends[row]]
        if text.rstrip(b" \r\n").endswith(self.delimiter.encode()):
            return f"remove {_named(self.delimiter)} from its end"
        return f"put text with {_named(self.delimiter)} in it in quotes"

    def _cell_counts(self) -> Integers:
        delimiters = _offsets(self.data, ord(self.delimiter), self.source)
        if len(self.quotes):
            delimiters = delimiters[np.searchsorted(self.quotes, delimiters) & 1 == 0]
        before, after = (np.searchsorted(delimiters, border.astype(np.int32)) for border in (self.starts, self.ends))
        counts: Integers = after - before + 1
        return counts

    def lines_of(self, rows: Integers) -> Integers:
        """The physical lines that rows begin in."""
        lines: Integers = np.searchsorted(self.line_ends, self.starts[rows].astype(np.int32)).astype(np.int64) + 1
        return lines

    def blank_start(self, rows: Integers) -> Mask:
        """Which rows begin with a space, or with an empty cell."""
        first = np.frombuffer(self.data, dtype=np.uint8)[self.starts[rows]]
        blank: Mask = (first == ord(" ")) | (first == ord(self.delimiter))
        return blank

    def text_of(self, rows: Integers) -> bytes:
        """The text of rows, with their line ends."""
        starts, ends = self.starts[rows], self.ends[rows] + 1
        if (starts[1:] == ends[:-1]).all():
            return self.data[starts[0] : ends[-1]]
        places = zip(starts.tolist(), ends.tolist(), strict=True)
        return b"".join(self.data[start:end] for start, end in places)

    def locate(self, row: int, cell: int) -> Where:
        """File, line and column of a cell, where it has been asked for; of the row's end where it has fewer."""
        text = self.data[self.starts[row] : self.ends[row]].decode("utf-8")
        quoted = r'"[^"]*(?:""[^"]*)*"'
        before = re.match(rf'(?:(?:{quoted}|[^"{self.delimiter}]*){self.delimiter}){{0,{cell}}}[ ]*', text)
        prefix = text[: before.end()] if before else ""
        ends = [end.end() for end in _LINE_END.finditer(prefix)]
        line = int(self.lines_of(np.array([row]))[0]) + len(ends)
        return self.source, line, len(prefix) - (ends[-1] if ends else 0) + 1


class _Header(NamedTuple):
    """The columns by name.

    Attributes:
        names: As written.
        known: Number of the column by its name in `COLUMNS`.
    """

    names: list[str]
    known: dict[str, int]

    @classmethod
    def of(cls, layout: _Layout, required: tuple[str, ...]) -> _Header:
        names = layout.header
        problems = Problems()

        def add(code: str, message: str, at: int, hint: str) -> None:
            where = layout.locate(0, at)
            problems.add(Problem(Severity.ERROR, code, message, *where, hint=hint))

        if len(names) > MOST_COLUMNS:
            raise refusal("too-many-columns", f"there are more than {MOST_COLUMNS} columns", *layout.locate(0, 0))
        first: dict[str, int] = {}
        for at, name in enumerate(names):
            key = column_of(name) or name.strip()
            if key and first.setdefault(key, at) != at:
                message = f"the column {found(name)} is there twice: it is number {first[key] + 1} and number {at + 1}"
                add("duplicate-column", message, at, "keep one of them")
        for column in required:
            if column not in first:
                hint = _missing_hint(column, names)
                shown = ", ".join(found(name) for name in names[:10])
                add("missing-column", f"there is no column {column}; there is {shown}", 0, hint)
        if problems.errors:
            raise invalid(layout.source, problems)
        return cls(names, {name: at for name, at in first.items() if name in COLUMNS})

    def carried(self, cells: Sequence[Cells], layout: _Layout, row_of: Integers) -> dict[str, Cells]:
        """The columns that are not ours. One without a name is left out where there is nothing in it."""
        known = set(self.known.values())
        others = [at for at in range(len(self.names)) if at not in known]
        for at in [at for at in others if not self.names[at].strip()]:
            filled = np.flatnonzero(cells[at] != "")
            if len(filled):
                where = layout.locate(int(row_of[filled[0]]), at)
                raise refusal(
                    "unnamed-column", f"column {at + 1} has text but no name", *where, "name it in the header"
                )
            others.remove(at)
        return {self.names[at].strip(): cells[at] for at in others}


def _missing_hint(column: str, names: list[str]) -> str:
    if len(names) == 1 and len([word for word in re.split(r"[^\w ]+", names[0]) if column_of(word)]) > 1:
        return "separate the columns by a comma, a semicolon or a tab"
    close = nearest(column, [name for name in names if column_of(name) is None])
    return f"is it the one called {found(close)}?" if close else "the first line names the columns"


def _parsed(layout: _Layout, rows: Integers, columns: int) -> list[Cells]:
    """The cells of rows that have as many as there are columns, by column.

    Raises:
        InvalidInputError: It is not certain which cell is in which row.
    """
    cost = len(rows) * columns * (_COST_OF_QUOTES if len(layout.quotes) else 1)
    cells = (_read_by_pandas if cost > _MANY_CELLS else _read_in_pieces)(layout, rows, columns)
    if {len(rows)} != set(map(len, cells)):
        raise refusal("bad-csv", f"{found(layout.source)} is not CSV that can be read safely", layout.source)
    return cells


def _read_in_pieces(layout: _Layout, rows: Integers, columns: int) -> list[Cells]:
    cells = [np.empty(len(rows), dtype=object) for _ in range(columns)]
    words: list[dict[str, str]] = [{} for _ in range(columns)]
    for first in range(0, len(rows), _ROWS):
        piece = rows[first : first + _ROWS]
        texts = _split_rows(layout.text_of(piece).decode("utf-8"), layout.delimiter)
        if len(texts) != len(piece) * columns:
            return []
        for at, known in enumerate(words):
            column = texts[at::columns]
            if len(known) <= _OFTEN:
                column = list(map(known.setdefault, column, column))
            cells[at][first : first + len(piece)] = column
    return cells


def _read_by_pandas(layout: _Layout, rows: Integers, columns: int) -> list[Cells]:
    import pandas as pd  # noqa: PLC0415 - takes a fifth of a second

    # A header keeps pandas from taking the first cell's byte order mark for the file's.
    pieces = [layout.delimiter.encode() * (columns - 1), b"\n"]
    pieces += (layout.text_of(rows[first : first + _ROWS]) for first in range(0, len(rows), _ROWS))
    frame = pd.read_csv(
        io.BytesIO(b"".join(pieces)),
        sep=layout.delimiter,
        header=0,
        names=list(range(columns)),
        index_col=False,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        skip_blank_lines=False,
        encoding="utf-8",
        engine="c",
    )
    return [frame[at].to_numpy(dtype=object) for at in frame]


def _split_rows(text: str, delimiter: str) -> list[str]:
    """The cells of whole rows, one after the other."""
    if '"' in text:
        # A cell is as long as it is, which is bounded already; the limit is the process's, and others may count on it.
        limit = csv.field_size_limit(len(text))
        try:
            return list(chain.from_iterable(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)))
        finally:
            csv.field_size_limit(limit)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").replace("\n", delimiter).split(delimiter)


def _empty_rows(cells: Sequence[Cells], blank_start: Mask) -> Mask:
    """Which rows have nothing but spaces in their cells; `blank_start` are those that may begin so."""
    empty: Mask = np.ones(len(blank_start), dtype=bool)
    for column in cells:
        filled = column != ""
        spaces = np.flatnonzero(empty & filled & blank_start)
        filled[spaces] = [not cell.isspace() for cell in column[spaces]]
        empty &= ~filled
        if not empty.any():
            break
    return empty


def _report_empty(layout: _Layout, rows: Integers, problems: Problems) -> None:
    for row in rows[: Problems.LISTED]:
        message, hint = "a row without anything in it is left out", "remove it"
        problems.add(Problem(Severity.WARNING, "empty-row", message, *layout.locate(int(row), 0), hint=hint))
    problems.add_unlisted(Severity.WARNING, "empty-row", len(rows[Problems.LISTED :]))


def _offsets(data: bytes, byte: int, source: str) -> Offsets:
    """Where `byte` is, in memory for what is found and not for what is searched."""
    count = data.count(byte)
    if count > MOST_MARKS:
        message = f"{found(source)} has more than {MOST_MARKS:,} of the character {found(chr(byte))}"
        raise refusal("too-large", message, source, hint="leave out columns, or split the campaign")
    offsets = np.empty(count, dtype=np.int32)
    text = np.frombuffer(data, dtype=np.uint8)
    filled = 0
    for at in range(0, len(text) if count else 0, _PIECE):
        piece = np.flatnonzero(text[at : at + _PIECE] == byte)
        offsets[filled : filled + len(piece)] = piece + at
        filled += len(piece)
    return offsets


def _line_ends(data: bytes, source: str) -> Offsets:
    """The last byte of each LF, CRLF or lone CR, and the end of the text where there is none."""
    ends = _offsets(data, _LF, source)
    returns = _offsets(data, _CR, source)
    if len(returns):
        text = np.frombuffer(data, dtype=np.uint8)
        after = text[np.minimum(returns + 1, len(text) - 1)]
        ends = np.sort(np.concatenate([ends, returns[after != _LF]]))
    if data[-1] not in (_LF, _CR):
        ends = np.append(ends, np.int32(len(data)))
    return ends


def _refuse_long_lines(line_ends: Offsets, source: str) -> None:
    long = np.flatnonzero(np.diff(line_ends, prepend=np.int32(-1)) > LONGEST_LINE)
    if len(long):
        message = f"the line is longer than {LONGEST_LINE:,} bytes"
        raise refusal("line-too-long", message, source, int(long[0]) + 1, 1, "is a line end missing?")


def _filled(data: bytes, starts: Integers, ends: Integers) -> Mask:
    """Which rows have more in them than spaces and a line end."""
    text = np.frombuffer(data, dtype=np.uint8)
    space = np.zeros(256, dtype=bool)
    space[[ord(" "), _CR, _LF]] = True
    filled = ~space[text[np.minimum(starts, len(text) - 1)]]
    for row in np.flatnonzero(~filled):
        filled[row] = bool(data[starts[row] : ends[row]].strip(b" \r\n"))
    return filled


def _header(text: str, announced: str | None) -> tuple[str, list[str]]:
    """The delimiter and the header's cells: the one that gives most of the columns we know, else most columns."""
    candidates = [announced] if announced and announced in DELIMITERS else list(DELIMITERS)
    rows = [(delimiter, _split(text, delimiter)) for delimiter in candidates]
    return max(rows, key=lambda row: (sum(column_of(name) is not None for name in row[1]), len(row[1])))


def _split(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return [text]


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _named(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else f"`{delimiter}`"
