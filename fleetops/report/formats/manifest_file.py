"""Steps as a CSV manifest, so that what is left of one campaign can be made another: fleetops reads it as it is.

Groups, notes and carried cells are neutralised as in every table (`fleetops.report.cells`), with the names of the
columns. Serial numbers are not, since that would name another device: one that starts with `-` or `+` and has nothing
in it but letters, digits and `-+._:` stays as it is, for a spreadsheet can run nothing in it. Others are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fleetops.errors import UsageError
from fleetops.model import Operation
from fleetops.policy import format_duration
from fleetops.report.cells import FORMULA_MARKS, any_formula, neutralised
from fleetops.report.formats.csv_report import write_rows
from fleetops.report.frame import NOTE, has_notes, report_slices, unique_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import TextIO

    from fleetops.journal.views import RunView
    from fleetops.model import Outcome
    from fleetops.policy import Policy

_COLUMNS: Final = ("serial_number", "operation", "group", "settle")
HARMLESS: Final = r"[-+][A-Za-z0-9+._:\-]*"
"""Serial numbers that start like a formula and can do nothing."""


def write_manifest(view: RunView, out: TextIO, outcomes: Collection[Outcome] | None) -> None:
    """Write the steps that have one of the outcomes; None for all. A step's settle time is there where it is its own.

    Raises:
        UsageError: A serial number would run as a formula.
        JournalError: The journal is damaged.
        OSError: The stream cannot be written.
    """
    note = has_notes(view)
    write_rows(out, [neutralised([name]) for name in manifest_names(view, note=note)])
    for rows in report_slices(view, outcomes, note=note, settle=True):
        columns = rows.columns
        refuse_formulas(columns["serial_number"])
        settle = own_settle_times(columns["operation"], columns["settle_ns"], view.policy)
        texts = (columns["group"], settle, *([columns[NOTE]] if note else []), *rows.carried)
        write_rows(out, [columns["serial_number"], columns["operation"], *map(neutralised, texts)])


def manifest_names(view: RunView, *, note: bool) -> list[str]:
    """The columns of the manifest, with those that are carried."""
    ours = (*_COLUMNS, *([NOTE] if note else []))
    return [*ours, *unique_names(view.facts.carried_columns, ours)]


def refuse_formulas(serials: Sequence[str]) -> None:
    """Check serial numbers that go into a table as they are.

    Raises:
        UsageError: A spreadsheet would run one as a formula.
    """
    if not any_formula(serials):
        return
    for serial in serials:
        if serial.startswith(FORMULA_MARKS) and not re.fullmatch(HARMLESS, serial):
            raise UsageError(
                f"a spreadsheet would run the serial number {serial[:40]!r} as a formula",
                hint="use --format json, or leave that device's outcome out with --outcome",
            )


def own_settle_times(operations: Iterable[str], settle_ns: Iterable[int], policy: Policy) -> list[str]:
    """The settle time of each step where it is not what the policy says of its operation; else empty."""
    usual_ns = {operation.value: policy.settle.after_ns(operation) for operation in Operation}
    return [
        "" if after_ns == usual_ns[operation] else format_duration(after_ns)
        for operation, after_ns in zip(operations, settle_ns, strict=True)
    ]
