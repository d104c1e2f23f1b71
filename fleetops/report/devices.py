"""Devices of the inventory as a CSV manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.errors import HostError
from fleetops.report.cells import neutralised
from fleetops.report.formats.csv_report import write_rows
from fleetops.report.formats.manifest_file import refuse_formulas
from fleetops.report.output import opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TextIO

    from fleetops.control import Device
    from fleetops.model import Operation


def write_device_manifest(where: Path | TextIO, devices: Sequence[Device], operation: Operation) -> None:
    """Write a manifest that asks one operation of each device; its name and status are carried along.

    Raises:
        UsageError: A spreadsheet would run a serial number as a formula.
        HostError: It cannot be written there.
    """
    refuse_formulas([device.serial_number for device in devices])
    status = ["" if device.status is None else "up" if device.status else "down" for device in devices]
    columns = (
        [device.serial_number for device in devices],
        [operation.value] * len(devices),
        neutralised([device.name for device in devices]),
        status,
    )
    try:
        with opened(where) as out:
            write_rows(out, [["serial_number"], ["operation"], ["name"], ["status"]])
            write_rows(out, columns)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise HostError(f"cannot write the manifest: {error.strerror or error}", hint="name another --output") from None
