from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetops.model import NS_PER_S
from fleetops.policy.backoff import RetryRule, jitter_share
from fleetops.policy.settings import Backoff, Retries


def rule(**settings: object) -> RetryRule:
    return RetryRule(Retries.model_validate({"jitter": 0, "attempts": 10, **settings}), b"run")


@pytest.mark.parametrize(
    ("backoff", "delays_s"),
    [
        ("exponential", [1, 2, 4, 8, 10, 10]),
        ("linear", [1, 2, 3, 4, 5, 6]),
        ("fixed", [1, 1, 1, 1, 1, 1]),
    ],
)
def test_delays_grow_as_the_policy_says(backoff: str, delays_s: list[int]) -> None:
    retries = rule(backoff=backoff, initial=1, cap=10)
    delays = [retries.delay_ns(0, failures, 0) for failures in range(1, 7)]
    assert delays == [delay_s * NS_PER_S for delay_s in delays_s]


@pytest.mark.parametrize("backoff", list(Backoff))
def test_no_delay_is_longer_than_the_cap(backoff: Backoff) -> None:
    retries = rule(backoff=backoff, initial=30, cap=5, attempts=1000)
    assert {retries.delay_ns(0, failures, 0) for failures in (1, 2, 500)} == {5 * NS_PER_S}


def test_a_step_is_given_up_after_its_attempts() -> None:
    retries = rule(attempts=3)
    assert retries.delay_ns(0, 2, 0) is not None
    assert retries.delay_ns(0, 3, 0) is None


def test_one_attempt_means_no_retry() -> None:
    assert rule(attempts=1).delay_ns(0, 1, 0) is None


def test_no_attempt_starts_later_than_the_total_allows() -> None:
    retries = rule(initial=4, backoff="fixed", total=10)
    assert retries.delay_ns(0, 1, 5 * NS_PER_S) == 4 * NS_PER_S
    assert retries.delay_ns(0, 1, 6 * NS_PER_S) is None


def test_whether_a_step_may_wait_depends_on_its_time_in_all() -> None:
    retries = rule(total=10)
    assert retries.may_wait(4 * NS_PER_S, 5 * NS_PER_S)
    assert not retries.may_wait(5 * NS_PER_S, 5 * NS_PER_S)


@given(st.binary(max_size=80), st.integers(0, 2**32), st.integers(1, 1000))
def test_jitter_is_a_share_that_is_the_same_every_time(run_key: bytes, step: int, attempt: int) -> None:
    assert 0 <= jitter_share(run_key, step, attempt) < 1
    assert jitter_share(run_key, step, attempt) == jitter_share(run_key, step, attempt)


def test_jitter_differs_between_runs_steps_and_attempts() -> None:
    shares = {jitter_share(key, step, attempt) for key in (b"a", b"b") for step in range(9) for attempt in range(9)}
    assert len(shares) == 2 * 9 * 9


@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0, 1))
def test_jitter_only_ever_adds_its_share_of_the_delay(step: int, failures: int, jitter: float) -> None:
    plain = rule(backoff="fixed", initial=8).delay_ns(step, failures, 0)
    spread = rule(backoff="fixed", initial=8, jitter=jitter).delay_ns(step, failures, 0)
    assert plain is not None
    assert spread is not None
    assert plain <= spread <= plain * (1 + jitter) + 1
