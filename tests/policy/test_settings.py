from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fleetops.model import DESTRUCTIVE, NS_PER_S, OPERATIONS, Operation
from fleetops.policy import DEFAULTS, OnFailure, Policy, Rate, merged, policy_schema
from fleetops.policy.settings import Offline, Settle

EVERYTHING: dict[str, Any] = {
    "rate": "90/m",
    "burst": 3,
    "concurrency": 7,
    "timeouts": {"connect": "5s", "read": 20},
    "settle": {"reboot": "2m"},
    "retries": {"attempts": 2, "backoff": "linear", "initial": "250ms"},
    "resend": {"reboot": True, "factory": True, "destructive": True},
    "on_failure": "continue",
    "window": ["02:00-05:00 Europe/Madrid", "sat,sun 00:00-24:00 UTC"],
    "blackout": ["2026-12-24"],
    "waves": "1%,10%,100%",
    "gate": "failed<=2%, unknown<=1%, after 50, soak 10m",
    "abort_when": "failed>5% after 100",
    "group_cap": "5%",
    "confirm": True,
    "allow": "A.*",
    "deny": ["B.*", "C.*"],
}


def test_the_defaults_are_careful() -> None:
    assert DEFAULTS.rate == Rate(5)
    assert DEFAULTS.on_failure is OnFailure.SKIP_REST
    assert [operation for operation in OPERATIONS if DEFAULTS.resend.allows(operation)] == [
        Operation.SYNC,
        Operation.RECONF,
    ]
    assert not DEFAULTS.confirm.enabled
    assert not DEFAULTS.looks_before


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_a_policy_is_read_back_as_it_is_written(settings: dict[str, Any]) -> None:
    policy = Policy.model_validate(settings)
    assert Policy.from_json(policy.to_json()) == policy


def test_values_are_read_as_people_write_them() -> None:
    policy = Policy.model_validate(EVERYTHING)
    assert policy.rate.per_s == 1.5
    assert policy.timeouts.read_ns == 20 * NS_PER_S
    assert policy.settle.after_ns(Operation.REBOOT) == 120 * NS_PER_S
    assert policy.settle.after_ns(Operation.SYNC) == 60 * NS_PER_S
    assert len(policy.window) == 2
    assert policy.confirm.enabled
    assert policy.allow == ("A.*",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": "fast"}, "'fast' is not a rate"),
        ({"rate": None}, "is not a rate"),
        ({"settle": {"reboot": "soon"}}, "'soon' is not a duration"),
        ({"settle": {"restart": "2m"}}, "Extra inputs are not permitted"),
        ({"timeouts": {"read": 0}}, "greater than 0"),
        ({"concurrency": 0}, "greater than or equal to 1"),
        ({"concurrency": 4097}, "less than or equal to 4096"),
        ({"retries": {"jitter": 1.5}}, "less than or equal to 1"),
        ({"retries": {"attempts": 0}}, "greater than or equal to 1"),
        ({"window": "02:00-05:00"}, "does not say its time zone"),
        ({"window": 7}, "7 is not text"),
        ({"blackout": ["2026-12-24"]}, "blackout dates need a window"),
        ({"abort_when": "failed>lots"}, "failed>lots"),
        ({"group_cap": "a few"}, "'a few' is not a cap"),
        ({"group_cap": 0}, "'0' is not a cap"),
        ({"serial_pattern": "("}, "not a regular expression"),
        ({"serial_pattern": 7}, "a pattern is text"),
        ({"on_failure": "panic"}, "'skip_rest' or 'continue'"),
        ({"speed": 3}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Policy.model_validate(settings)
    assert message in str(raised.value)


@pytest.mark.parametrize("operation", sorted(DESTRUCTIVE))
def test_a_factory_reset_is_sent_again_only_where_that_is_said_twice(operation: Operation) -> None:
    with pytest.raises(ValidationError, match="it needs `destructive: true` as well"):
        Policy.model_validate({"resend": {operation.value: True}})
    policy = Policy.model_validate({"resend": {operation.value: True, "destructive": True}})
    assert policy.resend.allows(operation)
    assert not Policy.model_validate({"resend": {"destructive": True}}).resend.allows(operation)


@pytest.mark.parametrize(("written", "kept"), [(2, "2"), ("2", "2"), ("5%", "5%"), ("0.5 %", "0.5%"), (None, None)])
def test_a_group_cap_is_a_count_or_a_share(written: object, kept: str | None) -> None:
    policy = Policy.model_validate({"group_cap": written})
    assert json.loads(policy.to_json())["group_cap"] == kept
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize("waves", [["1%", "10%", "100%"], "1%,10%,100%"])
def test_waves_are_text_or_a_list(waves: object) -> None:
    assert json.loads(Policy.model_validate({"waves": waves}).to_json())["waves"] == "1%,10%,100%"


@pytest.mark.parametrize(
    ("settings", "looks"),
    [({"preflight": True}, True), ({"offline": "skip"}, True), ({"offline": "send"}, False)],
)
def test_the_inventory_is_read_before_where_that_is_needed(settings: dict[str, Any], *, looks: bool) -> None:
    policy = Policy.model_validate(settings)
    assert policy.looks_before == looks
    assert policy.offline in Offline


def test_every_operation_has_a_settle_time() -> None:
    assert all(Settle().after_ns(operation) > 0 for operation in OPERATIONS)


def test_what_is_over_wins_key_by_key() -> None:
    base = {"rate": "5/s", "settle": {"reboot": "2m", "sync": "1m"}, "confirm": True}
    over = {"settle": {"sync": "9m"}, "confirm": {"enabled": False}, "burst": 1}
    assert merged(base, over) == {
        "rate": "5/s",
        "settle": {"reboot": "2m", "sync": "9m"},
        "confirm": {"enabled": False},
        "burst": 1,
    }
    assert base["settle"] == {"reboot": "2m", "sync": "1m"}


def test_values_that_were_read_already_are_taken_as_they_are() -> None:
    policy = Policy.model_validate(EVERYTHING)
    values = {name: getattr(policy, name) for name in ("rate", "window", "waves", "gate", "abort_when", "group_cap")}
    again = Policy(**values)
    assert all(getattr(again, name) == value for name, value in values.items())
    assert Policy.model_validate({"window": None, "waves": None}) == DEFAULTS


def test_a_policy_does_not_change() -> None:
    with pytest.raises(ValidationError):
        DEFAULTS.burst = 7  # type: ignore[misc]  # that is the point


def test_the_schema_describes_every_setting_as_it_is_written() -> None:
    schema = policy_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == set(json.loads(DEFAULTS.to_json()))
    assert set(schema["$defs"]["Settle"]["properties"]) == {operation.value for operation in OPERATIONS}
    assert all("description" in schema["properties"][name] for name in ("rate", "burst", "window", "waves"))


@pytest.mark.parametrize(("pattern", "refused"), [("AB*", True), ("[0-9]*", False), (r"A\d*", False), ("AB.*", False)])
def test_a_pattern_of_serial_numbers_that_looks_like_a_shells_is_refused(pattern: str, *, refused: bool) -> None:
    if refused:
        with pytest.raises(ValidationError, match="looks like a pattern of a shell"):
            Policy.model_validate({"deny": pattern})
    else:
        assert Policy.model_validate({"deny": pattern}).deny == (pattern,)
