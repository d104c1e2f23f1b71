from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetops.model import NS_PER_S
from fleetops.policy.pacing import SlidingSecond, bucket_size


@pytest.mark.parametrize(("per_s", "burst", "size"), [(50.0, 0, 3.0), (50.0, 7, 10.0), (1000.0, 0, 41.0)])
def test_the_bucket_holds_a_slot_the_burst_and_a_little_to_catch_up(per_s: float, burst: int, size: float) -> None:
    assert bucket_size(per_s, burst) == size


def test_the_first_sends_are_free_until_the_second_is_full() -> None:
    bound = SlidingSecond(2.0, burst=1)
    for moment_ns in (10, 20, 30):
        assert bound.free_at_ns() == 0
        bound.sent(moment_ns)
    assert bound.free_at_ns() == 10 + NS_PER_S


def test_a_rate_below_one_a_second_is_kept_by_spacing() -> None:
    bound = SlidingSecond(1 / 60)
    bound.sent(5)
    assert bound.free_at_ns() == 5 + 60 * NS_PER_S


rates = st.sampled_from((1 / 3600, 0.5, 1.0, 1.5, 3.0, 7.9))


@given(rates, st.integers(0, 4), st.lists(st.integers(0, 2 * NS_PER_S), min_size=1, max_size=60))
def test_no_sliding_second_carries_more_than_the_rate_and_the_burst(
    per_s: float, burst: int, pauses_ns: list[int]
) -> None:
    bound = SlidingSecond(per_s, burst)
    now_ns, sends = 0, []
    for pause_ns in pauses_ns:
        now_ns = max(now_ns + pause_ns, bound.free_at_ns())
        bound.sent(now_ns)
        sends.append(now_ns)
    span_ns = NS_PER_S if per_s >= 1 else round(NS_PER_S / per_s)
    most = max(1, ceil(per_s)) + burst
    for index, moment_ns in enumerate(sends):
        assert sum(moment_ns <= other_ns < moment_ns + span_ns for other_ns in sends[index:]) <= most


@given(rates, rates, st.integers(0, 3), st.integers(0, 12))
def test_a_change_of_rate_remembers_the_last_second(before: float, after: float, burst: int, count: int) -> None:
    bound = SlidingSecond(before, burst)
    for moment_ns in range(count):
        bound.sent(moment_ns)
    bound.change(after, burst)
    size = max(1, ceil(after)) + burst
    kept = list(range(count))[-(max(1, ceil(before)) + burst) :]
    expected = kept[-size] + (NS_PER_S if after >= 1 else round(NS_PER_S / after)) if len(kept) >= size else 0
    assert bound.free_at_ns() == expected
