from __future__ import annotations

from fleetops.documents import found, invalid, nearest, refusal, suggestion
from fleetops.errors import Problem, Problems, Severity


def test_what_was_found_is_short_and_printable() -> None:
    assert found("re\x1b[31mboot") == r"'re\x1b[31mboot'"
    assert len(found("x" * 1000)) < 50
    assert found({"a": 1}) == "a mapping"
    assert found([1]) == "a list"
    assert found(None) == "nothing"
    assert found(5) == "'5'"


def test_the_nearest_word_is_found_whatever_its_case() -> None:
    assert nearest("REBOTO", ["reboot", "sync"]) == "reboot"
    assert nearest("x" * 100_000, ["reboot"]) is None
    assert suggestion("synk", ["reboot", "sync"]) == "did you mean sync?"
    assert suggestion("qqq", ["reboot", "sync"]) == "use one of: reboot, sync"


def test_one_problem_speaks_for_itself_and_more_are_counted() -> None:
    assert refusal("a-code", "it is wrong", "f.csv", 1, 2, "mend it").message == "it is wrong"
    problems = Problems()
    for line in range(60):
        problems.add(Problem(Severity.ERROR, "a-code", "it is wrong", "f.csv", line))
    assert invalid("f.csv", problems).message == "'f.csv' has 60 errors"
