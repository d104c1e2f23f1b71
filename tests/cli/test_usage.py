from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["stat"], "there is no command 'stat'", "did you mean `fleetops status`?"),
        (["explode"], "there is no command 'explode'", "`fleetops --help` lists the commands"),
        (["--bogus"], "fleetops has no option --bogus", "`fleetops --help` tells what can be said"),
        (["run", "m.csv", "--rat", "5/s"], "fleetops run has no option --rat", "did you mean --rate?"),
        (["validate"], "fleetops validate needs a MANIFEST", "`fleetops validate --help` tells what can be said"),
        (["run", "m.csv", "--rate"], "option '--rate' requires an argument", "`fleetops run --help`"),
        (["run", "a", "b"], "fleetops run takes no further argument: b", "`fleetops run --help`"),
        (["run", "m.csv", "--concurrency", "x"], "--concurrency should be a valid integer", "`fleetops run --help`"),
        (["sandbox", "--port", "99999"], "--port should be less than or equal to 65535", "`fleetops sandbox --help`"),
        (["runs", "--format", "xml"], "--format: 'xml' is not one of 'text', 'json'", "`fleetops runs --help`"),
        (["schema", "foo"], "NAME: 'foo' is not one of 'manifest', 'policy'", "`fleetops schema --help`"),
        (["status", "x", "y"], "PORT should be a valid integer", "`fleetops status --help`"),
    ],
)
def test_wrong_usage_is_told_like_any_other_error(
    terminal: Terminal, words: list[str], message: str, hint: str
) -> None:
    ended = terminal(*words)
    assert ended.code == 2
    assert ended.out == ""
    first, blank, second, *rest = ended.err.splitlines()
    assert first.startswith(f"error: {message}")
    assert blank == ""
    assert second.startswith(f"  hint: {hint}")
    assert rest == []


def test_who_says_nothing_gets_the_help(terminal: Terminal) -> None:
    ended = terminal()
    assert ended.code == 2
    assert "Commands:" in ended.out + ended.err
    assert "error" not in ended.err.partition("Commands:")[0]
