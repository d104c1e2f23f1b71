from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fleetops.errors import ExitCode, JournalError
from tests.journal.runs import create, new_run, rows, state_dir

if TYPE_CHECKING:
    from pathlib import Path


def test_a_journal_is_never_written_over_another(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    path = create(state, new_run(rows(2)))
    before = path.read_bytes()
    with pytest.raises(JournalError, match="there is a journal"):
        create(state, new_run(rows(3)))
    assert path.read_bytes() == before


def test_a_journal_that_cannot_be_finished_is_not_there_at_all(tmp_path: Path) -> None:
    state = state_dir(tmp_path)

    def cells() -> object:
        yield "[]"
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(JournalError, match="disk is full") as caught:
        create(state, replace(new_run(rows(2)), carried=cells()))  # type: ignore[arg-type]  # it is iterable
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("nothing was sent; free the disk")
    assert caught.value.exit_code is ExitCode.HOST
    assert list(state.runs.iterdir()) == []
