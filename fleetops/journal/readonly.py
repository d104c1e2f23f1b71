"""Opening a journal for reading alone, wherever it lies."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from fleetops.errors import JournalError
from fleetops.journal.schema import APPLICATION_ID, SCHEMA_VERSION
from fleetops.journal.store import connect

if TYPE_CHECKING:
    from pathlib import Path


def connect_readonly(path: Path) -> sqlite3.Connection:
    """Open a journal for reading, with what a crashed process left in its -wal file.

    Raises:
        UsageError: There is none.
        JournalError: It is not one of ours, it is damaged, or it cannot be read where it lies.
    """
    try:
        return connect(path, writable=False)
    except OSError as error:
        raise JournalError(
            f"the journal {path} cannot be read: {error.strerror}", hint="check who may read it"
        ) from None
    except JournalError as error:
        if os.access(path.parent, os.W_OK):
            raise JournalError(error.message, hint=_for_reading(error.hint)) from None
    # SQLite wants to make a -shm file beside the journal. Where there is no -wal it is not needed: nobody writes there,
    # and the file is all there is.
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size:
        raise JournalError(
            f"the journal {path} cannot be read where it is: SQLite has to work in {wal.name} too, and the directory "
            "cannot be written",
            hint=f"copy {path.name} and {wal.name} into the folder `runs` of a directory that you can write, and name "
            "that directory in FLEETOPS_STATE_DIR",
        )
    return _connect_immutable(path)


def _connect_immutable(path: Path) -> sqlite3.Connection:
    connection = None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        marks = [connection.execute(f"PRAGMA {mark}").fetchone()[0] for mark in ("application_id", "user_version")]
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise unreadable(path, str(error)) from None
    if marks != [APPLICATION_ID, SCHEMA_VERSION]:
        connection.close()
        raise unreadable(path, "it is not one of this version of fleetops")
    return connection


def _for_reading(hint: str | None) -> str | None:
    """The hint of an error, without what only whoever wants to send has to hear: that nothing was sent."""
    return hint and hint.removeprefix("nothing was sent").lstrip(";. ")


def unreadable(path: Path, why: str) -> JournalError:
    """What to say of a journal that cannot be read."""
    return JournalError(
        f"the journal {path} cannot be read: {why}",
        hint=f"what can be saved of it: `sqlite3 {path} .recover | sqlite3 recovered.db` (or .dump where that fails)",
    )
