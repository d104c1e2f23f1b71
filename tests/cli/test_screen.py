from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from fleetops.cli.screen import Screen


class Terminal:
    """A console of some size, and what was written to it since the last look."""

    def __init__(self, width: int = 20, height: int = 6, *, colour: bool = False) -> None:
        self._file = io.StringIO()
        self.console = Console(
            file=self._file,
            width=width,
            height=height,
            force_terminal=True,
            color_system="standard" if colour else None,
            legacy_windows=False,
        )
        self.screen = Screen(self.console)

    def resize(self, width: int) -> None:
        self.console.width = width

    def written(self) -> str:
        text = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return text


def test_what_is_drawn_replaces_what_was_drawn_before() -> None:
    terminal = Terminal()
    terminal.screen.draw(Text("one\ntwo"))
    assert terminal.written() == "one\ntwo\n"
    terminal.screen.draw(Text("three"), above=["said"])
    assert terminal.written() == "\x1b[2F\x1b[Jsaid\nthree\n"
    terminal.screen.clear(above=["over"])
    assert terminal.written() == "\x1b[1F\x1b[Jover\n"
    terminal.screen.draw(Text("again"))
    assert terminal.written() == "again\n"


def test_lines_that_a_narrower_terminal_has_wrapped_are_taken_away_too() -> None:
    terminal = Terminal(width=20)
    terminal.screen.draw(Text("x" * 20 + "\n" + "y" * 5))
    terminal.written()
    terminal.resize(8)
    terminal.screen.draw(Text("z"))
    assert terminal.written().startswith("\x1b[4F\x1b[J")


def test_no_more_is_drawn_than_there_is_room_for() -> None:
    terminal = Terminal(height=4)
    terminal.screen.draw(Text("a\nb"), [Text("c" * 30), Text("d")])
    assert terminal.written() == "a\nb\n" + "c" * 19 + "\u2026\n"
    terminal.screen.draw(Text("a\nb\nc\nd\ne"), [Text("f")])
    assert terminal.written().endswith("a\nb\nc\n")


@pytest.mark.parametrize("colour", [True, False])
def test_colours_are_left_out_where_nobody_wants_them(colour: bool) -> None:
    terminal = Terminal(colour=colour)
    terminal.screen.draw(Text("x", style="red"))
    assert ("\x1b[31m" in terminal.written()) == colour
    terminal.screen.draw(Text("y"))
    assert terminal.written().startswith("\x1b[1F")
