"""What every kind of manifest is read into: its cells by column, and where each of them stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import numpy.typing as npt

    Cells = npt.NDArray[np.object_]
    Integers = npt.NDArray[np.int64]
    Where = tuple[str, int | None, int | None]

REQUIRED: Final = ("serial_number", "operation")
COLUMNS: Final = (*REQUIRED, "group", "settle", "note")
ALIASES: Final = {"serial": "serial_number", "op": "operation"}

LARGEST_CSV: Final = 256 << 20
"""Bytes of text; a manifest of a million steps has about thirty million."""
MOST_STEPS: Final = 5_000_000
NO_SETTLE: Final = -1
"""A row without a settle time of its own."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they are written.

    Attributes:
        cells: Text by column of `COLUMNS`, for those that are there; each has an entry per row.
        carried: The other columns by their names, with an entry per row.
        line: 1-based physical line, by row.
        locate: File, line and column of the cell in a row (by number) and a column (by name).
        serial_place: A number by row that two rows share where one word in the file gives both their serial number.
        operation_place: The same for the operation.
    """

    cells: dict[str, Cells]
    carried: Mapping[str, Cells]
    line: Integers
    locate: Callable[[int, str], Where]
    serial_place: Integers
    operation_place: Integers

    def __len__(self) -> int:
        return len(self.line)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a manifest by column, as they are understood. A device is a number, by where it is first named.

    Attributes:
        serials: Serial number by device.
        groups: Group by device, empty where it has none.
        device_of: Device by row.
        operation_of: Operation code (index into `OPERATIONS`) by row.
        settle_ns: The row's own settle time in nanoseconds; `NO_SETTLE` where it has none.
        note: Note by row; None where there are none.
        line: 1-based line, of the file that names the device, by row.
    """

    serials: Cells
    groups: Cells
    device_of: Integers
    operation_of: Integers
    settle_ns: Integers
    note: Cells | None
    line: Integers

    def __len__(self) -> int:
        return len(self.line)


def column_of(name: str) -> str | None:
    """The column that a header or a key stands for; None where it is one that is carried."""
    plain = "_".join(name.split()).casefold()
    plain = ALIASES.get(plain, plain)
    return plain if plain in COLUMNS else None


def cells_of(values: Any) -> Cells:
    """A column of text."""
    import numpy as np  # noqa: PLC0415 - it takes a while, which other commands need not pay

    cells = np.empty(len(values), dtype=object)
    cells[:] = values
    return cells
