"""The report as CSV, for spreadsheets and scripts: UTF-8, commas, line feeds, a header.

Texts that a spreadsheet would run as a formula are neutralised (`fleetops.report.cells`), headers included.
"""

from __future__ import annotations

import csv
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from fleetops.report.cells import neutralised
from fleetops.report.frame import NUMBERS, has_notes, names_of, report_slices

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from typing import TextIO

    from fleetops.journal.views import RunView
    from fleetops.model import Outcome

_OURS: Final = frozenset({"operation", "outcome", "reason", "first_sent_at", "finished_at", "run_id"})
"""Columns whose texts are words of ours, that no spreadsheet runs."""


class _QuoteSome(csv.unix_dialect):
    """Quotes are where they have to be."""

    quoting = csv.QUOTE_MINIMAL


class _QuoteAll(csv.unix_dialect):
    """Quotes are everywhere: where rows end in line feeds, the writer does not see that carriage returns need them."""

    quoting = csv.QUOTE_ALL


def write_csv(view: RunView, out: TextIO, outcomes: Collection[Outcome] | None) -> None:
    """Write the rows that have one of the outcomes; None for all.

    Raises:
        JournalError: The journal is damaged.
        OSError: The stream cannot be written.
    """
    note = has_notes(view)
    names = names_of(view, note=note)
    write_rows(out, [neutralised([name]) for name in names])
    ours = names[: len(names) - len(view.facts.carried_columns)]
    for rows in report_slices(view, outcomes, note=note):
        write_rows(out, [*(_texts(name, rows.columns[name]) for name in ours), *map(neutralised, rows.carried)])


def _texts(name: str, cells: Sequence[Any]) -> Sequence[str]:
    if name in _OURS:
        return cells
    if name == "row":
        return list(map(str, cells))
    if name in NUMBERS:
        of = _Written().__getitem__
        return [of(cells[0])] * len(cells) if _alike(cells) else list(map(of, cells))
    return neutralised(cells)


class _Written(dict[Any, str]):
    """Numbers as they are written; most are there often."""

    def __missing__(self, number: Any) -> str:
        text = self[number] = "" if number is None else str(number)
        return text


def write_rows(out: TextIO, columns: Sequence[Sequence[str]]) -> None:
    """Write rows, given by column, as CSV."""
    alike = list(map(_alike, columns))
    text = "".join("".join(cells[:1] if same else cells) for same, cells in zip(alike, columns, strict=True))
    if any(mark in text for mark in ',"\n\r'):
        dialect = _QuoteAll if "\r" in text else _QuoteSome
        csv.writer(out, dialect).writerows(zip(*columns, strict=True))
    else:
        # Where nothing needs quoting, as is usual, this takes half the time.
        folded = _folded(alike, columns)
        out.write("\n".join(map(",".join, zip(*folded, strict=True))) + "\n")


def _alike(cells: Sequence[Any]) -> bool:
    """Whether the cells are all the same, and there are some."""
    return bool(cells and cells[0] == cells[-1] and cells.count(cells[0]) == len(cells))


def _folded(alike: Iterable[bool], columns: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The columns, with those that are beside each other and the same in each row made one."""
    at = iter(columns)
    for same, some in groupby(alike):
        together = [next(at) for _ in some]
        if same:
            yield [",".join(cells[0] for cells in together)] * len(together[0])
        else:
            yield from together
