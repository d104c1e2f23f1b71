"""What pages that follow a run have to be told: of each piece and of each row, since which version it is as it is."""

from __future__ import annotations

import json
import secrets
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetops.journal.views import RunState, RunView
from fleetops.page import Panel, render_page, render_pieces
from fleetops.report.frame import SLICE, report_slices
from fleetops.report.html import base_ms, changing_cells, read_rows, report_page, rows_panel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from fleetops.journal import StateDir
    from fleetops.report.frame import Slice

MOST_ROWS: Final = 20_000
"""Rows in one message."""

_OVERLAP_NS: Final = 10_000_000_000
"""What is noted together may be written in two commits; so much of what was seen before is looked at again."""

_NEWEST: Final = """
SELECT max(coalesce((SELECT max(max(intent_ns), coalesce(max(answered_ns), 0)) FROM attempt), 0),
           coalesce((SELECT max(finished_ns) FROM result), 0))
"""
_TOUCHED: Final = """
SELECT DISTINCT step / :slice FROM (
    SELECT step FROM attempt WHERE intent_ns >= :since_ns OR answered_ns >= :since_ns
    UNION ALL SELECT step FROM result WHERE finished_ns >= :since_ns)
"""
_NO_ROWS: Final = Panel("", "", "", {})

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Follower:
    """A run as pages show it. It is for one thread at a time.

    A version is written `EPOCH-NUMBER`. The epoch is this object's own: to a page of another one, such as of a server
    that has ended since, everything is news.
    """

    def __init__(self, state: StateDir, run_id: str) -> None:
        self._state = state
        self._run_id = run_id
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._pieces: dict[tuple[str, int], str] = {}
        self._changed: dict[tuple[str, int], int] = {}
        self._rows: list[str] = []
        self._row_changed: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._standing: tuple[RunState, int] | None = None
        self._newest_ns = 0
        self._touched: set[int] = set()
        self._stamp: object = None

    @property
    def version(self) -> str:
        """The version of what was last seen."""
        return f"{self._epoch}-{self._number}"

    def page(self) -> str:
        """The page as the run stands now.

        Raises:
            UsageError: There is no such run.
            JournalError: Its journal cannot be read.
        """
        with RunView.open(self._state, self._run_id) as view:
            slices = read_rows(view)
            self._number += 1
            self._take(view, slices)
            live = Panel(
                markup=_asset("live.html"),
                style=_asset("live.css"),
                script=_asset("live.js"),
                data={"live-data": {"version": self.version, "going": view.live}},
            )
            return render_page(report_page(view, rows_panel(view, slices), live=live))

    def look(self) -> None:
        """See what has changed.

        Raises:
            UsageError: There is no such run any more.
            JournalError: Its journal cannot be read.
        """
        stamp = self._stamp_of_files()
        with RunView.open(self._state, self._run_id) as view:
            if not view.live and stamp == self._stamp:
                return
            self._number += 1
            if view.live and (view.state, len(view.processes)) == self._standing:
                numbers = self._to_read(view)
                slices = list(report_slices(view, note=False, numbers=sorted(numbers)))
            else:
                slices = list(report_slices(view, note=False))
            self._take(view, slices)
        self._stamp = stamp

    def since(self, version: str) -> Iterator[str]:
        """The messages that bring a page of that version up to `version`, as JSON; none where nothing has changed."""
        epoch, _, number = version.partition("-")
        known = int(number) if epoch == self._epoch and number.isdecimal() else -1
        news = {key: text for key, text in self._pieces.items() if self._changed[key] > known}
        rows = np.flatnonzero(self._row_changed > known).tolist()
        for first in range(0, len(rows) or bool(news), MOST_ROWS):
            texts = [self._rows[row] for row in rows[first : first + MOST_ROWS]]
            pieces = ",".join(f"[{_encode(kind)},{at},{text}]" for (kind, at), text in news.items())
            yield f'{{"pieces":[{pieces}],"rows":[{",".join(texts)}]}}'
            news = {}

    def _stamp_of_files(self) -> object:
        path = self._state.journal_path(self._run_id)
        found = []
        for one in (path, path.with_name(f"{path.name}-wal")):
            try:
                stat = one.stat()
            except OSError:
                continue
            if stat.st_size:  # an empty -wal comes and goes with whoever reads
                found.append((stat.st_mtime_ns, stat.st_size))
        return found

    def _to_read(self, view: RunView) -> set[int]:
        """The slices in which something has happened lately, and those that were read for it the last time."""
        since_ns = self._newest_ns - _OVERLAP_NS
        with view.reading() as reader:
            touched = {number for (number,) in reader.execute(_TOUCHED, {"slice": SLICE, "since_ns": since_ns})}
        before, self._touched = self._touched, touched
        return touched | before

    def _take(self, view: RunView, slices: Sequence[Slice]) -> None:
        with view.reading() as reader:
            (self._newest_ns,) = reader.execute(_NEWEST).fetchone()
        self._standing = view.state, len(view.processes)
        if len(self._rows) != view.steps:
            self._rows = [""] * view.steps
            self._row_changed = np.zeros(view.steps, dtype=np.int64)
        for rows in slices:
            self._take_rows(rows, base_ms(view))
        made = render_pieces(report_page(view, _NO_ROWS, live=_NO_ROWS))
        texts = {("lead", 0): _encode(made.lead), ("going", 0): _encode(view.live)}
        # The first section has the panel of this page's own; it is sent without, and put around it.
        texts |= {("section", at): _encode(text) for at, text in enumerate(made.sections)}
        texts |= {("chart", at): text for at, text in enumerate(made.charts)}
        for key, text in texts.items():
            if self._pieces.get(key) != text:
                self._pieces[key] = text
                self._changed[key] = self._number

    def _take_rows(self, rows: Slice, base: int) -> None:
        for row, cells in zip(rows.columns["row"], changing_cells(rows, base), strict=True):
            text = _encode([row - 1, *cells])
            if self._rows[row - 1] != text:
                self._rows[row - 1] = text
                self._row_changed[row - 1] = self._number


@cache
def _asset(name: str) -> str:
    return files("fleetops.live").joinpath(name).read_text(encoding="utf-8")
