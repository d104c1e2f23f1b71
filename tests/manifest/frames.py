"""The rows of a manifest as a table to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fleetops.model import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetops.manifest.table import Cells, Rows


def frame_of(rows: Rows) -> pd.DataFrame:
    """A row for each row, with what it says and what its device is."""
    return pd.DataFrame(
        {
            "serial_number": rows.serials[rows.device_of],
            "operation": [OPERATIONS[code].value for code in rows.operation_of],
            "group": rows.groups[rows.device_of],
            "settle_ns": rows.settle_ns,
            "note": "" if rows.note is None else rows.note,
            "line": rows.line,
        }
    )


def lists_of(columns: Mapping[str, Cells]) -> dict[str, list[str]]:
    """Columns as lists by their names."""
    return {name: cells.tolist() for name, cells in columns.items()}
