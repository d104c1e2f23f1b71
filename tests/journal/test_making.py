from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.errors import ExitCode, JournalError
from fleetops.journal.making import create_journal
from fleetops.model import Operation, Steps
from tests.journal.runs import create, new_run, rows, state_dir


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


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 250).map("SN'{}".format),
            st.sampled_from([Operation.REBOOT, Operation.SYNC]),
            st.sampled_from([0, 90_000_000_000]),
        ),
        max_size=250,
        unique_by=lambda row: row[0],
    )
    | st.lists(
        st.tuples(st.sampled_from(["SN1", "SN2", "SN3"]), st.sampled_from(list(Operation)), st.integers(0, 1 << 40)),
        max_size=20,
    ),
    more=st.booleans(),
    alike=st.booleans(),
    backwards=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_journal_holds_every_step_as_it_was_given(
    steps: list[tuple[str, Operation, int]], more: bool, alike: bool, backwards: bool
) -> None:
    if alike:
        steps = [(serial, Operation.REBOOT, 5) for serial, _, _ in steps]
    made = Steps.of(steps)
    if backwards:
        made = replace(made, device_of=made.device_of[::-1])
    if more:
        made = replace(made, groups=[f"g{device}" for device in range(len(made.serials))])
    cells = [json.dumps([f"'{step}\n"]) for step in range(len(steps))] if more else []
    new = replace(new_run(steps), steps=made, notes=[f"n{cell}" for cell in cells], carried=iter(cells) if more else ())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        create_journal(path, new)
        with closing(sqlite3.connect(path)) as journal:
            devices = journal.execute("SELECT * FROM device ORDER BY device").fetchall()
            found = journal.execute("SELECT * FROM step ORDER BY step").fetchall()
    assert devices == [(n, serial, f"g{n}" if more else "") for n, serial in enumerate(made.serials)]
    assert found == [
        (step, made.device_of[step], operation, settle_ns, *((f"n{cells[step]}", cells[step]) if more else ("", "")))
        for step, (_, operation, settle_ns) in enumerate(steps)
    ]
