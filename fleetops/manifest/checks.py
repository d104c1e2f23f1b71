"""What can be wrong with the steps of a manifest, judged column by column.

Each check makes a mask over the rows, or over the distinct values of a column. Only rows that will be listed are looked
at one by one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetops.documents import found, nearest
from fleetops.errors import Problem, Problems, Severity
from fleetops.manifest.table import NO_SETTLE, Rows, cells_of
from fleetops.model import DESTRUCTIVE, OPERATIONS, Operation
from fleetops.policy import parse_duration_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fleetops.manifest.serials import SerialRules
    from fleetops.manifest.table import Cells, Integers, Table

    Mask = npt.NDArray[np.bool_]

_SYNONYMS: Final = {
    "restart": "reboot",
    "reset": "factory",
    "factory_reset": "factory",
    "wipe": "factory",
    "device_reset": "device_factory",
    "synchronise": "sync",
    "synchronize": "sync",
    "resync": "sync",
    "configure": "reconf",
    "reconfigure": "reconf",
    "provision": "reconf",
}
_TELLING: Final = ("group", "settle")
_LONGEST_SETTLE: Final = 40
_SAMPLE: Final = 1000
_RESETS: Final = np.array([operation in DESTRUCTIVE for operation in OPERATIONS])
_CONFIGURES: Final = np.array([operation in {Operation.SYNC, Operation.RECONF} for operation in OPERATIONS])


def checked_rows(table: Table, rules: SerialRules, problems: Problems) -> Rows:
    """The rows of a table with every check made; `problems` takes what is wrong.

    Returns:
        The rows, which mean something only where `problems` has no errors.
    """
    return _Checks(table, problems).run(rules)


class _Column:
    """A column by its distinct values, without the spaces around them; `lines` has each in a line of its own."""

    def __init__(self, cells: Cells) -> None:
        self.codes, self.distinct = _numbered(cells)
        self.lines = _lines(self.distinct)
        if " " in self.lines:
            again, self.distinct = _numbered(cells_of([value.strip(" ") for value in self.distinct]))
            self.codes, self.lines = again[self.codes], _lines(self.distinct)

    def spread(self, of_values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """What holds for each distinct value, by row."""
        return of_values[self.codes] if len(of_values) else of_values


def _all_differ(texts: list[str]) -> bool:
    """Whether no two hashes are the same, and so no two texts."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
    hashes.sort()
    return not (hashes[1:] == hashes[:-1]).any()


def _lines(values: Cells) -> str:
    return "\n".join([*values, ""])


def _numbered(cells: Cells) -> tuple[Integers, Cells]:
    """Each cell as the number of its text, by where that is there first; and the texts by number."""
    texts = cells.tolist()
    if len(set(texts[:_SAMPLE])) == len(texts[:_SAMPLE]) and _all_differ(texts):
        # Which is found out in a third of the time that it takes to number them.
        return np.arange(len(texts)), cells
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    codes = np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))
    return codes, cells_of(list(numbers))


