"""An outage is the service's, whichever chunk of whichever worker sees it."""

from __future__ import annotations

from fleetops.cluster.outage import ChunkBreaker, SharedBreaker
from fleetops.policy.settings import Breaker
from tests.journal.runs import S

SETTINGS = Breaker.model_validate({"failures": 4, "hold": "5s"})


def two_chunks() -> tuple[SharedBreaker, ChunkBreaker, ChunkBreaker]:
    shared = SharedBreaker(SETTINGS)
    one, other = ChunkBreaker(shared, SETTINGS), ChunkBreaker(shared, SETTINGS)
    one.answered(0)
    return shared, one, other


def test_failures_of_several_chunks_open_it_for_all_of_them() -> None:
    shared, one, other = two_chunks()
    assert [one.failed(1, S), other.failed(1, S), one.failed(2, S)] == [None, None, None]
    assert other.failed(2, S) == []
    assert one.is_open
    assert other.is_open
    assert one.until_ns == other.until_ns == 6 * S
    assert shared.news
    assert shared.since_ns == S


def test_an_answer_to_one_chunk_ends_it_and_every_chunk_gives_its_steps_the_time_back() -> None:
    shared, one, other = two_chunks()
    for step in range(4):
        one.failed(step, S)
    assert one.answered(31 * S) == 30 * S
    assert not other.is_open
    assert other.until_ns == 0
    assert other.answered(40 * S) == 30 * S
    assert other.answered(41 * S) == 0
    assert shared.since_ns is None


def test_what_other_workers_know_is_taken_over() -> None:
    shared, one, _ = two_chunks()
    assert shared.adopt(10 * S, 15 * S, 11 * S)
    assert (one.is_open, one.until_ns) == (True, 15 * S)
    assert one.outage_ns(20 * S) == 10 * S
    assert not shared.adopt(10 * S, 25 * S, 20 * S)
    assert one.until_ns == 20 * S, "who may try is for the gate to say"
    assert shared.adopt(None, None, 30 * S)
    assert (one.is_open, one.until_ns) == (False, 0)
    assert one.answered(31 * S) == 20 * S


def test_what_is_still_to_be_told_is_not_undone_by_what_others_do_not_know_yet() -> None:
    shared, one, _ = two_chunks()
    for step in range(4):
        one.failed(step, S)
    assert not shared.adopt(None, None, 2 * S)
    assert (one.is_open, shared.news) == (True, True)
    shared.news = False
    assert shared.adopt(None, None, 3 * S)
    assert (one.is_open, shared.news) == (False, False)


def test_an_outage_that_lasts_too_long_is_given_up_by_every_chunk() -> None:
    _, one, other = two_chunks()
    for step in range(4):
        one.failed(step, S)
    assert not other.gives_up(1000 * S)
    assert other.gives_up(3700 * S)


def test_a_chunk_that_is_over_is_told_nothing_more() -> None:
    shared, one, other = two_chunks()
    other.leave()
    assert shared.chunks == [one]
