from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.errors import InvalidInputError
from fleetops.plan import Plan
from tests.plan.conftest import MakePlan, rows_of


@pytest.fixture
def frozen(plan_of: MakePlan) -> dict[str, Any]:
    plan = plan_of(rows_of(6, "factory", "sync", groups=2), {"group_cap": 2, "waves": "50%,100%"})
    content: dict[str, Any] = json.loads(plan.to_json())
    return content


def read(content: object) -> Plan:
    return Plan.from_json(json.dumps(content).encode(), "night-plan.json")


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidInputError) as caught:
        Plan.from_json(data, "night-plan.json")
    assert caught.value.hint
    return caught.value.message


def test_a_plan_is_read_back_as_it_was_written(plan_of: MakePlan) -> None:
    plan = plan_of(rows_of(6, "reboot"), {"rate": "3/s"})
    again = Plan.from_json(plan.to_json().encode())
    assert again == plan
    assert again.digest == plan.digest
    assert again.settings.rate.per_s == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("policy", "settle", "factory"), "1s"),
        (("policy", "rate"), "500/s"),
        (("work", "devices"), 7),
        (("work", "operations", "factory"), 7),
        (("predictions", "makespan_s"), 1.0),
        (("manifest", "digest"), "0" * 64),
        (("base_url",), "https://elsewhere.example/api/v1"),
        (("assumptions", "failing"), 0.25),
    ],
)
def test_what_was_changed_after_it_was_frozen_is_named(
    frozen: dict[str, Any], path: tuple[str, ...], value: object
) -> None:
    inner = frozen
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert refusal(json.dumps(frozen).encode()) == (
        f"night-plan.json was changed after it was frozen: {'.'.join(path)}"
    )


def test_many_changes_are_named_in_part(frozen: dict[str, Any]) -> None:
    for name in ("devices", "steps", "destructive", "groups", "block_rows"):
        frozen["work"][name] += 1
    frozen["base_url"] = "https://elsewhere.example/api/v1"
    frozen["wave_seed"] = "another"
    assert "and 2 more" in refusal(json.dumps(frozen).encode())


def test_broken_seals_are_seen(frozen: dict[str, Any]) -> None:
    frozen["seals"][""] = "0" * 64
    assert "its seals" in refusal(json.dumps(frozen).encode())
    del frozen["seals"]
    assert "no seals" in refusal(json.dumps(frozen).encode())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schema": "fleetops-plan/2"}', "its schema is 'fleetops-plan/2'"),
        (b'{"schema": NaN}', "NaN is not a number in JSON"),
        (b'{"schema": "fleetops-plan/1"}', "manifest: Field required"),
        (b" " * ((32 << 20) + 1), "larger than 32 MiB"),
    ],
)
def test_what_is_no_plan_is_refused_in_words(data: bytes, why: str) -> None:
    assert why in refusal(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("policy", "rate"), "fast"),
        (("policy", "unheard_of"), 1),
        (("work", "devices"), -1),
        (("predictions", "makespan_s"), "long"),
        (("predictions", "series", "disturbed"), None),
        (("manifest",), []),
        (("extra",), 1),
    ],
)
def test_values_of_the_wrong_kind_are_refused(frozen: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    inner = frozen
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert "is not a plan that this version of fleetops reads" in refusal(json.dumps(frozen).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None)
def test_whatever_is_read_is_refused_and_never_fails_otherwise(data: bytes) -> None:
    refusal(data)


@given(key=st.sampled_from(["work", "policy", "predictions", "assumptions", "risks", "manifest", "seals"]), value=JSON)
@settings(deadline=None, max_examples=60)
def test_a_part_that_was_replaced_is_refused(key: str, value: object) -> None:
    content = {**_SAMPLE, key: value}
    if content != _SAMPLE:
        refusal(json.dumps(content).encode())


_SAMPLE: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _sample(frozen: dict[str, Any]) -> None:
    if not _SAMPLE:
        _SAMPLE.update(frozen)
