"""Values read from a file, each with the line and column it stands at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

DEEPEST: Final = 50
"""Mappings and lists inside one another; what people write needs a handful."""


class Place(NamedTuple):
    """Where a value stands.

    Attributes:
        line: 1-based physical line.
        column: 1-based character in that line.
        key: Line and column of the key that the value belongs to; of the value itself where it is in a list.
        below: The places of what is inside a mapping or list, by key or by index; None for anything else.
    """

    line: int
    column: int
    key: tuple[int, int]
    below: dict[str, Place] | list[Place] | None = None

    def inside(self, part: str | int) -> Place | None:
        """The place of one entry; None where there is none."""
        if isinstance(self.below, dict):
            return self.below.get(part) if isinstance(part, str) else None
        if self.below is None or isinstance(part, str) or part >= len(self.below):
            return None
        return self.below[part]


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping read from a file, or made up from options.

    Attributes:
        source: The file as the user named it, or what else the values come from.
        values: The mapping, with what is inside it.
        place: Where it stands; None where that cannot be said.
    """

    source: str
    values: dict[str, Any]
    place: Place | None = None

    def where(self, path: Sequence[str | int], *, key: bool = False) -> tuple[int | None, int | None]:
        """Line and column of the value at `path`, or of its key; of what is around it where it is not there."""
        place = self.place
        if place is None:
            return None, None
        for part in path:
            inside = place.inside(part)
            if inside is None:
                return place[:2]
            place = inside
        return place.key if key else place[:2]

    def has(self, path: Sequence[str | int]) -> bool:
        """Whether there is a value at `path`."""
        value: Any = self.values
        for part in path:
            in_mapping = isinstance(value, dict) and part in value
            if in_mapping or (isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)):
                value = value[part]
            else:
                return False
        return True

    def part(self, key: str) -> Document:
        """The mapping under `key` as a document of its own, with its positions."""
        return Document(self.source, self.values[key], self.place.inside(key) if self.place else None)
