"""Problems as people and programs read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetops.errors import Severity

if TYPE_CHECKING:
    from fleetops.errors import Problem, Problems

_STYLE: Final = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m"}
_BOLD: Final = "\x1b[1m"
_DIM: Final = "\x1b[2m"
_CYAN: Final = "\x1b[36m"
_PLAIN: Final = "\x1b[0m"


def render(problems: Problems, *, colour: bool) -> str:
    """The problems for a terminal: each with its place and hint, then the counts of those that are not listed.

    Whatever a terminal would act on instead of showing is escaped; the only control characters are line ends and, where
    `colour` is asked for, ours.
    """

    def styled(style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if colour else text

    blocks = []
    for problem in problems.listed:
        severity = styled(_STYLE[problem.severity], f"{problem.severity}[{printable(problem.code)}]")
        lines = [
            f"{severity}: {styled(_BOLD, printable(problem.message))}",
            f"  {styled(_DIM, '-->')} {_where(problem)}",
        ]
        if problem.hint:
            lines.append(f"  {styled(_CYAN, 'hint:')} {printable(problem.hint)}")
        blocks.append("\n".join(lines))
    blocks += [
        f"{styled(_STYLE[severity], f'{severity}[{printable(code)}]')}: and {count:,} more"
        for (severity, code), count in unlisted(problems).items()
    ]
    return "\n\n".join(blocks)


def summary(problems: Problems) -> str:
    """How many there are, in a few words: `2 errors, 1 warning`."""
    counts = ((problems.errors, "error"), (problems.warnings, "warning"))
    words = [counted(count, word) for count, word in counts if count]
    return ", ".join(words) or "no problems"


def counted(number: int, word: str) -> str:
    """`1 device`, `1,200 devices`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def unlisted(problems: Problems) -> dict[tuple[Severity, str], int]:
    """How many problems of each kind are counted but not listed; kinds that are listed in full are left out."""
    left = dict(problems.counts)
    for problem in problems.listed:
        left[problem.severity, problem.code] -= 1
    return {kind: count for kind, count in left.items() if count}


def as_json(problems: Problems) -> list[dict[str, str | int | None]]:
    """The listed problems as values for JSON, with the keys that the command line promises."""
    return [
        {
            "severity": problem.severity.value,
            "code": problem.code,
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in problems.listed
    ]


def printable(text: str) -> str:
    """`text` with every character escaped that a terminal acts on or cannot show."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _where(problem: Problem) -> str:
    place = [printable(problem.file), *(str(at) for at in (problem.line, problem.column) if at is not None)]
    return ":".join(place)
