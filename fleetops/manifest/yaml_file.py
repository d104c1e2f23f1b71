"""YAML manifests to a table: rows under `steps`, or devices and operations under `sequences`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetops.documents import Document, found, refusal, suggestion
from fleetops.errors import InvalidInputError, Problem, Problems, Severity
from fleetops.manifest.table import COLUMNS, MOST_STEPS, REQUIRED, Table, cells_of, column_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fleetops.manifest.table import Cells, Integers, Where

    Path = tuple[str | int, ...]

TOP_KEYS: Final = ("campaign", "policy", "steps", "sequences")
SEQUENCE_KEYS: Final = ("devices", "devices_from", "operations", "group", "settle", "note")


def table_of(document: Document, problems: Problems, devices_of: Callable[[str], Devices]) -> Table | None:
    """The rows of a YAML manifest, device by device where it has sequences; None where there are none.

    Args:
        document: The manifest, its scalars as text.
        problems: Takes what is wrong.
        devices_of: Reads the file that `devices_from` names; raises InvalidInputError.
    """
    reader = _Reader(document, problems)
    values = document.values
    reader.check_keys((), values, TOP_KEYS)
    if "steps" in values and "sequences" in values:
        reader.add(
            "steps-and-sequences", "there are steps and sequences", ("sequences",), "keep one, or make two manifests"
        )
        return None
    if "steps" in values:
        return _Steps(reader).table(values["steps"])
    if "sequences" in values:
        return _Sequences(reader, devices_of).table(values["sequences"])
    reader.add("no-rows", "there are neither steps nor sequences", (), "list the operations under `sequences:`")
    return None


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one sequence, each with its group and other columns where they come from a CSV file."""

    serials: Cells
    lines: Integers
    locate: Callable[[int, str], Where]
    groups: Cells | None = None
    carried: Mapping[str, Cells] = field(default_factory=dict)


class _Reader:
    """Takes values out of the document, and reports those that are not what they should be."""

    def __init__(self, document: Document, problems: Problems) -> None:
        self.document = document
        self.problems = problems

    def add(self, code: str, message: str, path: Path, hint: str | None = None, *, key: bool = True) -> None:
        where = self.document.where(path, key=key)
        self.problems.add(Problem(Severity.ERROR, code, message, self.document.source, *where, hint=hint))

    def check_keys(self, path: Path, values: dict[str, Any], known: Sequence[str]) -> None:
        for name in values:
            if name not in known:
                self.add("unknown-key", f"there is no key {found(name)} here", (*path, name), suggestion(name, known))

    def text(self, path: Path, value: Any) -> str:
        """One scalar; the empty text for nothing."""
        if value is None or isinstance(value, str):
            return value or ""
        self.add("wrong-type", f"{found(path[-1])} is {found(value)}, not text", path, "write one word", key=False)
        return ""

    def entries(self, path: Path, value: Any, *, single: bool = False) -> list[Any]:
        """A list; of one where `single` values are allowed; empty where it is something else."""
        if isinstance(value, list) and value:
            return value
        if single and value and isinstance(value, str):
            return [value]
        what = "empty" if not value else f"{found(value)}, not a list"
        self.add("wrong-type", f"{found(path[-1])} is {what}", path, "write a line with `- ` for each entry")
        return []


