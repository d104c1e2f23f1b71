from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fleetops.errors import JournalError, UsageError
from fleetops.journal import Action, Command, Heard, Inbox, ask
from tests.journal.runs import RUN_ID, create, new_run, open_store, rows, state_dir

if TYPE_CHECKING:
    from pathlib import Path


def test_a_command_reaches_the_process_that_drives_the_run_once(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(1)))
    store = open_store(state)
    with closing(Inbox(store.path, store.asked_before)) as inbox:
        assert inbox.new() == []
        ask(state, RUN_ID, Action.PAUSE)
        ask(state, RUN_ID, Action.RATE, "20/s")
        assert inbox.new() == [Command(1, Action.PAUSE, ""), Command(2, Action.RATE, "20/s")]
        assert inbox.new() == []
    store.close()
    store = open_store(state)
    assert store.asked_before == 2
    store.close()


def test_what_a_newer_version_asks_for_is_left_alone(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(1)))
    store = open_store(state)
    with closing(Inbox(store.path, 0)) as inbox:
        store._connection.execute("INSERT INTO command (asked_ns, action, argument) VALUES (1, 'explode', '')")
        ask(state, RUN_ID, Action.ABORT)
        assert inbox.new() == [Command(2, Action.ABORT, "")]
        store._connection.execute("DROP TABLE command")
        assert inbox.new() == []
    store.close()


@pytest.mark.parametrize(
    ("told", "action", "answer", "heard"),
    [
        ([], Action.PAUSE, "paused", Heard.DONE),
        (["paused"], Action.CONTINUE, "continued", Heard.DONE),
        (["gate_failed", "paused"], Action.CONTINUE, "continued", Heard.DONE),
        (["rate"], Action.RATE, "rate", Heard.DONE),
        (["paused"], Action.PAUSE, None, Heard.NO_CHANGE),
        ([], Action.CONTINUE, None, Heard.NO_CHANGE),
        (["paused", "continued"], Action.CONTINUE, "wave_started", Heard.NO_CHANGE),
        (["paused", "continued"], Action.PAUSE, None, Heard.NO_ANSWER),
        (["paused"], Action.CONTINUE, None, Heard.NO_ANSWER),
        ([], Action.RATE, "paused", Heard.NO_ANSWER),
        ([], Action.ABORT, "paused", Heard.NO_ANSWER),
    ],
)
def test_what_the_run_tells_since_is_its_answer(
    told: list[str], action: Action, answer: str | None, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(1)))
    store = open_store(state)
    store.begin(store.load(now_ns=1).policy, now_ns=1)
    insert = "INSERT INTO event SELECT 1, max(process), ?, '' FROM process"
    for event in told:
        store._connection.execute(insert, (event,))

    def answers(_wait_s: float) -> None:
        if answer is not None:
            store._connection.execute(insert, (answer,))

    # The process answers while it is waited for.
    monkeypatch.setattr("time.sleep", answers)
    argument = "5/s" if action is Action.RATE else ""
    assert ask(state, RUN_ID, action, argument, answer_s=0.05) is heard
    store.close()


def test_a_run_that_is_over_has_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(1)))
    store = open_store(state)
    monkeypatch.setattr("time.sleep", lambda _wait_s: store.close())
    assert ask(state, RUN_ID, Action.ABORT, answer_s=5) is Heard.DONE


def test_nobody_is_asked_where_nobody_drives_the_run(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    with pytest.raises(UsageError, match="there is no run"):
        ask(state, RUN_ID, Action.PAUSE)
    create(state, new_run(rows(1)))
    with pytest.raises(UsageError, match="is not live"):
        ask(state, RUN_ID, Action.PAUSE)


def test_a_rate_that_is_none_is_refused_where_it_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a rate"):
        ask(state_dir(tmp_path), RUN_ID, Action.RATE, "fast")


def test_a_command_that_cannot_be_left_is_told_in_words(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(rows(1)))
    store = open_store(state)
    store._connection.execute("DROP TABLE command")
    with pytest.raises(JournalError, match="cannot be written"):
        ask(state, RUN_ID, Action.PAUSE)
    store.close()
