from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal


def test_the_files_to_start_from_are_valid_and_not_written_over(terminal: Terminal) -> None:
    assert terminal("init", "start").code == 0
    written = sorted(path.name for path in (terminal.folder / "start").rglob("*") if path.is_file())
    assert len(written) == 5
    again = terminal("init", "start")
    assert again.code == 2
    assert "there already" in again.err
    assert terminal("validate", "start/manifest.yaml", "--policy", "start/policy.yaml").code == 0
    uncommented = "\n".join(
        line.removeprefix("# ") for line in (terminal.folder / "start/policy.yaml").read_text().splitlines()[2:]
    )
    terminal.write("policy.yaml", uncommented)
    ended = terminal("validate", "start/manifest.yaml", "--policy", "policy.yaml")
    assert ended.code == 0
    assert "6 steps" in ended.out


def test_a_place_that_cannot_be_written_is_a_clear_error(terminal: Terminal) -> None:
    terminal.write("file", "")
    assert terminal("init", "file/below").code == 7
