"""What an operator asks of a live run from another terminal, by way of its journal."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fleetops.errors import JournalError, UsageError
from fleetops.journal.store import connect
from fleetops.policy import parse_rate

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.journal.state import StateDir


class Action(StrEnum):
    """What can be asked of a live run."""

    PAUSE = "pause"
    CONTINUE = "continue"
    ABORT = "abort"
    RATE = "rate"


_KNOWN: Final = frozenset(Action)


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that was asked.

    Attributes:
        number: Its number; later ones have higher numbers.
        action: What.
        argument: The rate, for `RATE`; else empty.
    """

    number: int
    action: Action
    argument: str


def ask(state: StateDir, run_id: str, action: Action, argument: str = "") -> None:
    """Leave a command for the process that drives a run.

    Raises:
        UsageError: There is no such run, no process drives it, or the rate is none.
        JournalError: The journal cannot be written.
    """
    path = state.journal_path(run_id)
    if action is Action.RATE:
        try:
            parse_rate(argument)
        except ValueError as error:
            raise UsageError(str(error), hint="write a rate such as 10/s, 90/m or 500/h") from None
    with closing(connect(path, writable=True)) as connection:
        if not state.is_live(run_id):
            raise UsageError(
                f"run {run_id} is not live: there is nobody to ask to {action}",
                hint=f"`fleetops status {run_id}` shows how it stands, `fleetops resume {run_id}` goes on with it",
            )
        try:
            connection.execute(
                "INSERT INTO command (asked_ns, action, argument) VALUES (?, ?, ?)", (time.time_ns(), action, argument)
            )
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal {path} cannot be written: {error}",
                hint="check the rights and the free space of the state directory",
            ) from None


class Inbox:
    """The commands that come in for the process that drives a run.

    Args:
        path: The run's journal.
        after: The last command that was asked of an earlier process, by `RunStore.asked_before`.
    """

    def __init__(self, path: Path, after: int) -> None:
        self._connection = connect(path, writable=False)
        self._seen = after

    def new(self) -> list[Command]:
        """The commands that came in since this was last asked, in order; none where the journal cannot be read now."""
        try:
            rows = self._connection.execute(
                "SELECT command, action, argument FROM command WHERE command > ? ORDER BY command", (self._seen,)
            ).fetchall()
        except sqlite3.Error:
            return []
        if rows:
            self._seen = rows[-1][0]
        # What a newer version of fleetops asks for and this one does not know is left alone.
        return [Command(number, Action(action), argument) for number, action, argument in rows if action in _KNOWN]

    def close(self) -> None:
        """Let go of the journal."""
        self._connection.close()
