from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from fleetops.control import Device
from fleetops.errors import HostError, UsageError
from fleetops.model import Operation
from fleetops.report.devices import write_device_manifest

if TYPE_CHECKING:
    from pathlib import Path


def test_each_device_is_a_row_with_its_name_and_status_carried_along() -> None:
    out = StringIO()
    devices = [
        Device(serial_number="A1", name="=cmd|' /C calc'!A0", status=True),
        Device(serial_number="A2", status=False),
        Device(serial_number="A3", status=None),
    ]
    write_device_manifest(out, devices, Operation.SYNC)
    rows = list(csv.reader(StringIO(out.getvalue())))
    assert rows == [
        ["serial_number", "operation", "name", "status"],
        ["A1", "sync", "'=cmd|' /C calc'!A0", "up"],
        ["A2", "sync", "", "down"],
        ["A3", "sync", "", ""],
    ]


def test_a_serial_number_that_a_spreadsheet_would_run_is_refused() -> None:
    with pytest.raises(UsageError, match="as a formula"):
        write_device_manifest(StringIO(), [Device(serial_number="=1+1")], Operation.SYNC)


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot write the manifest"):
        write_device_manifest(tmp_path / "none" / "m.csv", [], Operation.SYNC)
