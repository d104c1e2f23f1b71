from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.model import Operation
from fleetops.sandbox import Busy, SandboxConfig
from fleetops.sandbox.fleet import Fleet, Taken, parse_filter

START_S = 1_700_000_000.0
MINUTE = dict.fromkeys(Operation, 60.0)


def up_at(fleet: Fleet, after_s: float) -> bool:
    up: bool = fleet.row(1, START_S + after_s)["status"]
    return up


def test_a_device_is_down_from_its_operation_until_its_duration_is_over() -> None:
    fleet = Fleet(SandboxConfig(duration_s=MINUTE), START_S)
    before = fleet.row(1, START_S)
    assert before["status"] is True
    assert fleet.start(1, Operation.REBOOT, START_S + 10) == Taken(accepted=True, busy=False)
    assert [up_at(fleet, after_s) for after_s in (10, 69, 70)] == [False, False, True]
    assert fleet.row(1, START_S + 30)["last_status_change"] == "2023-11-14T22:13:30Z"
    assert fleet.row(1, START_S + 99)["last_status_change"] == "2023-11-14T22:14:30Z"


def test_durations_that_are_left_out_are_the_usual_ones() -> None:
    fleet = Fleet(SandboxConfig(duration_s={Operation.SYNC: 60.0}), START_S)
    fleet.start(1, Operation.REBOOT, START_S)
    assert [up_at(fleet, after_s) for after_s in (0.9, 1)] == [False, True]


def test_devices_take_different_times_to_come_back_where_there_is_jitter() -> None:
    fleet = Fleet(SandboxConfig(duration_s=MINUTE, jitter=1.0), START_S)
    for number in range(1, 21):
        fleet.start(number, Operation.REBOOT, START_S)
    back = {fleet.row(number, START_S + 121)["last_status_change"] for number in range(1, 21)}
    assert len(back) == 20
    assert all("2023-11-14T22:14:20" <= moment <= "2023-11-14T22:15:21" for moment in back)


@pytest.mark.parametrize(
    ("busy", "accepted", "back_s"),
    [
        (Busy.ACCEPT, True, 90),
        (Busy.QUEUE, True, 120),
        (Busy.CONFLICT, False, 60),
        (Busy.UNPROCESSABLE, False, 60),
    ],
)
def test_an_operation_on_a_busy_device_runs_at_once_or_afterwards_or_not_at_all(
    busy: Busy, accepted: bool, back_s: float
) -> None:
    fleet = Fleet(SandboxConfig(busy=busy, duration_s=MINUTE), START_S)
    fleet.start(1, Operation.FACTORY, START_S)
    assert fleet.start(1, Operation.REBOOT, START_S + 30) == Taken(accepted=accepted, busy=True)
    assert [up_at(fleet, after_s) for after_s in (back_s - 1, back_s)] == [False, True]


def test_a_short_operation_does_not_bring_a_device_back_from_a_long_one() -> None:
    fleet = Fleet(SandboxConfig(duration_s={Operation.FACTORY: 60.0, Operation.SYNC: 1.0}), START_S)
    fleet.start(1, Operation.FACTORY, START_S)
    fleet.start(1, Operation.SYNC, START_S + 1)
    assert not up_at(fleet, 59)


@pytest.mark.parametrize("operation", Operation)
def test_settings_wait_until_the_device_is_synchronised_or_reconfigured(operation: Operation) -> None:
    fleet = Fleet(SandboxConfig(pending=1.0), START_S)
    assert fleet.row(1, START_S)["pending_settings"] is True
    fleet.start(1, operation, START_S)
    assert fleet.row(1, START_S)["pending_settings"] is (operation not in {Operation.SYNC, Operation.RECONF})


def test_a_device_that_is_offline_takes_operations_and_stays_down() -> None:
    fleet = Fleet(SandboxConfig(offline=1.0, pending=1.0), START_S)
    before = fleet.row(1, START_S)
    assert before["status"] is False
    assert fleet.start(1, Operation.SYNC, START_S).accepted
    assert fleet.row(1, START_S + 999) == before


def test_a_device_that_was_set_up_is_up_again_after_an_operation() -> None:
    fleet = Fleet(SandboxConfig(offline=1.0, duration_s=MINUTE), START_S)
    fleet.force(1, up=True, now_s=START_S)
    fleet.start(1, Operation.REBOOT, START_S)
    assert [up_at(fleet, after_s) for after_s in (59, 60)] == [False, True]


def test_a_device_that_was_set_down_stays_down_and_one_set_up_is_up_at_once() -> None:
    fleet = Fleet(SandboxConfig(duration_s=MINUTE), START_S)
    fleet.start(1, Operation.REBOOT, START_S)
    fleet.force(1, up=True, now_s=START_S + 1)
    assert up_at(fleet, 1)
    fleet.force(1, up=False, now_s=START_S + 2)
    assert not up_at(fleet, 9999)


@pytest.mark.parametrize(
    "serial",
    [
        "",
        "ZQ",
        "ZQ000000000",
        "ZQ000000051",
        "zq000000001",
        "ZQ00000001",
        "ZQ0000000001",
        "ZQ\u0660000000\u0660\u0661",
        "ZQ00000000\u00b9",
        "ZQ+00000001",
        " ZQ00000001",
        "\udcffZ000000001",
    ],
)
def test_only_serial_numbers_of_the_fleet_are_devices(serial: str) -> None:
    assert Fleet(SandboxConfig(devices=50), START_S).number(serial) is None


def test_a_filter_follows_what_happens_from_page_to_page() -> None:
    fleet = Fleet(SandboxConfig(devices=4, duration_s=MINUTE), START_S)
    down, up = parse_filter({"status": "down"}), parse_filter({"status": "up"})
    assert list(fleet.rows(up, START_S)) == [1, 2, 3, 4]
    fleet.start(2, Operation.REBOOT, START_S)
    assert list(fleet.rows(up, START_S)) == [1, 3, 4]
    assert list(fleet.rows(down, START_S)) == [2]
    assert list(fleet.rows(down, START_S + 60)) == []
    assert list(fleet.rows(up, START_S + 60)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "query",
    [
        {"status": "maybe"},
        {"pending": "2"},
        {"type": "-1"},
        {"type": "\u0661"},
        {"organization": "9" * 5000},
        {"last_status_change_from": "soon"},
        {"last_status_change_from": "2024-13-01"},
        {"last_status_change_from": "2024-01-01T25:00"},
    ],
)
def test_a_filter_that_is_wrong_is_named(query: dict[str, str]) -> None:
    with pytest.raises(ValueError) as raised:
        parse_filter(query)
    assert raised.value.args == tuple(query)


ACTS = st.lists(st.tuples(st.floats(0, 200), st.sampled_from([*Operation, True, False, None])), max_size=12)


@given(ACTS, st.sampled_from(Busy), st.booleans())
@settings(deadline=None)
def test_a_status_never_changed_in_the_future_nor_earlier_than_was_said_before(
    acts: list[tuple[float, Operation | bool | None]], busy: Busy, offline: bool
) -> None:
    fleet = Fleet(SandboxConfig(busy=busy, duration_s=MINUTE, jitter=0.5, offline=float(offline)), START_S)
    now_s, said_s = START_S, 0.0
    for passing_s, act in acts:
        now_s += passing_s
        if isinstance(act, bool):
            fleet.force(1, up=act, now_s=now_s)
        elif act is not None:
            fleet.start(1, act, now_s)
        changed_s = fleet._device(1).status(now_s)[1]
        assert said_s <= changed_s <= now_s
        said_s = changed_s
