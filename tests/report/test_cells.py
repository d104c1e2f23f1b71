from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.report.cells import FORMULA_MARKS, any_formula, neutralised


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_a_cell_that_starts_a_formula_is_put_behind_an_apostrophe(cell: str) -> None:
    assert neutralised(["a", cell, ""]) == ["a", f"'{cell}", ""]


@pytest.mark.parametrize("cell", ["", "a=1", "1-1", " =1", "'=1", "\0"])
def test_any_other_cell_is_left_alone(cell: str) -> None:
    cells = [cell]
    assert neutralised(cells) is cells


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("=+-@\t\r\n\0a'"), max_size=3)))
def test_whatever_comes_in_no_cell_starts_a_formula_and_twice_does_what_once_does(cells: list[str]) -> None:
    once = neutralised(cells)
    assert not any(cell.startswith(FORMULA_MARKS) for cell in once)
    assert list(neutralised(once)) == list(once)
    assert [a if a == b else b[1:] for a, b in zip(cells, once, strict=True)] == cells
    assert any_formula(cells) or list(once) == cells
