from __future__ import annotations

import pytest

from fleetops import errors
from fleetops.errors import ExitCode, InvalidInputError, Problem, Problems, Severity


def problem(code: str = "odd", severity: Severity = Severity.ERROR, line: int = 1) -> Problem:
    return Problem(severity, code, "it is odd", "m.csv", line)


def test_only_the_first_of_a_kind_are_listed_and_all_are_counted() -> None:
    problems = Problems()
    for line in range(60):
        problems.add(problem(line=line))
    problems.add(problem("other", Severity.WARNING))
    assert len(problems.listed) == Problems.LISTED + 1
    assert (problems.errors, problems.warnings) == (60, 1)


def test_problems_that_were_not_listed_elsewhere_are_counted_here() -> None:
    problems, others = Problems(), Problems()
    for line in range(40):
        problems.add(problem(line=line))
    for line in range(70):
        others.add(problem(line=line))
    others.add_unlisted(Severity.WARNING, "many", 5)
    others.add_unlisted(Severity.WARNING, "none", 0)
    problems.extend(others)
    assert problems.errors == 110
    assert problems.warnings == 5
    assert len(problems.listed) == Problems.LISTED
    assert (Severity.WARNING, "none") not in problems.counts


def test_an_error_without_problems_has_an_empty_list_of_them() -> None:
    error = InvalidInputError("it is not valid", hint="mend it")
    assert error.problems.listed == []
    assert (error.message, error.hint, error.exit_code) == ("it is not valid", "mend it", ExitCode.INVALID)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.InvalidInputError, 3),
        (errors.AbortedError, 4),
        (errors.HostError, 7),
        (errors.JournalError, 7),
        (errors.RunBusyError, 7),
    ],
)
def test_every_error_has_the_exit_code_of_the_contract(kind: type[errors.FleetopsError], code: int) -> None:
    assert kind("x").exit_code == code


def test_every_exit_code_has_a_meaning() -> None:
    assert all(code.meaning for code in ExitCode)
