"""What an operator asks of a live run from another terminal, by way of its journal."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetops.errors import JournalError, UsageError
from fleetops.journal.store import connect
from fleetops.policy import parse_rate
from fleetops.scheduler import Event

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
_LOOK_S: Final = 0.05
_ANSWERS: Final = {
    Action.PAUSE: (Event.PAUSED, Event.CONTINUED),
    Action.CONTINUE: (Event.CONTINUED, Event.PAUSED),
    Action.RATE: (Event.RATE,),
}
"""What a run tells that does as it is asked, and what it told last where it does the opposite."""


class Command(NamedTuple):
    """One thing that was asked.

    Attributes:
        number: Its number; later ones have higher numbers.
        action: What.
        argument: The rate, for `RATE`; else empty.
    """

    number: int
    action: Action
    argument: str


class Heard(StrEnum):
    """What came of asking a live run for something."""

    DONE = "done"
    NO_CHANGE = "no_change"
    """The run was so already: paused, or not."""
    NO_ANSWER = "no_answer"
    """The process that drives it has not said anything in time."""


def ask(state: StateDir, run_id: str, action: Action, argument: str = "", *, answer_s: float = 0.0) -> Heard:
    """Ask the process that drives a run for something; what it answers in time.

    Args:
        state: Where the runs are.
        run_id: The run.
        action: What.
        argument: The rate, for `Action.RATE`; else empty.
        answer_s: How long to wait for an answer, in seconds; the process looks for commands twice a second.

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
            before = _told_last(connection, action)
            connection.execute(
                "INSERT INTO command (asked_ns, action, argument) VALUES (?, ?, ?)", (time.time_ns(), action, argument)
            )
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal {path} cannot be written: {error}",
                hint="check the rights and the free space of the state directory",
            ) from None
        deadline_s = time.monotonic() + answer_s
        while time.monotonic() < deadline_s:
            if _has_answered(connection, action, before) or (action is Action.ABORT and not state.is_live(run_id)):
                return Heard.DONE
            time.sleep(_LOOK_S)
    was_paused = before.event is Event.PAUSED
    as_it_was = (action is Action.PAUSE and was_paused) or (action is Action.CONTINUE and not was_paused)
    return Heard.NO_CHANGE if as_it_was else Heard.NO_ANSWER


class _Told(NamedTuple):
    """What a run told: the row of its journal, and the event; none where it has told nothing."""

    row: int
    event: Event | None


def _told_last(connection: sqlite3.Connection, action: Action) -> _Told:
    """What the process that drives the run told last of what an action is about."""
    events = _ANSWERS.get(action, ())
    row = connection.execute(
        f"SELECT rowid, event FROM event WHERE process = (SELECT max(process) FROM process) "  # noqa: S608 - holes
        f"AND event IN ({', '.join('?' * len(events))}) ORDER BY rowid DESC LIMIT 1",
        events,
    ).fetchone()
    return _Told(0, None) if row is None else _Told(row[0], Event(row[1]))


def _has_answered(connection: sqlite3.Connection, action: Action, before: _Told) -> bool:
    try:
        told = _told_last(connection, action)
    except sqlite3.Error:
        return False
    return told.row > before.row and told.event is _ANSWERS[action][0]


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