class _Steps:
    """Rows as in CSV: a mapping for each."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._rows: list[dict[str, str]] = []
        self._names: list[dict[str, str]] = []
        self._at: list[int] = []

    def table(self, value: Any) -> Table:
        entries = self._reader.entries(("steps",), value)
        for at, entry in enumerate(entries):
            if isinstance(entry, dict):
                self._take(at, entry)
            else:
                message = f"a step is {found(entry)}, not a mapping"
                self._reader.add(
                    "wrong-type", message, ("steps", at), "write `- serial_number: ...` and `operation: ...`"
                )
        rows = self._rows
        carried = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
        document = self._reader.document
        return Table(
            cells={name: cells_of([row.get(name, "") for row in rows]) for name in COLUMNS},
            carried={name: cells_of([row.get(name, "") for row in rows]) for name in carried},
            line=np.array([document.where(("steps", at))[0] for at in self._at], dtype=np.int64),
            locate=self._locate,
            serial_place=np.arange(len(rows)),
            operation_place=np.arange(len(rows)),
        )

    def _take(self, at: int, entry: dict[str, Any]) -> None:
        row: dict[str, str] = {}
        written: dict[str, str] = {}
        for name, value in entry.items():
            column = column_of(name)
            if column in row:
                message = f"{found(name)} and {found(written[column])} are the same key"
                self._reader.add("duplicate-key", message, ("steps", at, name), "keep one of them")
                continue
            row[column or name] = self._reader.text(("steps", at, name), value)
            written[column or name] = name
        for column in REQUIRED:
            if column not in row:
                others = [name for name in entry if column_of(name) is None]
                close = [name for name in others if suggestion(name, [column]).startswith("did")]
                hint = f"is it the one called {found(close[0])}?" if close else f"add `{column}: ...`"
                self._reader.add("missing-key", f"the step has no {column}", ("steps", at), hint)
        if all(column in row for column in REQUIRED):
            self._rows.append(row)
            self._names.append(written)
            self._at.append(at)

    def _locate(self, row: int, column: str) -> Where:
        document = self._reader.document
        return document.source, *document.where(("steps", self._at[row], self._names[row].get(column, column)))


@dataclass(frozen=True, slots=True)
class _Operation:
    """One operation of a sequence, and the paths of its name and of its settle time."""

    name: str
    settle: str
    path: Path
    settle_path: Path


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Devices that all get the same operations."""

    at: int
    devices: Devices
    operations: list[_Operation]
    group: str
    note: str

    @property
    def steps(self) -> int:
        return len(self.devices.serials) * len(self.operations)

    def by_row(self, of_devices: Any) -> Any:
        return np.repeat(of_devices, len(self.operations))

    def by_operation(self, of_operations: Iterable[Any], dtype: Any = object) -> Any:
        return np.tile(np.array(list(of_operations), dtype=dtype), len(self.devices.serials))


