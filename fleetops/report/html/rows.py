"""Every row of a report as compact columns of JSON, and the table of the page that shows them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from fleetops.page import Panel
from fleetops.report.cells import FORMULA_MARKS
from fleetops.report.formats.manifest_file import HARMLESS, manifest_names, own_settle_times
from fleetops.report.frame import NOTE, has_notes, names_of, report_slices

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fleetops.journal.views import RunView
    from fleetops.model import Outcome
    from fleetops.report.frame import Slice

CHANGING: Final = (
    "outcome",
    "reason",
    "http_status",
    "operation_id",
    "attempts",
    "first_sent_at",
    "finished_at",
    "duration_s",
    "detail",
)
"""The columns whose cells change while a run goes on."""

_MOST_DETAIL_CHARACTERS: Final = 4_000_000
_SHORT_DETAIL: Final = 40
_TIMES: Final = frozenset({"first_sent_at", "finished_at"})
_NUMBERS: Final = frozenset({"row", "http_status", "attempts", "duration_s"}) | _TIMES


def read_rows(view: RunView, outcomes: Collection[Outcome] | None = None) -> list[Slice]:
    """The rows that have one of the outcomes, with all that `rows_panel` needs; None for all.

    Raises:
        JournalError: The journal is damaged.
    """
    return list(report_slices(view, outcomes, note=has_notes(view), settle=True))


def rows_panel(view: RunView, slices: Sequence[Slice]) -> Panel:
    """The table of the rows that `read_rows` gave."""
    note = has_notes(view)
    columns: dict[str, dict[str, object]] = {}
    for name in ("row", "serial_number", "operation", "group", *CHANGING, *([NOTE] if note else [])):
        cells = _joined([one.columns[name] for one in slices])
        if name in _NUMBERS:
            columns[name] = {"steps": _by_steps(_numbers(name, cells, base_ms(view)))}
        else:
            columns[name] = _texts(_bounded(cells) if name == "detail" else cells)
    settle = [own_settle_times(one.columns["operation"], one.columns["settle_ns"], view.policy) for one in slices]
    columns["settle"] = _texts(_joined(settle))
    carried = [_texts(_joined([one.carried[at] for one in slices])) for at in range(len(view.facts.carried_columns))]
    data = {
        "run_id": view.facts.run_id,
        "base_ms": base_ms(view),
        "changing": CHANGING,
        "columns": columns,
        "carried": carried,
        "csv": names_of(view, note=note),
        "manifest": manifest_names(view, note=note),
        "formula_marks": "".join(FORMULA_MARKS),
        "harmless": HARMLESS,
    }
    return Panel(
        markup=_asset("rows.html"), style=_asset("rows.css"), script=_asset("rows.js"), data={"rows-data": data}
    )


def changing_cells(rows: Slice, base: int) -> list[list[Any]]:
    """The cells of `CHANGING` of each row of a slice, as the page's script takes them.

    Args:
        rows: The rows.
        base: `base_ms` of the run.
    """
    columns = [
        _numbers(name, cells, base) if name in _NUMBERS else cells
        for name, cells in ((name, rows.columns[name]) for name in CHANGING)
    ]
    return [list(cells) for cells in zip(*columns, strict=True)]


def base_ms(view: RunView) -> int:
    """What the times of a page count from, in milliseconds since the epoch."""
    return view.facts.created_ns // 1_000_000


def _joined(parts: Sequence[Sequence[Any]]) -> list[Any]:
    return list(chain.from_iterable(parts))


def _numbers(name: str, cells: Sequence[Any], base: int) -> list[int | None]:
    """Numbers as integers: times in milliseconds from the base, durations in milliseconds."""
    if name in _TIMES:
        moments = np.array([cell[:-1] or "NaT" for cell in cells], dtype="datetime64[ms]")
        return [None if at is None else at - base for at in _milliseconds(moments)]
    if name == "duration_s":
        return [None if cell is None else round(cell * 1000) for cell in cells]
    return list(cells)


def _by_steps(numbers: Sequence[int | None]) -> list[int | None]:
    """Numbers as the difference to the one before: times and rows are half as long that way."""
    before, steps = 0, []
    for number in numbers:
        steps.append(None if number is None else number - before)
        before = before if number is None else number
    return steps


def _milliseconds(moments: Any) -> list[int | None]:
    known = ~np.isnat(moments)
    counted = moments.astype(np.int64).astype(object)
    counted[~known] = None
    whole: list[int | None] = counted.tolist()
    return whole


def _texts(cells: Sequence[str]) -> dict[str, object]:
    """Texts as the different ones, and which of them each row has; as they are where most are different."""
    codes, values = pd.factorize(np.array(cells, dtype=object))
    if len(values) * 2 > len(cells):
        return {"values": cells}
    return {"values": values.tolist(), "codes": codes.tolist()}


def _bounded(details: Sequence[str]) -> Sequence[str]:
    """Details that are cut where all of them, each counted once, would make the page too large to open."""
    if sum(map(len, set(details))) <= _MOST_DETAIL_CHARACTERS:
        return details
    return [text if len(text) <= _SHORT_DETAIL else f"{text[:_SHORT_DETAIL]}..." for text in details]


@cache
def _asset(name: str) -> str:
    return files("fleetops.report.html").joinpath(name).read_text(encoding="utf-8")
