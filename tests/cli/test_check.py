from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal

BROKEN = Path(__file__).parents[2] / "sample_manifests" / "broken.csv"


def test_a_valid_manifest_is_summed_up_on_stdout(terminal: Terminal) -> None:
    ended = terminal("validate", terminal.manifest(3))
    assert ended.code == 0
    assert "valid, 3 devices, 3 steps (3 reboot), no problems" in ended.out
    assert ended.err == ""


def test_every_problem_of_a_broken_manifest_is_shown_with_its_line(terminal: Terminal) -> None:
    ended = terminal("validate", str(BROKEN))
    assert ended.code == 3
    for line in (2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 18, 19, 20, 21, 22, 23):
        assert f"broken.csv:{line}:" in ended.err


def test_problems_as_json_have_the_promised_keys(terminal: Terminal) -> None:
    ended = terminal("validate", str(BROKEN), "--format", "json")
    found = json.loads(ended.out)
    assert ended.code == 3
    assert found["valid"] is False
    assert found["errors"] == 13
    keys = {"severity", "code", "file", "line", "column", "message", "hint"}
    assert all(set(problem) == keys for problem in found["problems"])


def test_warnings_stop_only_a_strict_check(terminal: Terminal) -> None:
    path = terminal.manifest(1, "factory")
    assert terminal("validate", path).code == 0
    ended = terminal("validate", path, "--strict")
    assert ended.code == 3
    assert "not valid under --strict" in ended.out


@pytest.mark.parametrize("of", ["manifest", "policy"])
def test_schemas_are_json_schemas(terminal: Terminal, of: str) -> None:
    ended = terminal("schema", of)
    assert ended.code == 0
    assert json.loads(ended.out)["$schema"].startswith("https://json-schema.org/")


def test_a_policy_file_with_an_unknown_key_is_refused_with_a_suggestion(terminal: Terminal) -> None:
    policy = terminal.write("policy.yaml", "rate: 20/s\nsettel: {reboot: 2m}\n")
    ended = terminal("validate", terminal.manifest(), "--policy", policy)
    assert ended.code == 3
    assert "policy.yaml:2:1" in ended.err
    assert "did you mean settle?" in ended.err


def test_an_option_that_makes_no_sense_is_wrong_usage(terminal: Terminal) -> None:
    for words in (["--rate", "5x"], ["--settle", "reboot=soon"], ["--window", "02:00-05:00"], ["--settle", "rebot=2m"]):
        ended = terminal("validate", terminal.manifest(), *words)
        assert ended.code == 2
        assert ended.err.startswith("error: ")
        assert "hint:" in ended.err


def test_a_manifest_comes_from_standard_input(terminal: Terminal) -> None:
    ended = terminal("validate", "-", stdin="serial,op\nZQ000000001,sync\n")
    assert ended.code == 0
    assert "1 device," in ended.out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("noise.csv", bytes(range(256)) * 50),
        ("noise.yaml", bytes(range(256)) * 50),
        ("a.yaml", b"a: ["),
    ],
)
def test_what_is_no_manifest_gets_a_clear_error(terminal: Terminal, name: str, content: bytes) -> None:
    (terminal.folder / name).write_bytes(content)
    for words in (["validate"], ["run"]):
        ended = terminal(*words, str(terminal.folder / name))
        assert ended.code == 3
        assert "Traceback" not in ended.err
        assert "error[" in ended.err
    assert terminal("validate", str(terminal.folder)).code == 3
    assert terminal("validate", "none.csv").code == 3
    assert terminal.sandbox.requests == []


def test_standard_input_without_anything_on_it_is_told_as_such(terminal: Terminal) -> None:
    ended = terminal("validate", "-", stdin="")
    assert ended.code == 3
    assert "there is nothing on standard input" in ended.err
    assert "hint: pipe a manifest into it" in ended.err
