from __future__ import annotations

import csv
import io
from array import array
from typing import TYPE_CHECKING

import pytest

from fleetops.errors import UsageError
from fleetops.journal.views import RunView
from fleetops.manifest import read_manifest
from fleetops.model import CODE_OF, Operation, Outcome, Steps
from fleetops.report.formats.manifest_file import write_manifest
from fleetops.scheduler import StopReason
from tests.manifest.frames import frame_of
from tests.report.journals import T0, Made, S, make_journal, rows

if TYPE_CHECKING:
    from pathlib import Path


def written(made: Made, outcomes: list[Outcome] | None = None) -> str:
    out = io.StringIO(newline="")
    with RunView.open(made.state, made.run_id) as view:
        write_manifest(view, out, outcomes)
    return out.getvalue()


def test_what_is_left_of_a_run_reads_as_a_manifest(tmp_path: Path) -> None:
    steps = Steps(
        serials=["-AB1", "AB2", "AB3"],
        groups=["olt-1", "olt-2", "olt-2"],
        device_of=array("I", [0, 1, 2]),
        operation_of=bytes([CODE_OF[Operation.SYNC]] * 3),
        settle_ns_of=array("q", [60 * S, 90 * S, 0]),
    )
    made = make_journal(
        tmp_path,
        steps,
        notes=["one", "two", 'three, "3"\nand more'],
        carried_columns=("site", "outcome"),
        carried=[["A", "x"], ["B", "y"], ["C", "=z"]],
    )
    made.process(ended_ns=T0, reason=StopReason.INTERRUPTED)
    made.result(0, Outcome.FAILED, "not_found")
    made.result(1, Outcome.ACCEPTED)
    path = tmp_path / "again.csv"
    path.write_text(written(made, [Outcome.FAILED, Outcome.NOT_STARTED]), encoding="utf-8", newline="")
    again = read_manifest(str(path))
    rows_again = frame_of(again.rows)
    assert rows_again["serial_number"].tolist() == ["-AB1", "AB3"]
    assert rows_again["operation"].tolist() == ["sync", "sync"]
    assert rows_again["group"].tolist() == ["olt-1", "olt-2"]
    assert rows_again["settle_ns"].tolist() == [-1, 0]
    assert rows_again["note"].tolist() == ["one", 'three, "3"\nand more']
    assert list(again.carried) == ["site", "outcome"]
    assert again.carried["outcome"].tolist() == ["x", "'=z"]


def test_cells_that_name_no_device_are_neutralised(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1), groups=["=g"], notes=["+n"], carried_columns=("@h",), carried=[["\t=c"]])
    header, row = csv.reader(io.StringIO(written(made), newline=""))
    assert header == ["serial_number", "operation", "group", "settle", "note", "'@h"]
    assert row == ["SN0001", "reboot", "'=g", "", "'+n", "'\t=c"]


@pytest.mark.parametrize("serial", ["=1", "@a", "-1+cmd|' /C calc'!A0", "+1(2)", "-HYPERLINK(A1)"])
def test_a_serial_number_that_would_run_as_a_formula_is_refused(tmp_path: Path, serial: str) -> None:
    made = make_journal(tmp_path, [("AB1", Operation.SYNC), (serial, Operation.SYNC)])
    with pytest.raises(UsageError, match="as a formula"):
        written(made)


@pytest.mark.parametrize("serial", ["-AB1", "+34600123456", "--", "-"])
def test_a_serial_number_that_no_spreadsheet_can_run_stays_as_it_is(tmp_path: Path, serial: str) -> None:
    made = make_journal(tmp_path, [(serial, Operation.SYNC), ("AB1", Operation.SYNC)])
    assert written(made).splitlines()[1:] == [f"{serial},sync,,", "AB1,sync,,"]
