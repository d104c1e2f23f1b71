"""Tables of what was measured, the targets beside it, and the page that they are kept on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that is to be reached.

    Attributes:
        what: What was measured.
        got: How much it was.
        least: How much it is to be at least; None where it has no lower end.
        most: How much it may be at most; None where it has no upper end.
    """

    what: str
    got: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return (self.least is None or self.got >= self.least) and (self.most is None or self.got <= self.most)

    def text(self) -> str:
        """In words."""
        ends = [f"at least {self.least:g}"] if self.least is not None else []
        ends += [f"at most {self.most:g}"] if self.most is not None else []
        return f"{self.what}: {self.got:.3g} ({' and '.join(ends)})"


@dataclass(frozen=True, slots=True)
class Section:
    """What was measured of one thing.

    Attributes:
        head: The table's columns.
        rows: Its rows.
        targets: What was to be reached.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target] = field(default=())

    def text(self) -> str:
        """The table, and each target with whether it was met, in Markdown."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        table = [f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows)]
        targets = [f"- {'met' if target.met else '**missed**'}: {target.text()}" for target in self.targets]
        return "\n".join([*table, *([""] if targets else []), *targets])


def write_page(page: Path, name: str, section: Section, machine: str) -> None:
    """Replace a section's table on the page, between the marks that bear its name.

    Raises:
        SystemExit: The page has no such marks.
    """
    text = page.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marks.search(text):
        raise SystemExit(f"{page} has no place for {name}")
    page.write_text(marks.sub(lambda found: f"{found[1]}{machine}\n\n{section.text()}\n{found[2]}", text))