class _Sequences:
    """The short form: devices by operations."""

    def __init__(self, reader: _Reader, devices_of: Callable[[str], Devices]) -> None:
        self._reader = reader
        self._devices_of = devices_of
        self._sequences: list[_Sequence] = []

    def table(self, value: Any) -> Table:
        entries = self._reader.entries(("sequences",), value)
        steps = 0
        for at, entry in enumerate(entries):
            path: Path = ("sequences", at)
            if not isinstance(entry, dict):
                message = f"a sequence is {found(entry)}, not a mapping"
                self._reader.add("wrong-type", message, path, "write `- devices: [...]` and `operations: [...]`")
                continue
            sequence = self._read(at, path, entry)
            steps += sequence.steps
            if steps > MOST_STEPS:
                document = self._reader.document
                message = f"there are more than {MOST_STEPS:,} steps by here"
                raise refusal("too-many-steps", message, document.source, *document.where(path), "split the campaign")
            if sequence.steps:
                self._sequences.append(sequence)
        return self._joined()

    def _joined(self) -> Table:
        sequences = self._sequences
        columns: dict[str, list[Cells]] = {name: [] for name in COLUMNS}
        lines, serial_places, operation_places = ([np.empty(0, dtype=np.int64)] for _ in range(3))
        carried: list[Mapping[str, Cells]] = []
        devices = operations = 0
        for sequence in sequences:
            count = len(sequence.devices.serials)
            groups = sequence.devices.groups
            if sequence.group or groups is None:
                groups = cells_of([sequence.group] * count)
            columns["serial_number"].append(sequence.by_row(sequence.devices.serials))
            columns["operation"].append(sequence.by_operation(operation.name for operation in sequence.operations))
            columns["group"].append(sequence.by_row(groups))
            columns["settle"].append(sequence.by_operation(operation.settle for operation in sequence.operations))
            columns["note"].append(cells_of([sequence.note] * sequence.steps))
            lines.append(sequence.by_row(sequence.devices.lines))
            serial_places.append(sequence.by_row(np.arange(count) + devices))
            operation_places.append(
                sequence.by_operation(range(operations, operations + len(sequence.operations)), np.int64)
            )
            devices, operations = devices + count, operations + len(sequence.operations)
            carried.append({name: sequence.by_row(cells) for name, cells in sequence.devices.carried.items()})
        first_rows = np.cumsum([0, *(sequence.steps for sequence in sequences)])
        return Table(
            cells={name: np.concatenate(parts) if parts else cells_of([]) for name, parts in columns.items()},
            carried=_stacked(carried, first_rows),
            line=np.concatenate(lines),
            locate=lambda row, column: self._locate(first_rows, row, column),
            serial_place=np.concatenate(serial_places),
            operation_place=np.concatenate(operation_places),
        )

    def _locate(self, first_rows: Integers, row: int, column: str) -> Where:
        index = int(np.searchsorted(first_rows, row, side="right")) - 1
        sequence = self._sequences[index]
        device, step = divmod(row - int(first_rows[index]), len(sequence.operations))
        document = self._reader.document
        match column:
            case "operation":
                return document.source, *document.where(sequence.operations[step].path)
            case "settle":
                return document.source, *document.where(sequence.operations[step].settle_path)
            case "group" if sequence.group or sequence.devices.groups is None:
                return document.source, *document.where(("sequences", sequence.at, column))
            case _:
                return sequence.devices.locate(device, column)

    def _read(self, at: int, path: Path, entry: dict[str, Any]) -> _Sequence:
        self._reader.check_keys(path, entry, SEQUENCE_KEYS)
        texts = {key: self._reader.text((*path, key), entry.get(key)) for key in ("group", "settle", "note")}
        operations: list[_Operation] = []
        if "operations" in entry:
            below: Path = (*path, "operations")
            for index, value in enumerate(self._reader.entries(below, entry["operations"], single=True)):
                operations += self._operation((*below, index), value, texts["settle"], (*path, "settle"))
        else:
            self._reader.add("missing-key", "the sequence has no operations", path, "add `operations: [...]`")
        return _Sequence(at, self._devices(path, entry), operations, texts["group"], texts["note"])

    def _operation(self, path: Path, value: Any, settle: str, settle_path: Path) -> list[_Operation]:
        if not isinstance(value, dict):
            return [_Operation(self._reader.text(path, value), settle, path, settle_path)]
        if len(value) != 1:
            message = f"an operation is a mapping of {len(value)} keys"
            self._reader.add("wrong-type", message, path, "write `sync` or `{sync: {settle: 5m}}`")
            return []
        (name, options), *_ = value.items()
        if isinstance(options, dict):
            self._reader.check_keys((*path, name), options, ("settle",))
            if "settle" in options:
                settle_path = (*path, name, "settle")
                settle = self._reader.text(settle_path, options["settle"])
        elif options is not None:
            message = f"the options of {found(name)} are {found(options)}, not a mapping"
            self._reader.add("wrong-type", message, (*path, name), "write `{settle: 5m}`", key=False)
        return [_Operation(name, settle, (*path, name), settle_path)]

    def _devices(self, path: Path, entry: dict[str, Any]) -> Devices:
        document = self._reader.document
        if ("devices" in entry) == ("devices_from" in entry):
            what = "both devices and devices_from" if "devices" in entry else "neither devices nor devices_from"
            self._reader.add("missing-key", f"the sequence has {what}", path, "give one of them")
        elif "devices" in entry:
            below: Path = (*path, "devices")
            entries = self._reader.entries(below, entry["devices"], single=True)
            serials = [self._reader.text((*below, at), value) for at, value in enumerate(entries)]
            lines = np.array([document.where((*below, at))[0] for at in range(len(serials))], dtype=np.int64)
            return Devices(cells_of(serials), lines, lambda at, _: (document.source, *document.where((*below, at))))
        elif name := self._reader.text((*path, "devices_from"), entry["devices_from"]):
            try:
                return self._devices_of(name)
            except InvalidInputError as error:
                where = document.where((*path, "devices_from"))
                self._reader.problems.extend(_at(error.problems, document.source, where))
        else:
            self._reader.add("wrong-type", "devices_from is empty", (*path, "devices_from"), "name a file")
        return Devices(cells_of([]), np.empty(0, dtype=np.int64), lambda _row, _column: (document.source, None, None))


def _at(problems: Problems, source: str, where: tuple[int | None, int | None]) -> Problems:
    """Problems of a file that is named in another; those of the file as a whole are where it is named."""
    line, column = where
    placed = [
        replace(problem, file=source, line=line, column=column) if problem.line is None else problem
        for problem in problems.listed
    ]
    return Problems(placed, problems.counts)


def _stacked(parts: Sequence[Mapping[str, Cells]], first_rows: Integers) -> dict[str, Cells]:
    """The columns of all parts, each from its first row on; empty where a part has no such column."""
    names = dict.fromkeys(name for part in parts for name in part)
    stacked = {name: np.full(first_rows[-1], "", dtype=object) for name in names}
    for part, first, end in zip(parts, first_rows[:-1], first_rows[1:], strict=True):
        for name, cells in part.items():
            stacked[name][first:end] = cells
    return stacked
