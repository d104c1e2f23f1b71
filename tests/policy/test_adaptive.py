from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetops.model import NS_PER_S
from fleetops.policy.adaptive import CUT, FLOOR, RAISE_PER_S, AdaptiveRate


def test_a_429_cuts_the_rate() -> None:
    rate = AdaptiveRate(100.0)
    assert rate.throttled(0)
    assert rate.per_s == pytest.approx(100 * CUT)


def test_the_429s_of_one_volley_count_once() -> None:
    rate = AdaptiveRate(100.0)
    rate.throttled(0)
    assert not rate.throttled(NS_PER_S - 1)
    assert rate.throttled(NS_PER_S)
    assert rate.per_s == pytest.approx(100 * CUT * CUT)


def test_it_is_never_cut_below_a_share_of_what_was_asked() -> None:
    rate = AdaptiveRate(100.0)
    for second in range(50):
        rate.throttled(second * NS_PER_S)
    assert rate.per_s == pytest.approx(100 * FLOOR)


def test_quiet_seconds_give_the_rate_back_little_by_little() -> None:
    rate = AdaptiveRate(100.0)
    rate.throttled(0)
    assert not rate.quiet(NS_PER_S - 1, 0)
    assert rate.quiet(NS_PER_S, 0)
    assert rate.per_s == pytest.approx(100 * (CUT + RAISE_PER_S))
    assert rate.quiet(2 * NS_PER_S, 0)
    assert rate.per_s == pytest.approx(100 * (CUT + 2 * RAISE_PER_S))


def test_the_time_of_a_hold_is_not_quiet() -> None:
    rate = AdaptiveRate(100.0)
    rate.throttled(0)
    assert not rate.quiet(30 * NS_PER_S, hold_until_ns=30 * NS_PER_S)
    assert rate.quiet(31 * NS_PER_S, hold_until_ns=30 * NS_PER_S)
    assert rate.per_s == pytest.approx(100 * (CUT + RAISE_PER_S))


def test_a_rate_that_was_not_cut_stays() -> None:
    assert not AdaptiveRate(100.0).quiet(10**12, 0)


def test_another_rate_is_in_force_at_once() -> None:
    rate = AdaptiveRate(100.0)
    rate.throttled(0)
    rate.ask(40.0)
    assert (rate.asked_per_s, rate.per_s) == (40.0, 40.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10 * NS_PER_S)), max_size=60))
def test_it_stays_between_the_floor_and_what_was_asked(events: list[tuple[bool, int]]) -> None:
    rate = AdaptiveRate(20.0)
    now_ns = 0
    for is_throttled, pause_ns in events:
        now_ns += pause_ns
        before = rate.per_s
        changed = rate.throttled(now_ns) if is_throttled else rate.quiet(now_ns, 0)
        assert changed == (rate.per_s != before) or rate.per_s == pytest.approx(20.0 * FLOOR)
        assert 20.0 * FLOOR <= rate.per_s <= 20.0
