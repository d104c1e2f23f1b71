from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.manifest import read_manifest
from fleetops.model import NS_PER_S, Operation
from fleetops.planning import steps_of
from fleetops.policy import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.model import Steps


def steps(tmp_path: Path, text: str) -> Steps:
    path = tmp_path / "m.csv"
    path.write_text(text)
    return steps_of(read_manifest(str(path)), Policy.model_validate({"settle": {"reboot": "2m", "sync": "30s"}}))


def test_rows_become_steps_in_their_order_with_the_settle_time_that_applies(tmp_path: Path) -> None:
    found = steps(tmp_path, "serial_number,operation,settle\nB,reboot,\nA,sync,5s\nB,sync,\nA,reboot,0\n")
    assert list(found.serials) == ["B", "A"]
    assert list(found.device_of) == [0, 1, 0, 1]
    assert [found.operation(step) for step in range(4)] == [
        Operation.REBOOT,
        Operation.SYNC,
        Operation.SYNC,
        Operation.REBOOT,
    ]
    assert [settle_ns // NS_PER_S for settle_ns in found.settle_ns_of] == [120, 5, 30, 0]
    assert found.groups == []


def test_a_device_is_in_the_group_that_any_of_its_rows_names(tmp_path: Path) -> None:
    found = steps(tmp_path, "serial_number,operation,group\nA,sync,\nB,sync,\nA,reboot,node-1\n")
    assert list(found.groups) == ["node-1", ""]
