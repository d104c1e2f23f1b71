"""Making a run's journal."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import asdict
from itertools import chain, islice
from operator import eq
from typing import TYPE_CHECKING, Final

from fleetops.errors import JournalError
from fleetops.journal.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES
from fleetops.journal.store import cannot_write
from fleetops.model import OPERATIONS, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fleetops.journal.records import NewRun

_TOGETHER: Final = 100
"""Rows in a statement; more gain nothing, and every SQLite takes so many cells."""
_NOTHING: Final = "''"
_ONE_STEP_EACH: Final = "INSERT INTO step SELECT device, device, ?, ?, '', '' FROM device"


def create_journal(path: Path, new: NewRun) -> None:
    """Write a new run's journal; it is there whole or not at all.

    Raises:
        JournalError: It cannot be written.
    """
    building = path.with_suffix(".new")
    if path.exists():
        raise JournalError(f"there is a journal {path} already", hint="nothing was sent; start the run again")
    try:
        os.close(os.open(building, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with contextlib.closing(sqlite3.connect(building, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            _fill(connection, new)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        _make_durable(building)
        building.rename(path)
        _make_durable(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise cannot_write(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            building.unlink(missing_ok=True)


def _make_durable(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fill(connection: sqlite3.Connection, new: NewRun) -> None:
    steps = new.steps
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in TABLES.split(";\n"):
        connection.execute(statement)
    facts = {key: json.dumps(value) for key, value in asdict(new.facts).items()}
    facts["longest_settle_ns"] = str(max(steps.settle_ns_of, default=0))
    facts["policy"] = new.policy.to_json()
    facts |= {"commits": "0", "attempts": "0", "answers": "0"}
    connection.executemany("INSERT INTO run VALUES (?, ?)", facts.items())
    names = [operation.value for operation in OPERATIONS]
    _insert(connection, "device", range(len(steps.serials)), steps.serials, steps.groups or _NOTHING)
    if _alike(new):
        connection.execute(_ONE_STEP_EACH, (names[steps.operation_of[0]], steps.settle_ns_of[0]))
    else:
        _insert(
            connection,
            "step",
            range(len(steps)),
            steps.device_of,
            map(names.__getitem__, steps.operation_of),
            steps.settle_ns_of,
            new.notes or _NOTHING,
            new.carried or _NOTHING,
        )
    if new.skipped:
        reasons = ((step, new.skipped.get(device)) for step, device in enumerate(steps.device_of))
        skipped = ((step, Outcome.SKIPPED, reason, new.facts.created_ns) for step, reason in reasons if reason)
        connection.executemany("INSERT INTO result VALUES (?, ?, ?, ?, NULL)", skipped)


def _alike(new: NewRun) -> bool:
    """Whether the steps are one for each device, in their order, and differ in nothing else."""
    steps = new.steps
    return (
        not (new.notes or new.carried)
        and len(steps) == len(steps.serials)
        and len(set(steps.settle_ns_of)) == len(set(steps.operation_of)) == 1
        and all(map(eq, steps.device_of, range(len(steps))))
    )


def _insert(connection: sqlite3.Connection, table: str, *columns: Iterable[object] | str) -> None:
    """Put in rows, given by column; a column that is a text is what SQL says of all rows alike.

    Many rows go in by one statement: to begin and end one for each row takes longer than to put the row in.
    """
    row = ", ".join(column if isinstance(column, str) else "?" for column in columns)
    given = [column for column in columns if not isinstance(column, str)]
    cells = chain.from_iterable(zip(*given, strict=False))
    while chunk := tuple(islice(cells, len(given) * _TOGETHER)):
        rows = ", ".join([f"({row})"] * (len(chunk) // len(given)))
        connection.execute(f"INSERT INTO {table} VALUES {rows}", chunk)  # noqa: S608 - the cells are not in it
