from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1)])
def test_a_command_is_run_against_it_and_its_exit_code_passed_on(terminal: Terminal, command: str, code: int) -> None:
    ended = terminal("sandbox", "--devices", "7", "--fault", "throttle=2%", "--", command)
    assert ended.code == code
    assert "7 devices at http://127.0.0.1:" in ended.err


def test_the_faults_are_listed(terminal: Terminal) -> None:
    ended = terminal("sandbox", "--fault", "list")
    assert ended.code == 0
    assert "close_after" in ended.out


@pytest.mark.parametrize(
    "words",
    [
        ["--fault", "throtle=2%"],
        ["--busy", "angry"],
        ["--latency", "soon"],
        ["--devices", "0"],
        ["--port", "99999"],
        ["--offline", "2"],
    ],
)
def test_what_makes_no_sense_is_wrong_usage(terminal: Terminal, words: list[str]) -> None:
    assert terminal("sandbox", *words, "--", "true").code == 2


def test_a_command_that_is_not_there_is_a_clear_error(terminal: Terminal) -> None:
    ended = terminal("sandbox", "--", "no-such-command-anywhere")
    assert ended.code == 7
    assert "cannot run no-such-command-anywhere" in ended.err
