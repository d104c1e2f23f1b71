from __future__ import annotations

from array import array

from fleetops.model import OPERATIONS, Operation, ReplyKind, Steps


def test_factory_resets_remove_data() -> None:
    assert [operation for operation in OPERATIONS if operation.destructive] == [
        Operation.FACTORY,
        Operation.DEVICE_FACTORY,
    ]


def test_some_results_leave_open_whether_the_operation_has_run() -> None:
    assert [kind for kind in ReplyKind if kind.may_have_run] == [
        ReplyKind.ACCEPTED,
        ReplyKind.MAYBE,
        ReplyKind.BAD_REPLY,
    ]


def test_steps_are_columns_and_devices_are_numbered_as_the_manifest_names_them() -> None:
    steps = Steps.of([("B", Operation.FACTORY, 5), ("A", Operation.SYNC, 6), ("B", Operation.SYNC, 7)], ["x", "y"])
    assert len(steps) == 3
    assert list(steps.serials) == ["B", "A"]
    assert steps.device_of == array("I", [0, 1, 0])
    assert steps.settle_ns_of == array("q", [5, 6, 7])
    assert [steps.serial(step) for step in range(3)] == ["B", "A", "B"]
    assert [steps.operation(step) for step in range(3)] == [Operation.FACTORY, Operation.SYNC, Operation.SYNC]
