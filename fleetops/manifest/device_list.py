"""The files that `devices_from` names: CSV with a column of serial numbers, or one serial number in each line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetops.errors import Problem, Problems, Severity
from fleetops.manifest.csv_file import header_names, read_table
from fleetops.manifest.table import column_of
from fleetops.manifest.yaml_file import Devices

if TYPE_CHECKING:
    from fleetops.manifest.table import Table

_SERIAL: Final = "serial_number"


def read_devices(data: bytes, source: str, problems: Problems) -> Devices:
    """The devices in UTF-8 text, each with its group and other columns where it is CSV.

    Raises:
        InvalidInputError: Nothing can be made of the file as a whole.
    """
    first = header_names(data, source)
    has_header = any(column_of(name) == _SERIAL for name in first)
    if not has_header and len(first) == 1:
        # With this header it is CSV of one column; the header's line is then counted off again.
        table = read_table(b"serial_number\n" + data, source, problems, required=(_SERIAL,))
        return _devices(table, lines_above=1)
    table = read_table(data, source, problems, required=(_SERIAL,))
    for column in ("operation", "settle", "note"):
        if column in table.cells:
            message = f"the column {column} of a list of devices is not used: the sequence says what is done"
            hint = "remove it, or make the file the manifest"
            problems.add(Problem(Severity.WARNING, "unused-column", message, source, hint=hint))
    return _devices(table)


def _devices(table: Table, lines_above: int = 0) -> Devices:
    def locate(row: int, column: str) -> tuple[str, int | None, int | None]:
        file, line, at = table.locate(row, column)
        return file, None if line is None else line - lines_above, at

    return Devices(table.cells[_SERIAL], table.line - lines_above, locate, table.cells.get("group"), table.carried)
