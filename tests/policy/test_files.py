from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.documents import Document
from fleetops.documents.yaml_file import parse_yaml
from fleetops.errors import InvalidInputError, Problem, Problems
from fleetops.policy import DEFAULTS, Policy
from fleetops.policy.files import read_policy_file, resolve_policy, setting_problems

if TYPE_CHECKING:
    from pathlib import Path


def layer(text: str, source: str = "p.yaml") -> Document:
    return parse_yaml(text.encode(), source, Problems())


def problems(*layers: Document) -> list[Problem]:
    with pytest.raises(InvalidInputError) as caught:
        resolve_policy(layers)
    return caught.value.problems.listed


def test_no_layers_make_the_defaults() -> None:
    assert resolve_policy([]) == DEFAULTS
    assert resolve_policy([Document("nothing", {})]) == DEFAULTS


def test_later_layers_override_key_by_key() -> None:
    policy = resolve_policy(
        [
            layer("burst: 1\nsettle: {reboot: 1m, sync: 2m}"),
            layer("settle: {sync: 3m}"),
            Document("--burst", {"burst": 9}),
        ]
    )
    assert (policy.burst, policy.settle.reboot_ns, policy.settle.sync_ns) == (9, 60 * 10**9, 180 * 10**9)


def test_a_policy_file_is_read_with_its_positions(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('rate = "2/s"\n[settle]\nreboot = "x"\n')
    [problem] = problems(read_policy_file(path))
    assert (problem.file, problem.line, problem.column) == (str(path), 3, 10)


def test_each_mistake_is_pointed_at_in_the_layer_that_made_it() -> None:
    listed = problems(
        layer("rate: fast\nburst: -1\n", "a.yaml"),
        layer("concurrency: many\nsettle:\n  reboot: soon\n", "b.yaml"),
    )
    assert [(one.code, one.file, one.line, one.column) for one in listed] == [
        ("bad-setting", "a.yaml", 1, 7),
        ("bad-setting", "a.yaml", 2, 8),
        ("bad-setting", "b.yaml", 1, 14),
        ("bad-setting", "b.yaml", 3, 11),
    ]
    assert listed[0].message == "rate: 'fast' is not a rate: write 20/s, 90/m or 500/h"
    assert "found '-1'" in listed[1].message
    assert listed[2].hint == "Requests in flight at most."


def test_a_value_that_a_later_layer_replaces_is_not_held_against_it() -> None:
    assert resolve_policy([layer("burst: -1"), layer("burst: 1")]).burst == 1


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("concurency: 5", 1, "did you mean concurrency?"),
        ("settle: {rebot: 5}", 10, "did you mean reboot?"),
        ("attempts: 5", 1, "did you mean retries.attempts?"),
        ("settle: {qqq: 5}", 10, "known here: reboot, factory, device_factory, sync, reconf"),
    ],
)
def test_an_unknown_key_gets_the_nearest_known_one(text: str, column: int, hint: str) -> None:
    [problem] = problems(layer(text))
    assert (problem.code, problem.line, problem.column, problem.hint) == ("unknown-setting", 1, column, hint)


def test_a_section_that_is_no_section_is_told_its_keys() -> None:
    [problem] = problems(layer("settle: 5m"))
    assert problem.hint == "known here: reboot, factory, device_factory, sync, reconf"


def test_options_without_a_file_are_named() -> None:
    [problem] = problems(Document("--rate", {"rate": "fast"}))
    assert (problem.file, problem.line, problem.column) == ("--rate", None, None)


def test_rules_that_tie_settings_are_for_all_layers_together() -> None:
    resend = layer("resend: {factory: true}")
    assert setting_problems(resend).errors == 0
    assert resolve_policy([resend, layer("resend: {destructive: true}")]).resend.factory
    [problem] = problems(resend)
    assert problem.line == 1
    assert "destructive: true" in problem.message
    [problem] = problems(layer("blackout: [2025-12-24]"))
    assert "window" in problem.message


def test_single_settings_are_judged_without_the_other_layers() -> None:
    assert setting_problems(layer("burst: -1\nresend: {factory: true, x: 1}")).errors == 2


_names = st.sampled_from([*(field.alias or name for name, field in Policy.model_fields.items()), "nothing"])
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["9" * 400, "5%", "1h"])
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner), max_leaves=5
)


@settings(deadline=None)
@given(st.dictionaries(_names, _values, max_size=4))
def test_whatever_is_set_is_a_policy_or_problems(values: dict[str, Any]) -> None:
    with suppress(InvalidInputError):
        policy = resolve_policy([Document("x", values)])
        assert Policy.from_json(policy.to_json()) == policy


def test_a_mistake_is_pointed_at_in_the_layer_that_makes_it_whatever_comes_after() -> None:
    layers = [Document("embedded", {"rate": "soon"}), Document("options", {"burst": 3})]
    with pytest.raises(InvalidInputError) as raised:
        resolve_policy(layers)
    assert [problem.file for problem in raised.value.problems.listed] == ["embedded"]


def test_a_mistake_inside_of_what_was_written_short_is_pointed_at_where_it_was_written() -> None:
    with pytest.raises(InvalidInputError) as raised:
        resolve_policy([Document("night.yaml", {"allow": "["})])
    (problem,) = raised.value.problems.listed
    assert (problem.file, problem.message.split(":")[0]) == ("night.yaml", "allow")
