from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fleetops.live import follow
from fleetops.live.follow import Follower
from fleetops.model import Outcome
from tests.report.journals import RUN_ID, T0, S, make_journal, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.report.journals import Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_journal(tmp_path, rows(5))
    made.process()
    return made


@contextmanager
def driven(made: Made) -> Iterator[None]:
    """While a process holds the run, as far as others can see."""
    lock = made.state.lock_run(RUN_ID)
    try:
        yield
    finally:
        lock.release()


def told(follower: Follower, version: str) -> list[dict[str, Any]]:
    return [json.loads(message) for message in follower.since(version)]


def test_a_page_is_told_of_a_row_once_it_has_changed_and_only_once(made: Made) -> None:
    follower = Follower(made.state, RUN_ID)
    with driven(made):
        follower.page()
        version = follower.version
        assert told(follower, version) == []
        made.attempt(3, "accepted", http_status=200)
        made.result(3, Outcome.ACCEPTED)
        follower.look()
        (message,) = told(follower, version)
        assert [row[:2] for row in message["rows"]] == [[3, "accepted"]]
        assert ["lead", 0, f"{RUN_ID}: running, 1 accepted, 4 not started of 5 steps"] in message["pieces"]
        version = follower.version
        follower.look()
        assert told(follower, version) == []


def test_what_is_only_in_flight_is_no_failure_and_a_run_that_goes_on_has_no_exit_code(made: Made) -> None:
    made.attempt(0, None)
    follower = Follower(made.state, RUN_ID)
    with driven(made):
        page = follower.page()
        assert "Nothing failed, and nothing is unknown." in page
        assert "<dt>Exit code</dt>" not in page
    follower.look()
    (message,) = told(follower, "")
    pieces = json.dumps(message["pieces"])
    assert "1 step failed or may have run." in pieces
    assert "<dt>Exit code</dt><dd>5</dd>" in pieces


def test_what_nobody_drives_is_read_again_only_where_its_journal_has_changed(made: Made) -> None:
    follower = Follower(made.state, RUN_ID)
    follower.look()
    version = follower.version
    follower.look()
    assert follower.version == version
    made.result(0, Outcome.UNKNOWN, at_ns=T0 - 99 * S)
    follower.look()
    (message,) = told(follower, version)
    assert [row[:2] for row in message["rows"]] == [[0, "unknown"]], "however long ago it is said to have happened"


@pytest.mark.parametrize("version", ["", "other-3", "x", "-1", "1e9-2"])
def test_a_page_of_another_server_is_told_everything(made: Made, version: str) -> None:
    follower = Follower(made.state, RUN_ID)
    follower.look()
    (message,) = told(follower, version)
    assert [row[0] for row in message["rows"]] == [0, 1, 2, 3, 4]
    assert {kind for kind, _, _ in message["pieces"]} == {"lead", "going", "section", "chart"}


def test_many_rows_come_in_several_messages_and_the_pieces_in_the_first(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MOST_ROWS", 2)
    follower = Follower(made.state, RUN_ID)
    follower.look()
    messages = told(follower, "")
    assert [len(message["rows"]) for message in messages] == [2, 2, 1]
    assert [bool(message["pieces"]) for message in messages] == [True, False, False]
