from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.errors import Problem, Problems, Severity
from fleetops.manifest.checks import checked_rows
from fleetops.manifest.csv_file import read_table
from fleetops.manifest.serials import SerialRules
from tests.manifest.frames import frame_of

if TYPE_CHECKING:
    import pandas as pd


def check(text: str) -> tuple[pd.DataFrame, Problems]:
    problems = Problems()
    table = read_table(text.encode(), "m.csv", problems)
    return frame_of(checked_rows(table, SerialRules(), problems)), problems


def listed(*rows: str, header: str = "serial,op,group,settle") -> list[Problem]:
    return check("\n".join([header, *rows]))[1].listed


def places(*rows: str, header: str = "serial,op") -> list[tuple[str, int | None, int | None]]:
    return [(one.code, one.line, one.column) for one in listed(*rows, header=header)]


def test_clean_rows_have_every_column_in_its_type() -> None:
    rows, problems = check("serial,op,group,settle,note\n A1 , Reboot ,n1, 5m ,x \nA2,device_factory,,,\nA2,sync,,0,\n")
    assert not problems.listed
    assert rows.to_dict("list") == {
        "serial_number": ["A1", "A2", "A2"],
        "operation": ["reboot", "device_factory", "sync"],
        "group": ["n1", "", ""],
        "settle_ns": [300 * 10**9, -1, 0],
        "note": ["x ", "", ""],
        "line": [2, 3, 4],
    }
    assert [str(kind) for kind in rows.dtypes[["settle_ns", "line"]]] == ["int64", "int64"]


def test_columns_that_are_not_there_are_empty() -> None:
    rows, _ = check("serial,op\nA1,sync\n")
    assert rows[["group", "settle_ns", "note"]].to_numpy().tolist() == [["", -1, ""]]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("rebot", "did you mean reboot?"),
        ("restart", "did you mean reboot?"),
        ("factory reset", "did you mean factory?"),
        ("device-factory", "did you mean device_factory?"),
        ("qqqq", "use one of: reboot, factory, device_factory, sync, reconf"),
    ],
)
def test_an_unknown_operation_gets_the_nearest_one(word: str, hint: str) -> None:
    [problem] = listed(f"A1,{word},,")
    assert (problem.code, problem.line, problem.column, problem.hint) == ("unknown-operation", 2, 4, hint)
    assert repr(word) in problem.message


def test_an_empty_operation_is_an_error() -> None:
    assert places("A1,", "A2,  ") == [("empty-operation", 2, 4), ("empty-operation", 3, 6)]


def test_the_first_fifty_of_a_kind_are_listed_and_all_are_counted() -> None:
    problems = check("serial,op\n" + "".join(f"A{at},x\n" for at in range(1000)))[1]
    assert len(problems.listed) == 50
    assert problems.counts == {(Severity.ERROR, "unknown-operation"): 1000}


@pytest.mark.parametrize("settle", ["soon", "-5", "5 parsecs", "9" * 400, "400d"])
def test_a_bad_settle_time_is_an_error(settle: str) -> None:
    [problem] = listed(f"A1,sync,,{settle}")
    assert (problem.code, problem.line, problem.column) == ("bad-settle", 2, 10)


def test_a_repeat_back_to_back_is_told_from_a_duplicate() -> None:
    rows = ["A1,sync", "A2,sync", "A1,sync", "A1,reboot", "A1,sync"]
    assert places(*rows) == [("repeated-operation", 4, 1), ("duplicate-step", 6, 1)]
    assert "in line 2" in listed(*rows, header="serial,op")[1].message


def test_repeats_are_found_however_many_other_rows_are_wrong() -> None:
    assert places("A1,sync", "A1,sync", "A2,rebot", "A3,rebot") == [
        ("unknown-operation", 4, 4),
        ("unknown-operation", 5, 4),
        ("repeated-operation", 3, 1),
    ]


def test_settings_that_a_reset_undoes_are_warned_of() -> None:
    found = listed("A1,sync", "A2,reconf", "A1,reboot", "A1,factory", "A1,reconf", header="serial,op")
    assert [(one.code, one.severity, one.line, one.column) for one in found] == [
        ("undone-by-reset", Severity.WARNING, 2, 4)
    ]
    assert found[0].message == "sync of 'A1' is undone by the factory in line 5"


def test_a_reset_without_sync_or_reconf_after_it_is_warned_of_once_a_device() -> None:
    rows = ["A1,factory", "A2,device_factory", "A1,reboot", "A3,factory", "A3,sync", "A4,factory", "A4,device_factory"]
    assert places(*rows) == [("reset-left-bare", 2, 4), ("reset-left-bare", 3, 4), ("reset-left-bare", 8, 4)]


def test_a_device_in_two_groups_is_an_error() -> None:
    found = listed("A1,sync,n1,", "A2,sync,n2,", "A1,reconf,n2,", "A1,reboot,,")
    assert [(one.code, one.line, one.column) for one in found] == [("conflicting-groups", 4, 11)]
    assert "'n1' in line 2" in found[0].message


def test_a_group_holds_for_every_row_of_its_device() -> None:
    rows, problems = check("serial,op,group\nA1,sync,\nA2,sync,n2\nA1,reconf,n1\nA3,sync, \n")
    assert not problems.listed
    assert rows["group"].tolist() == ["n1", "n2", "n1", ""]


def test_rows_without_a_serial_number_are_not_taken_for_one_device() -> None:
    assert places(",factory", ",factory", header="serial,op") == [("empty-serial", 2, 1), ("empty-serial", 3, 1)]
    assert {one.code for one in listed(",sync,a,", ",sync,b,")} == {"empty-serial"}


def test_a_column_that_is_nearly_one_of_ours_is_warned_of() -> None:
    [problem] = listed("A1,sync,n1,5m", header="serial,op,gruop,settel")[:1]
    assert (problem.code, problem.severity, problem.hint) == (
        "similar-column",
        Severity.WARNING,
        "did you mean group?",
    )
    assert not listed("A1,sync,n1", header="serial,op,site")
