"""How problems speak of what was found."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from fleetops.errors import InvalidInputError, Problem, Problems, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN_CHARACTERS: Final = 40
_LONGEST_WORD: Final = 64


def found(value: object) -> str:
    """A value from a file for a message: in quotes, with anything unprintable escaped, and not long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word most like `word`, whatever its case; None where none is like it."""
    by_fold = {name.casefold(): name for name in known}
    close = get_close_matches(word[:_LONGEST_WORD].casefold(), by_fold, n=1, cutoff=cutoff)
    return by_fold[close[0]] if close else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint for a word that is not known: the nearest one, else all of them."""
    names = list(known)
    close = nearest(word, names)
    return f"did you mean {close}?" if close else f"use one of: {', '.join(names)}"


def refusal(
    code: str, message: str, file: str, line: int | None = None, column: int | None = None, hint: str | None = None
) -> InvalidInputError:
    """The error for an input that has one problem, or one that hides all others."""
    problems = Problems()
    problems.add(Problem(Severity.ERROR, code, message, file, line, column, hint))
    return invalid(file, problems)


def invalid(source: str, problems: Problems) -> InvalidInputError:
    """The error that carries `problems`, at least one of which is an error."""
    if len(problems.listed) == problems.errors == 1:
        return InvalidInputError(problems.listed[0].message, hint=problems.listed[0].hint, problems=problems)
    errors = "1 error" if problems.errors == 1 else f"{problems.errors:,} errors"
    return InvalidInputError(f"{found(source)} has {errors}", problems=problems)
