from __future__ import annotations

from fleetops.model import NS_PER_S
from fleetops.policy.breaker import CircuitBreaker
from fleetops.policy.settings import Breaker

SETTINGS = Breaker.model_validate({"failures": 3, "hold": "5s", "longest_hold": "12s", "give_up": "1m"})


def opened(at_ns: int = 100 * NS_PER_S) -> CircuitBreaker:
    breaker = CircuitBreaker(SETTINGS)
    breaker.answered(0)
    for step in range(3):
        breaker.failed(step, at_ns)
    return breaker


def test_failures_before_the_first_answer_are_the_steps_own() -> None:
    breaker = CircuitBreaker(SETTINGS)
    assert [breaker.failed(step, 0) for step in range(20)] == [None] * 20
    assert not breaker.is_open


def test_failures_in_a_row_open_it_and_are_given_back_to_their_steps() -> None:
    breaker = CircuitBreaker(SETTINGS)
    breaker.answered(0)
    assert breaker.failed(7, NS_PER_S) is None
    assert breaker.failed(8, NS_PER_S) is None
    assert breaker.failed(9, 2 * NS_PER_S) == [7, 8]
    assert breaker.is_open
    assert breaker.until_ns == 7 * NS_PER_S
    assert breaker.outage_ns(4 * NS_PER_S) == 3 * NS_PER_S


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = CircuitBreaker(SETTINGS)
    breaker.answered(0)
    breaker.failed(1, 0)
    breaker.failed(2, 0)
    assert breaker.answered(0) == 0
    assert breaker.failed(3, 0) is None
    assert breaker.failed(4, 0) is None
    assert not breaker.is_open


def test_late_failures_of_requests_sent_before_it_opened_do_not_lengthen_the_hold() -> None:
    breaker = opened()
    until_ns = breaker.until_ns
    assert breaker.failed(5, until_ns - 1) == []
    assert breaker.until_ns == until_ns


def test_an_answer_that_comes_while_it_holds_ends_the_hold_with_the_outage() -> None:
    breaker = opened()
    breaker.answered(breaker.until_ns - 1)
    assert not breaker.is_open
    assert breaker.until_ns == 0


def test_each_failed_probe_doubles_the_hold_up_to_the_longest() -> None:
    breaker = opened()
    holds = []
    for step in range(3):
        now_ns = breaker.until_ns
        assert breaker.failed(step, now_ns) == []
        holds.append((breaker.until_ns - now_ns) // NS_PER_S)
    assert holds == [10, 12, 12]


def test_an_answer_closes_it_and_tells_how_long_the_outage_was() -> None:
    breaker = opened(at_ns=100 * NS_PER_S)
    assert breaker.answered(130 * NS_PER_S) == 30 * NS_PER_S
    assert not breaker.is_open
    assert breaker.failed(1, 131 * NS_PER_S) is None


def test_it_gives_up_after_an_outage_that_is_too_long() -> None:
    breaker = opened(at_ns=0)
    assert not breaker.gives_up(59 * NS_PER_S)
    assert breaker.gives_up(60 * NS_PER_S)
    breaker.answered(61 * NS_PER_S)
    assert not breaker.gives_up(1000 * NS_PER_S)


def test_no_number_of_failures_opens_one_that_is_switched_off() -> None:
    breaker = CircuitBreaker(Breaker(failures=0))
    breaker.answered(0)
    assert [breaker.failed(step, 0) for step in range(1000)] == [None] * 1000
