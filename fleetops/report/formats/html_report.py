"""The report as one self-contained page, to be opened in a browser without a network, printed or attached to a ticket.

The figures are of the whole run; the table has the rows that were asked for. The page holds no more than the other
formats do: no token, and texts from manifests and from the service as texts alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.page import render_page
from fleetops.report.html import read_rows, report_page, rows_panel

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TextIO

    from fleetops.journal.views import RunView
    from fleetops.model import Outcome


def write_html(view: RunView, out: TextIO, outcomes: Collection[Outcome] | None) -> None:
    """Write the page, with the rows that have one of the outcomes; None for all.

    Raises:
        JournalError: The journal is damaged.
        OSError: The stream cannot be written.
    """
    only = "" if outcomes is None else f"Only steps that are {' or '.join(sorted(outcomes)).replace('_', ' ')}."
    out.write(render_page(report_page(view, rows_panel(view, read_rows(view, outcomes)), only=only)))
