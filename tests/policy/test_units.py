from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetops.model import NS_PER_S
from fleetops.policy import Rate, format_duration, parse_duration_ns, parse_rate
from fleetops.policy.units import FASTEST_PER_S, LONGEST_NS


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("500ms", 500_000_000),
        ("90s", 90 * NS_PER_S),
        (" 2 M ", 120 * NS_PER_S),
        ("1h", 3600 * NS_PER_S),
        ("1h30m", 5400 * NS_PER_S),
        ("1m 30.5s", 90_500_000_000),
        ("90", 90 * NS_PER_S),
        ("0", 0),
        (90, 90 * NS_PER_S),
        (0.25, 250_000_000),
        (1e-6, 1000),
    ],
)
def test_a_duration_is_read(text: str | float, duration_ns: int) -> None:
    assert parse_duration_ns(text) == duration_ns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a duration: write 500ms, 90s, 2m, 1h or a number of seconds"),
        ("soon", "'soon' is not a duration"),
        ("-5s", "'-5s' is not a duration"),
        ("5 days", "'5 days' is not a duration"),
        ("1e3", "'1e3' is not a duration"),
        ("nan", "'nan' is not a duration"),
        (float("inf"), "'inf' is not a duration"),
        (True, "a duration is written like 500ms, 90s, 2m or 1h"),
        ("9000h", "'9000h' is longer than a year"),
        ("9" * 400, repr("9" * 40)),
    ],
)
def test_what_is_not_a_duration_says_how_one_is_written(text: str | float, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_duration_ns(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (3600 * NS_PER_S, "1h"),
        (5400 * NS_PER_S, "90m"),
        (90 * NS_PER_S, "90s"),
        (1_500_000_000, "1500ms"),
        (1_000_000_001, "1.000000001s"),
        (0, "0s"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_that_says_it(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text


@given(st.integers(0, LONGEST_NS // 1_000_000).map(lambda ms: ms * 1_000_000))
def test_what_is_written_is_read_back(duration_ns: int) -> None:
    assert parse_duration_ns(format_duration(duration_ns)) == duration_ns


@pytest.mark.parametrize(
    ("text", "rate", "per_s"),
    [
        ("20/s", Rate(20), 20.0),
        ("90 / M", Rate(90, "m"), 1.5),
        ("500/h", Rate(500, "h"), 500 / 3600),
        ("2.5", Rate(2.5), 2.5),
        (5, Rate(5), 5.0),
        ("1/h", Rate(1, "h"), 1 / 3600),
    ],
)
def test_a_rate_is_read(text: str | float, rate: Rate, per_s: float) -> None:
    assert parse_rate(text) == rate
    assert rate.per_s == pytest.approx(per_s)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fast", "'fast' is not a rate: write 20/s, 90/m or 500/h"),
        ("20/d", "'20/d' is not a rate"),
        ("-1/s", "'-1/s' is not a rate"),
        ("0/s", "'0/s' is not a usable rate: from one a day to 100,000 a second"),
        ("0.01/h", "is not a usable rate"),
        (FASTEST_PER_S + 1, "is not a usable rate"),
        ("9" * 400, repr("9" * 40)),
        (True, "a rate is written like 20/s, 90/m or 500/h"),
    ],
)
def test_what_is_not_a_rate_says_how_one_is_written(text: str | float, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_rate(text)
    assert message in str(raised.value)


@given(st.integers(1, 99_999), st.sampled_from("smh"))
def test_a_rate_is_read_back_as_it_is_written(count: int, unit: str) -> None:
    rate = Rate(float(count), unit)
    assert parse_rate(str(rate)) == rate
    assert Fraction(rate.per_s).limit_denominator(3600) == Fraction(count, {"s": 1, "m": 60, "h": 3600}[unit])
