from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.control.protocol import Device, parse_moment_ns

JANUARY_NS = int(datetime(2024, 1, 15, 10, 30, tzinfo=UTC).timestamp()) * 10**9


def test_a_row_of_the_reference_is_read() -> None:
    row = {
        "serial_number": "ABC123DEF456",
        "name": "router",
        "type": 1,
        "organization": 2,
        "status": True,
        "last_status_change": "2024-01-15T10:30:00Z",
        "pending_settings": False,
        "firmware": "9.1",
    }
    device = Device.from_json(row)
    assert device == Device("ABC123DEF456", "router", 1, 2, status=True, last_status_change_ns=JANUARY_NS)
    assert device.raw == row


def test_only_the_serial_number_has_to_be_there() -> None:
    assert Device.from_json({"serial_number": "A"}) == Device("A")


@pytest.mark.parametrize(
    ("value", "up"),
    [
        *dict.fromkeys((True, "true", " True ", "1", "UP"), True).items(),
        *dict.fromkeys((False, "false", "0", "down"), False).items(),
        *dict.fromkeys((None, "", "unknown", 2, 1.5, ()), None).items(),
        (1, True),
        (0, False),
        ({}, None),
    ],
)
def test_a_status_is_up_or_down_or_not_known(value: Any, up: bool | None) -> None:
    assert Device.from_json({"serial_number": "A", "status": value}).status is up


@pytest.mark.parametrize(
    ("text", "moment_ns"),
    [
        ("2024-01-15T10:30:00Z", JANUARY_NS),
        (" 2024-01-15T10:30:00 ", JANUARY_NS),
        ("2024-01-15T12:30:00+02:00", JANUARY_NS),
        ("2024-01-15T10:30:00.000001Z", JANUARY_NS + 1000),
        ("1970-01-01", 0),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1705314600, None),
    ],
)
def test_a_moment_is_read_to_the_microsecond(text: Any, moment_ns: int | None) -> None:
    assert parse_moment_ns(text) == moment_ns


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["serial_number", "name", "type", "organization", "status", "last_status_change", "pending_settings"]


@given(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
@settings(deadline=None)
def test_any_json_is_a_device_or_refused(row: Any) -> None:
    try:
        device = Device.from_json(row)
    except ValueError:
        assert not (isinstance(row, dict) and isinstance(row.get("serial_number"), str) and row["serial_number"])
    else:
        assert device.serial_number == row["serial_number"]
        assert device.status in (True, False, None)
