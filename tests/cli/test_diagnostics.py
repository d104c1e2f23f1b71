from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.cli.diagnostics import as_json, printable, render, summary, unlisted
from fleetops.errors import Problem, Problems, Severity


def of(*listed: Problem) -> Problems:
    problems = Problems()
    for problem in listed:
        problems.add(problem)
    return problems


UNKNOWN = Problem(Severity.ERROR, "unknown-operation", "'rebot' is not one", "m.csv", 3, 14, "did you mean reboot?")
BARE = Problem(Severity.WARNING, "reset-left-bare", "it is bare", "m.csv", 4)


def test_each_problem_has_its_place_and_hint() -> None:
    assert render(of(UNKNOWN, BARE), colour=False) == (
        "error[unknown-operation]: 'rebot' is not one\n"
        "  --> m.csv:3:14\n"
        "  hint: did you mean reboot?\n"
        "\n"
        "warning[reset-left-bare]: it is bare\n"
        "  --> m.csv:4"
    )


def test_colour_adds_nothing_but_styles() -> None:
    coloured = render(of(UNKNOWN), colour=True)
    assert coloured.count("\x1b[") == 8
    assert "\x1b[1;31merror[unknown-operation]\x1b[0m" in coloured


def test_problems_that_are_not_listed_are_counted() -> None:
    problems = of(*[UNKNOWN] * 1234, BARE)
    assert render(problems, colour=False).endswith("error[unknown-operation]: and 1,184 more")
    assert unlisted(problems) == {(Severity.ERROR, "unknown-operation"): 1184}
    assert summary(problems) == "1,234 errors, 1 warning"
    assert len(as_json(problems)) == 51


def test_no_problems_are_nothing_to_show() -> None:
    assert render(Problems(), colour=True) == ""
    assert summary(Problems()) == "no problems"


def test_json_has_the_keys_of_the_contract() -> None:
    assert json.loads(json.dumps(as_json(of(BARE)))) == [
        {
            "severity": "warning",
            "code": "reset-left-bare",
            "file": "m.csv",
            "line": 4,
            "column": None,
            "message": "it is bare",
            "hint": None,
        }
    ]


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert printable("a\x1b]0;x\x07\u202e\n\udce9é") == r"a\x1b]0;x\x07\u202e\n\udce9é"


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_no_control_character_of_a_file_reaches_the_terminal(message: str, file: str, hint: str) -> None:
    shown = render(of(Problem(Severity.ERROR, "a-code", message, file, 1, 1, hint)), colour=False)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert len(shown.split("\n")) == (3 if hint else 2)
