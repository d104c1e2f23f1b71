from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.sandbox import FAULTS, Fault, parse_fault
from fleetops.sandbox.faults import FaultsInForce, draw

TIMED = ("throttle", "throttle_date", "unavailable", "slow", "drip")
WAITS = st.none() | st.integers(0, 10**7).map(lambda ms: ms / 1000)
TIMES = st.none() | st.integers(0, 10**6)
SERIALS = st.text("AZaz09._-", min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("throttle=2%", Fault("throttle", share=0.02)),
        ("throttle=2%:5s", Fault("throttle", share=0.02, wait_s=5.0)),
        ("hang=0.01", Fault("hang", share=0.01)),
        ("hang=.5%", Fault("hang", share=0.005)),
        ("slow@ZQ000000001:300ms", Fault("slow", serial="ZQ000000001", wait_s=0.3)),
        ("revoke_token=500", Fault("revoke_token", after=500)),
        ("revoke_token@ZQ000000001", Fault("revoke_token", serial="ZQ000000001")),
        ("hang@ZQ000000001:2x", Fault("hang", serial="ZQ000000001", times=2)),
        ("throttle=100%:3x:5s", Fault("throttle", share=1.0, times=3, wait_s=5.0)),
    ],
)
def test_a_fault_is_written_as_kind_share_number_and_time(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a fault"),
        ("throttle@", "is not a fault"),
        ("hang=1.2.3%", "is not a fault"),
        ("hang=\u0661%", "is not a fault"),
        ("throttle", "needs a share or a serial number"),
        ("trottle=2%", "did you mean throttle?"),
        ("trottle", "did you mean throttle?"),
        ("xyzzy=2%", "see --help"),
        ("hang=200%", "a share is from 0% to 100%"),
        ("slow=5%:soon", "is not a duration"),
        ("hang=5%:3s", "hang takes no time"),
        ("revoke_token=5%", "needs a number of requests"),
        ("revoke_token=5:2x", "needs a number of requests"),
    ],
)
def test_a_fault_that_cannot_be_read_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_fault(text)
    assert words in str(raised.value)


@given(
    st.builds(Fault, st.sampled_from(TIMED), share=st.floats(0, 1), wait_s=WAITS, times=TIMES)
    | st.builds(Fault, st.sampled_from(TIMED), serial=SERIALS, wait_s=WAITS, times=TIMES)
    | st.builds(Fault, st.just("revoke_token"), after=st.integers(0, 10**9))
)
@settings(deadline=None)
def test_a_fault_as_text_is_read_back_as_itself(fault: Fault) -> None:
    assert parse_fault(str(fault)) == fault


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_is_a_fault_or_a_clear_error(text: str) -> None:
    try:
        parse_fault(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right


@given(st.integers(), st.text(max_size=20), st.integers(1, 10**6))
@settings(deadline=None)
def test_chance_is_the_same_for_the_same_arrival(seed: int, serial: str, arrival: int) -> None:
    number = draw(seed, serial, arrival)
    assert 0 <= number < 1
    assert number == draw(seed, serial, arrival)


def test_shares_add_up_and_a_device_meets_its_own() -> None:
    hang, throttle, refuse = Fault("hang", share=0.1), Fault("throttle", share=0.2), Fault("refuse", serial="A")
    faults = FaultsInForce([hang, throttle, refuse])
    assert faults.choose("B", 0.05) is hang
    assert faults.choose("B", 0.1) is throttle
    assert faults.choose("B", 0.31) is None
    assert faults.choose("A", 0.31) is refuse


def test_a_fault_is_over_once_so_many_requests_have_met_it() -> None:
    twice, always = Fault("hang", share=1.0, times=2), Fault("refuse", serial="A")
    faults = FaultsInForce([twice, always])
    assert [faults.choose("A", 0.5) for _ in range(4)] == [twice, twice, always, always]


def test_a_token_is_revoked_by_the_number_of_the_request_or_for_a_device() -> None:
    faults = FaultsInForce([Fault("revoke_token", after=3), Fault("revoke_token", serial="A")])
    assert [faults.revokes("B", requests) for requests in (3, 4)] == [False, True]
    assert faults.revokes("A", 1)
    assert faults.choose("A", 0.0) is None


def test_every_fault_has_words_for_the_help() -> None:
    assert all(words for words in FAULTS.values())
