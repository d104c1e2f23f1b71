"""The errors of fleetops: one tree, each with the exit code it leads to and a hint where one helps.

Exit codes are part of the command line contract: people script against them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import ClassVar, Final


class ExitCode(IntEnum):
    """What the process says of a run, the most serious that applies."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INVALID = 3
    ABORTED = 4
    UNKNOWN = 5
    INCOMPLETE = 6
    HOST = 7
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """What it tells whoever reads it, in a line."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    ExitCode.OK: "every step accepted or confirmed",
    ExitCode.FAILED: "some steps failed",
    ExitCode.USAGE: "wrong usage",
    ExitCode.INVALID: "the manifest, policy or plan is invalid: nothing was sent",
    ExitCode.ABORTED: "the run was aborted: failure budget, wave gate, refused token, misdirected base URL",
    ExitCode.UNKNOWN: "some outcomes are unknown",
    ExitCode.INCOMPLETE: "incomplete: the window closed, or steps were left for `resume`",
    ExitCode.HOST: "this host failed: journal not writable, disk full, another run holds these devices",
    ExitCode.INTERRUPTED: "interrupted; `resume` continues",
}


class Severity(StrEnum):
    """Whether a problem stops a campaign."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input file, and where.

    Attributes:
        severity: Errors stop a campaign; warnings do not, unless asked to.
        code: A stable name of the kind of problem, such as `unknown-operation`.
        message: What is wrong, with what was found.
        file: The file as the user named it; `-` for standard input.
        line: 1-based physical line, or None where the problem is of the whole file.
        column: 1-based character in that line, or None.
        hint: What to do about it, or None.
    """

    severity: Severity
    code: str
    message: str
    file: str
    line: int | None = None
    column: int | None = None
    hint: str | None = None


@dataclass(slots=True)
class Problems:
    """The problems found in an input: the first `LISTED` of each code in full, the rest counted.

    Attributes:
        listed: Problems in the order they were found.
        counts: How many there are of each code, those not listed included.
    """

    LISTED: ClassVar[int] = 50

    listed: list[Problem] = field(default_factory=list)
    counts: dict[tuple[Severity, str], int] = field(default_factory=dict)

    def add(self, problem: Problem) -> None:
        """Record one problem."""
        key = (problem.severity, problem.code)
        seen = self.counts.get(key, 0)
        self.counts[key] = seen + 1
        if seen < self.LISTED:
            self.listed.append(problem)

    def add_unlisted(self, severity: Severity, code: str, count: int) -> None:
        """Count `count` further problems of a code that has had its share of the list."""
        if count:
            self.counts[severity, code] = self.counts.get((severity, code), 0) + count

    def extend(self, other: Problems) -> None:
        """Take in all that `other` has found."""
        before = dict.fromkeys(other.counts, 0)
        for problem in other.listed:
            before[problem.severity, problem.code] += 1
            self.add(problem)
        for (severity, code), count in other.counts.items():
            self.add_unlisted(severity, code, count - before[severity, code])

    def _total(self, severity: Severity) -> int:
        return sum(count for (kind, _), count in self.counts.items() if kind is severity)

    @property
    def errors(self) -> int:
        """How many errors there are, listed or not."""
        return self._total(Severity.ERROR)

    @property
    def warnings(self) -> int:
        """How many warnings there are, listed or not."""
        return self._total(Severity.WARNING)


class FleetopsError(Exception):
    """Something a user can understand and act on.

    Attributes:
        message: What happened and where, in one line.
        hint: What to do next, or None.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.HOST

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(FleetopsError):
    """The command line or the environment asks for something that does not make sense."""

    exit_code = ExitCode.USAGE


class InvalidInputError(FleetopsError):
    """The manifest, policy or plan is invalid; nothing was sent.

    Attributes:
        problems: All that was found, warnings included.
    """

    exit_code = ExitCode.INVALID

    def __init__(self, message: str, *, hint: str | None = None, problems: Problems | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems if problems is not None else Problems()


class AbortedError(FleetopsError):
    """The run was stopped because going on would do harm or is pointless."""

    exit_code = ExitCode.ABORTED


class HostError(FleetopsError):
    """This machine failed us: the disk, the journal, or a lock held by another run."""

    exit_code = ExitCode.HOST


class JournalError(HostError):
    """The journal cannot be written or read as it must be."""


class RunBusyError(HostError):
    """Another live process holds the run or some of its devices."""
