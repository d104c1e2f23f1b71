from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetops.sandbox.faults import FAULTS, Fault, choose, draw, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("throttle=2%", Fault("throttle", share=0.02)),
        ("throttle=2%:5s", Fault("throttle", share=0.02, wait_s=5.0)),
        ("hang=0.01", Fault("hang", share=0.01)),
        ("slow@ZQ000000001:300ms", Fault("slow", serial="ZQ000000001", wait_s=0.3)),
        ("revoke_token=500", Fault("revoke_token", after=500)),
    ],
)
def test_a_fault_is_written_as_kind_share_and_time(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a fault"),
        ("throttle", "needs a share or a serial number"),
        ("trottle=2%", "did you mean throttle?"),
        ("xyzzy=2%", "see --help"),
        ("hang=200%", "a share is from 0% to 100%"),
        ("slow=5%:soon", "is not a duration"),
        ("revoke_token=5%", "needs a number of requests"),
    ],
)
def test_a_fault_that_cannot_be_read_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_fault(text)
    assert words in str(raised.value)


@given(st.integers(), st.text(max_size=20), st.integers(1, 10**6))
def test_chance_is_the_same_for_the_same_arrival(seed: int, serial: str, arrival: int) -> None:
    number = draw(seed, serial, arrival)
    assert 0 <= number < 1
    assert number == draw(seed, serial, arrival)


def test_shares_add_up_and_serials_and_counts_come_as_they_are_listed() -> None:
    faults = (Fault("hang", share=0.1), Fault("throttle", share=0.2), Fault("refuse", serial="A"))
    assert choose(faults, "B", 0.05, 1) is faults[0]
    assert choose(faults, "B", 0.25, 1) is faults[1]
    assert choose(faults, "B", 0.31, 1) is None
    assert choose(faults, "A", 0.31, 1) is faults[2]
    revoked = (Fault("revoke_token", after=3),)
    assert [choose(revoked, "B", 0.5, requests) is not None for requests in (3, 4)] == [False, True]


def test_every_fault_has_words_for_the_help() -> None:
    assert all(words for words in FAULTS.values())
