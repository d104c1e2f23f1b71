"""What every kind of manifest is read into: its cells by column, and where each of them stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Cells = npt.NDArray[np.object_]
    Integers = npt.NDArray[np.int64]
    Where = tuple[str, int | None, int | None]

REQUIRED: Final = ("serial_number", "operation")
COLUMNS: Final = (*REQUIRED, "group", "settle", "note")
ALIASES: Final = {"serial": "serial_number", "op": "operation"}

LARGEST_CSV: Final = 256 << 20
"""Bytes of text; a manifest of a million steps has about thirty million."""
MOST_STEPS: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they are written.

    Attributes:
        cells: Text by column of `COLUMNS`, for those that are there; each has an entry per row.
        carried: The other columns.
        line: 1-based physical line, by row.
        locate: File, line and column of the cell in a row (by number) and a column (by name).
        serial_place: A number by row that two rows share where one word in the file gives both their serial number.
        operation_place: The same for the operation.
    """

    cells: dict[str, Cells]
    carried: pd.DataFrame
    line: Integers
    locate: Callable[[int, str], Where]
    serial_place: Integers
    operation_place: Integers

    def __len__(self) -> int:
        return len(self.line)


def column_of(name: str) -> str | None:
    """The column that a header or a key stands for; None where it is one that is carried."""
    plain = "_".join(name.split()).casefold()
    plain = ALIASES.get(plain, plain)
    return plain if plain in COLUMNS else None


def cells_of(values: Any) -> Cells:
    """A column of text."""
    import numpy as np  # noqa: PLC0415 - with pandas it takes a third of a second, which other commands need not pay

    cells = np.empty(len(values), dtype=object)
    cells[:] = values
    return cells
