"""A few lines on a terminal that are drawn anew in place, above them what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType


class Screen:
    """What is drawn at the end of a terminal's output, as wide as the terminal is at that moment.

    rich's own live display takes what it drew before for as high as it was then: where the terminal has become
    narrower since, lines have been wrapped, and some of them would stay.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._cells: list[int] = []

    @property
    def width(self) -> int:
        """Of the terminal, in cells."""
        return self._console.size.width

    def draw(self, top: RenderableType, rest: Sequence[Text] = (), *, above: Sequence[str] = ()) -> None:
        """Draw in place of what was drawn last.

        Args:
            top: What is always shown, as far as the terminal is high enough.
            rest: Lines below it, as many as there is room for; what is too long of them is cut.
            above: Lines to print above for good.
        """
        size = self._console.size
        lines = self._rendered(top)[: size.height - 1]
        for line in rest[: size.height - 1 - len(lines)]:
            line.truncate(size.width, overflow="ellipsis")
            lines += self._rendered(line)
        self._replace(lines, above)

    def clear(self, *, above: Sequence[str] = ()) -> None:
        """Take away what was drawn, and print lines in its place for good."""
        self._replace([], above)

    def _replace(self, lines: Sequence[str], above: Sequence[str]) -> None:
        said = [line for text in above for line in self._rendered(Text(text))]
        erased = self._erased(self._console.size.width)
        self._cells = [Text.from_ansi(line).cell_len for line in lines]
        self._console.file.write(erased + "".join(f"{line}\n" for line in (*said, *lines)))
        self._console.file.flush()

    def _rendered(self, one: RenderableType) -> list[str]:
        with self._console.capture() as captured:
            self._console.print(one, highlight=False)
        return captured.get().splitlines()

    def _erased(self, width: int) -> str:
        """Up to where the last drawing begins, also where the terminal has wrapped its lines since, and clear."""
        rows = sum(max(1, -(-cells // width)) for cells in self._cells)
        return f"\x1b[{rows}F\x1b[J" if rows else ""