class _Checks:
    def __init__(self, table: Table, problems: Problems) -> None:
        self._table = table
        self._problems = problems
        self._serial = _Column(table.cells["serial_number"])
        self._operation = np.full(len(table), -1)

    def run(self, rules: SerialRules) -> Rows:
        self._check_serials(rules)
        self._operation = self._read_operations()
        settle_ns = self._read_settle()
        self._check_sequences()
        self._check_carried()
        return Rows(
            serials=self._serial.distinct,
            groups=self._read_groups(),
            device_of=self._serial.codes,
            operation_of=self._operation,
            settle_ns=settle_ns,
            note=self._table.cells.get("note"),
            line=self._table.line,
        )

    def _column(self, name: str) -> _Column | None:
        cells = self._table.cells.get(name)
        return None if cells is None else _Column(cells)

    def _list(
        self,
        rows: Integers,
        column: str,
        severity: Severity,
        code: str,
        say: Callable[[int], tuple[str, str | None]],
        *,
        place: Integers,
    ) -> None:
        """Report rows: one problem for all those that one word of the file makes (`place`)."""
        _, first, counts = np.unique(place[rows], return_index=True, return_counts=True)
        order = np.argsort(first)
        rows, counts = rows[first[order]], counts[order]
        for row, count in zip(rows[: Problems.LISTED], counts, strict=False):
            message, hint = say(int(row))
            if count > 1:
                message = f"{message}, and {count - 1:,} more like it"
            self._problems.add(Problem(severity, code, message, *self._table.locate(int(row), column), hint=hint))
        self._problems.add_unlisted(severity, code, len(rows[Problems.LISTED :]))

    def _check_serials(self, rules: SerialRules) -> None:
        serial = self._serial
        for fault in rules.faults(serial.distinct, serial.lines):
            rows = np.flatnonzero(serial.spread(fault.values))
            self._list(
                rows,
                "serial_number",
                fault.severity,
                fault.code,
                lambda row, fault=fault: fault.say(serial.distinct[serial.codes[row]]),  # type: ignore[misc]  # bound now
                place=self._table.serial_place,
            )

    def _read_operations(self) -> Integers:
        column = _Column(self._table.cells["operation"])
        known = {operation.value: code for code, operation in enumerate(OPERATIONS)}
        codes = np.array([known.get(value.lower(), -1) for value in column.distinct], dtype=np.int64)
        operation = column.spread(codes).astype(np.int64)
        empty = column.spread(column.distinct == "").astype(bool)
        place = self._table.operation_place

        def say(row: int) -> tuple[str, str]:
            value = column.distinct[column.codes[row]]
            return f"{found(value)} is not an operation", _operation_hint(value)

        def say_empty(_: int) -> tuple[str, str]:
            return "there is no operation", f"use one of: {', '.join(OPERATIONS)}"

        rows = np.flatnonzero(empty)
        self._list(rows, "operation", Severity.ERROR, "empty-operation", say_empty, place=place)
        rows = np.flatnonzero((operation < 0) & ~empty)
        self._list(rows, "operation", Severity.ERROR, "unknown-operation", say, place=place)
        return operation

    def _read_settle(self) -> Integers:
        column = self._column("settle")
        if column is None:
            return np.full(len(self._table), NO_SETTLE, dtype=np.int64)
        faults: dict[int, str] = {}
        durations_ns = np.full(len(column.distinct), NO_SETTLE, dtype=np.int64)
        for code, value in enumerate(column.distinct):
            try:
                if value:
                    durations_ns[code] = _duration_ns(value)
            except ValueError as error:
                faults[code] = str(error)
        bad = np.zeros(len(column.distinct), dtype=bool)
        bad[list(faults)] = True
        self._list(
            np.flatnonzero(column.spread(bad)),
            "settle",
            Severity.ERROR,
            "bad-settle",
            lambda row: (faults[int(column.codes[row])], "leave it empty for the policy's settle time"),
            place=self._table.operation_place,
        )
        return column.spread(durations_ns).astype(np.int64)

    def _read_groups(self) -> Cells:
        """The group of each device: the one that any of its rows names."""
        column = self._column("group")
        if column is None:
            return np.full(len(self._serial.distinct), "", dtype=object)
        named = np.flatnonzero(column.spread(column.distinct != ""))
        device = self._serial.codes
        group_of = np.full(len(self._serial.distinct), -1, dtype=np.int64)
        named_by = np.zeros(len(self._serial.distinct), dtype=np.int64)
        group_of[device[named][::-1]] = column.codes[named][::-1]  # the first that is named stays
        named_by[device[named][::-1]] = named[::-1]
        other = named[(column.codes[named] != group_of[device[named]]) & self._has_serial()[named]]

        def say(row: int) -> tuple[str, str]:
            first = int(named_by[device[row]])
            serial, here, there = (
                self._shown(row),
                column.distinct[column.codes[row]],
                column.distinct[column.codes[first]],
            )
            line = self._line(first, "group", seen_from=row)
            message = f"{serial} is in group {found(here)} here, and in {found(there)} in {line}"
            return message, "a device is in one group"

        self._list(other, "group", Severity.ERROR, "conflicting-groups", say, place=self._table.serial_place)
        return cells_of([*column.distinct, ""])[group_of]

    def _shown(self, row: int) -> str:
        return found(self._serial.distinct[self._serial.codes[row]])

    def _line(self, row: int, column: str, *, seen_from: int) -> str:
        file, line, _ = self._table.locate(row, column)
        here, _, _ = self._table.locate(seen_from, column)
        return f"line {line}" if file == here else f"line {line} of {found(file)}"

    def _has_serial(self) -> Mask:
        return self._serial.spread(self._serial.distinct != "").astype(bool)

    def _check_carried(self) -> None:
        """A column that is nearly one of ours is likely a slip, and would change nothing."""
        for name in self._table.carried if len(self._table) else ():
            if close := nearest(name, _TELLING, cutoff=0.7):
                message = f"the column {found(name)} is not one that we know, and is only carried through to the report"
                where = self._table.locate(0, name)
                problem = Problem(Severity.WARNING, "similar-column", message, where[0], hint=f"did you mean {close}?")
                self._problems.add(problem)

    def _check_sequences(self) -> None:
        """Look at the steps of each device in order; rows without a serial number or an operation take no part."""
        rows = np.flatnonzero((self._operation >= 0) & self._has_serial())
        device, operation = self._serial.codes[rows], self._operation[rows]
        if len(rows) and (device[1:] < device[:-1]).any():
            order = np.argsort(device, kind="stable")
            rows, device, operation = rows[order], device[order], operation[order]
        if len(self._table) > len(self._serial.distinct):
            once = ~self._check_repeats(rows, device, operation)
            rows, device, operation = rows[once], device[once], operation[once]
        self._check_resets(rows, device, operation)

    def _check_repeats(self, rows: Integers, device: Integers, operation: Integers) -> Mask:
        """Report steps that are there before; the mask says which of `rows` they are."""
        step = device.astype(np.int64) * len(OPERATIONS) + operation
        order = np.argsort(step, kind="stable")
        again = _like_the_last(step[order])
        seen = np.zeros(len(step), dtype=bool)
        seen[order] = again
        if not seen.any():
            return seen
        adjacent = _like_the_last(step)
        of_first = np.flatnonzero(~again)[np.cumsum(~again) - 1]
        first = np.zeros(len(self._table), dtype=np.int64)
        first[rows[order]] = rows[order[of_first]]
        serial_place, operation_place = self._table.serial_place, self._table.operation_place
        # Within one sequence of a YAML manifest it is the operation that is repeated, else it is the device.
        within = serial_place == serial_place[first]
        for mask, code, how in (
            (adjacent, "repeated-operation", "again, right after the same"),
            (seen & ~adjacent, "duplicate-step", "again: it is there already"),
        ):
            repeated = np.sort(rows[mask])

            def say(row: int, how: str = how) -> tuple[str, str]:
                operation = OPERATIONS[self._operation[row]]
                column = "operation" if within[row] else "serial_number"
                line = self._line(int(first[row]), column, seen_from=row)
                message = f"{self._shown(row)} is told to {operation} {how} in {line}"
                return message, "remove one of them; what has to be done twice is two campaigns"

            for here, column, place in (
                (repeated[within[repeated]], "operation", operation_place),
                (repeated[~within[repeated]], "serial_number", serial_place),
            ):
                self._list(here, column, Severity.ERROR, code, say, place=place)
        return seen

    def _check_resets(self, rows: Integers, device: Integers, operation: Integers) -> None:
        resets = np.flatnonzero(_RESETS[operation])
        if not len(resets):
            return
        last_reset = np.full(len(self._serial.distinct), -1, dtype=np.int64)
        last_reset[device[resets]] = resets
        configures = np.flatnonzero(_CONFIGURES[operation])
        last_configure = np.full(len(self._serial.distinct), -1, dtype=np.int64)
        last_configure[device[configures]] = configures

        def say_undone(row: int) -> tuple[str, str]:
            reset = int(rows[last_reset[self._serial.codes[row]]])
            what = f"{OPERATIONS[self._operation[row]]} of {self._shown(row)}"
            undoing = f"{OPERATIONS[self._operation[reset]]} in {self._line(reset, 'operation', seen_from=row)}"
            return f"{what} is undone by the {undoing}", "put it after the reset, or remove it"

        def say_bare(row: int) -> tuple[str, str]:
            message = f"{OPERATIONS[self._operation[row]]} leaves {self._shown(row)} without its configuration"
            return message, "add a sync or a reconf after it"

        place = self._table.operation_place
        undone = np.sort(rows[configures[configures < last_reset[device[configures]]]])
        self._list(undone, "operation", Severity.WARNING, "undone-by-reset", say_undone, place=place)
        devices = np.flatnonzero((last_reset >= 0) & (last_configure < last_reset))
        bare = np.sort(rows[last_reset[devices]])
        self._list(bare, "operation", Severity.WARNING, "reset-left-bare", say_bare, place=place)


def _like_the_last(values: Integers) -> Mask:
    """Which values are the same as the one before."""
    return np.concatenate([np.zeros(min(1, len(values)), dtype=bool), values[1:] == values[:-1]])


def _duration_ns(text: str) -> int:
    if len(text) > _LONGEST_SETTLE:
        raise ValueError(f"{found(text)} is not a duration: write 500ms, 90s, 2m, 1h or a number of seconds")
    return parse_duration_ns(text)


def _operation_hint(word: str) -> str:
    plain = re.sub(r"[\W_]+", "_", word[:_LONGEST_SETTLE].strip().casefold())
    close = _SYNONYMS.get(plain) or nearest(plain, OPERATIONS)
    return f"did you mean {close}?" if close else f"use one of: {', '.join(OPERATIONS)}"
