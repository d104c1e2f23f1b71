from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fleetops.errors import JournalError
from fleetops.journal.commits import Batch
from tests.crash.rig import Rig, end_of
from tests.journal.runs import create, new_run, open_store, rows, state_dir, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.rig import Ended


def _wal(rig: Rig) -> Path:
    return rig.journal.with_name(f"{rig.journal.name}-wal")


def _cut(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))


def _restore_without_wal(rig: Rig) -> None:
    shutil.copyfile(rig.folder / "early" / "runs" / rig.journal.name, rig.journal)
    _wal(rig).unlink()


DAMAGE: dict[str, Callable[[Rig], None]] = {
    "the -wal was deleted": lambda rig: _wal(rig).unlink(),
    "the -wal was cut in half": lambda rig: _cut(_wal(rig), 0.5),
    "the file was removed": lambda rig: rig.journal.unlink(),
    "the file was cut in half": lambda rig: _cut(rig.journal, 0.5),
    "the file was replaced by an older one": _restore_without_wal,
}


@pytest.fixture(scope="module")
def endings(killed: Rig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Ended, int]]:
    """By damage, how resuming ended and how many requests arrived meanwhile from any of them."""

    def resume(number: int, damage: Callable[[Rig], None]) -> Ended:
        folder = tmp_path_factory.getbasetemp() / f"damaged{number}"
        shutil.copytree(killed.folder, folder)
        rig = Rig(folder, killed.sandbox)
        arguments = rig.resume_arguments()
        rig.journal.with_name(f"{rig.journal.name}-shm").unlink()
        damage(rig)
        return end_of(rig.start(arguments))

    before = killed.sandbox.arrivals()
    with ThreadPoolExecutor(2) as pool:
        endeds = list(pool.map(resume, range(len(DAMAGE)), DAMAGE.values()))
    arrived = killed.sandbox.arrivals() - before
    return {name: (ended, arrived) for name, ended in zip(DAMAGE, endeds, strict=True)}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_is_refused_before_anything_is_sent(
    damage: str, endings: dict[str, tuple[Ended, int]]
) -> None:
    ended, arrived = endings[damage]
    assert ended.code == (2 if damage == "the file was removed" else 7), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "defect" not in ended.stderr
    assert "hint:" in ended.stderr
    assert arrived == 0


def test_the_error_says_what_can_be_saved(endings: dict[str, tuple[Ended, int]]) -> None:
    assert ".recover | sqlite3 recovered.db" in endings["the file was cut in half"][0].stderr
    assert "-wal file was removed or cut" in endings["the -wal was deleted"][0].stderr


@pytest.mark.parametrize("missing", ["attempts", "answers"])
def test_an_older_file_under_a_newer_wal_is_refused_where_no_page_of_it_is_damaged(
    tmp_path: Path, missing: str
) -> None:
    def intents(steps: range) -> list[tuple[int, int, int, int]]:
        return [(step, 1, 1, 0) for step in steps]

    def answers(steps: range, detail: str) -> list[tuple[object, ...]]:
        return [(0, 0, 1, "throttled", "throttled", 429, None, detail, step, 1) for step in steps]

    state, some = state_dir(tmp_path / "state"), range(100, 200)
    path = create(state, new_run(rows(2000)))
    wal, saved = path.with_name(f"{path.name}-wal"), tmp_path / "saved-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        write(connection, Batch(intents=intents(range(1000))), 1)
        write(connection, Batch(withdrawn=[(step, 1) for step in some]), 2)
        if missing == "answers":
            write(connection, Batch(intents=intents(range(100, 101))), 3)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        older = path.read_bytes()
        if missing == "answers":
            write(connection, Batch(answers=answers(range(100, 101), "")), 4)
        else:
            write(connection, Batch(intents=intents(some)), 4)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        write(connection, Batch(intents=intents(range(1999, 2000))), 5)
        shutil.copyfile(wal, saved)
    open_store(state).close()
    path.write_bytes(older)
    shutil.copyfile(saved, wal)
    with pytest.raises(JournalError, match="are not of one age"):
        open_store(state)
