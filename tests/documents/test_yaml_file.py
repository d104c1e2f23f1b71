from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.documents import Document, yaml_file
from fleetops.documents.yaml_file import parse_yaml, read_yaml
from fleetops.errors import InvalidInputError, Problem, Problems


def values(text: str) -> dict[str, Any]:
    return read_yaml(text.encode(), "x.yaml").values


def untyped(text: str) -> Document:
    return parse_yaml(text.encode(), "x.yaml", Problems(), typed_under={"policy"})


def problem(text: str) -> Problem:
    with pytest.raises(InvalidInputError) as caught:
        read_yaml(text.encode(), "x.yaml")
    return caught.value.problems.listed[0]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("0", 0),
        ("0.25", 0.25),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ('""', ""),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("no", "no"),
        ("12:30", "12:30"),
        ("0x12", "0x12"),
        ("00123456", "00123456"),
        ("012.5", "012.5"),
        ("1_000", "1_000"),
        ("2025-01-02", "2025-01-02"),
        ("9" * 30, "9" * 30),
        (".nan", ".nan"),
    ],
)
def test_scalars_follow_the_core_schema_and_are_text_where_that_could_lose_something(written: str, value: Any) -> None:
    assert values(f"key: {written}") == {"key": value}


@pytest.mark.parametrize("serial", ["00123456", "1e5", "0x12", "12:30", "yes", "1.0", "123456789012345678901234567890"])
def test_untyped_scalars_stay_as_they_are_written(serial: str) -> None:
    assert untyped(f"devices: [{serial}]").values == {"devices": [serial]}


def test_types_can_be_asked_for_below_some_keys_alone() -> None:
    document = untyped("devices: [7]\npolicy: {burst: 7, deny: [7]}\nother: {policy: 7}")
    assert document.values == {"devices": ["7"], "policy": {"burst": 7, "deny": [7]}, "other": {"policy": "7"}}


def test_every_value_and_key_knows_its_line_and_column() -> None:
    document = read_yaml("a: 1\nlist:\n  - x\n  - é: {b: 2}\n".encode(), "x.yaml")
    assert document.where(("a",)) == (1, 4)
    assert document.where(("list",), key=True) == (2, 1)
    assert document.where(("list", 0)) == (3, 5)
    assert document.where(("list", 1, "é", "b")) == (4, 12)
    assert document.where(("list", 1, "é", "b"), key=True) == (4, 9)
    assert document.where(("list", 1, "é", "missing")) == (4, 8)
    assert document.where(("list", 7)) == (3, 3)
    assert document.where(("list", "x")) == (3, 3)


def test_a_key_that_is_there_twice_is_reported_with_both_lines() -> None:
    found = problem("rate: 1\nburst: 2\nrate: 3\n")
    assert (found.code, found.line, found.column) == ("duplicate-key", 3, 1)
    assert "line 1 and in line 3" in found.message


def test_every_duplicate_key_is_reported() -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_yaml(b"a: 1\na: 2\nb: {c: 1, c: 2}\n", "x.yaml")
    assert [(one.line, one.column) for one in caught.value.problems.listed] == [(2, 1), (3, 11)]


def test_an_alias_stands_for_what_is_anchored() -> None:
    document = read_yaml(b"a: &x {k: 1}\nb: *x\nc: [*x]\n", "x.yaml")
    assert document.values == {"a": {"k": 1}, "b": {"k": 1}, "c": [{"k": 1}]}
    assert document.where(("b",), key=True) == (2, 1)
    assert document.where(("b", "k")) == (1, 11)


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a: [1, 2\nb: 3\n", "bad-yaml", 2, 2),
        ("a:\n\tb: 1\n", "bad-yaml", 2, 1),
        ("a: *nowhere", "bad-yaml", 1, 4),
        ("a: &x [*x]", "bad-yaml", 1, 8),
        ("a: 1\n---\nb: 2\n", "many-documents", 2, 1),
        ("- a\n- b\n", "not-a-mapping", 1, 1),
        ("just words", "not-a-mapping", 1, 1),
        ("# nothing\n", "empty-file", None, None),
        ("? [a]\n: 1\n", "bad-key", 1, 3),
        ("a: &x {k: 1}\nb:\n  <<: *x\n", "bad-key", 3, 3),
        ("a: !!python/object/apply:os.system [x]", "unknown-tag", 1, 4),
        ("a: !mine x", "unknown-tag", 1, 4),
        ("a: 1\nb: x\x07y\n", "control-character", 2, 5),
        ("%TAG ! x\n" * 20, "bad-yaml", None, None),
    ],
)
def test_bad_yaml_is_pointed_at(text: str, code: str, line: int | None, column: int | None) -> None:
    found = problem(text)
    assert (found.code, found.line, found.column) == (code, line, column)


def test_a_tab_is_named_as_the_likely_cause() -> None:
    assert "tabs" in str(problem("a:\n\tb: 1\n").hint)
    assert "tabs" not in str(problem("a: [1\nb: 2").hint)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? - "])
def test_deep_nesting_is_refused_before_it_costs_anything(opening: str) -> None:
    assert problem(opening * 200_000).code in {"too-deep", "bad-key"}


def test_aliases_that_repeat_one_another_are_refused_by_what_they_expand_to() -> None:
    lines = ["k0: &k0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"k{at}: &k{at} [{', '.join([f'*k{at - 1}'] * 9)}]" for at in range(1, 30)]
    found = problem("\n".join(lines))
    assert (found.code, found.line) == ("too-large", 6)


def test_more_values_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "MOST_VALUES", 1000)
    assert problem("a: [" + "x," * 2000).code == "too-large"


_scalars = (
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(st.characters(codec="utf-8"), max_size=9)
)
_trees = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text("aé #", max_size=3), inner), max_leaves=5
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text("abc-_ é:#", min_size=1, max_size=5), _trees, max_size=4))
def test_what_another_writer_wrote_is_read_back(written: dict[str, Any]) -> None:
    text = yaml.safe_dump(written, default_style='"', allow_unicode=False)
    if "&id" not in text:
        assert values(text) == yaml.safe_load(text)
