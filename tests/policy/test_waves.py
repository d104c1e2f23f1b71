from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetops.policy.waves import Gate, Reach, Verdict, Waves, assign, parse_gate, parse_waves


@pytest.mark.parametrize(
    ("text", "canonical", "devices", "ends"),
    [
        ("1%,10%,100%", "1%,10%,100%", 40_000, (400, 4000, 40_000)),
        # At least one device, and no wave that adds none.
        ("1%,10%,100%", "1%,10%,100%", 30, (1, 3, 30)),
        ("1%,10%,100%", "1%,10%,100%", 5, (1, 5)),
        ("1%,10%,100%", "1%,10%,100%", 0, ()),
        # The rest follows where the last does not reach everything.
        ("1%", "1%", 1000, (10, 1000)),
        (" 5, 50 , ALL ", "5,50,100%", 1000, (5, 50, 1000)),
        ("5,50", "5,50", 20, (5, 20)),
        ("5,10%,all", "5,10%,100%", 1000, (5, 100, 1000)),
        ("50,1%,all", "50,1%,100%", 1000, (50, 1000)),
        ("all", "100%", 7, (7,)),
        ("0.5%", "0.5%", 200, (1, 200)),
    ],
)
def test_sizes_are_cumulative(text: str, canonical: str, devices: int, ends: tuple[int, ...]) -> None:
    waves = parse_waves(text)
    assert str(waves) == canonical
    assert parse_waves(canonical) == waves
    assert waves.ends(devices) == ends


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not the size of a wave: write 1%,10%,100% or 5,50,all"),
        ("1%,,100%", "'' is not the size of a wave"),
        ("canary", "'canary' is not the size of a wave"),
        ("-1", "'-1' is not the size of a wave"),
        ("0%", "at least one device"),
        ("0,all", "at least one device"),
        ("101%", "is not a percentage"),
        ("10%,1%", "a wave up to 1% adds nothing to one up to 10%: sizes include the waves before"),
        ("10%,10%", "adds nothing"),
        ("50,5", "a wave up to 5 adds nothing to one up to 50"),
        ("all,5", "100% reaches every device"),
        (",".join(map(str, range(1, 102))), "there are 1 to 100 waves"),
    ],
)
def test_waves_that_cannot_be_read_say_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_waves(text)
    assert message in str(raised.value)


def test_a_reach_is_a_count_or_a_share() -> None:
    with pytest.raises(ValueError, match="a count or a percentage"):
        Reach()


def test_a_canary_takes_the_same_from_groups_of_one_size() -> None:
    groups = [f"node{device % 5}" for device in range(100)]
    wave_of = assign(parse_waves("10,50%,all"), groups, 100, "a campaign")
    for wave, of_each in enumerate((2, 8, 10)):
        taken = Counter(group for device, group in enumerate(groups) if wave_of[device] == wave)
        assert set(taken.values()) == {of_each}


def test_the_same_campaign_has_the_same_waves_on_every_host() -> None:
    waves = parse_waves("20%,60%,100%")
    assert assign(waves, (), 12, "a campaign").hex() == "020001010101020200000201"
    assert assign(waves, ["x", "y", ""] * 4, 12, "a campaign").hex() == "000101010101020000020202"


def test_another_seed_makes_another_canary() -> None:
    waves = parse_waves("10%")
    canaries = {assign(waves, (), 1000, str(seed)) for seed in range(20)}
    assert len(canaries) == 20


def test_a_canary_is_not_the_head_of_the_manifest() -> None:
    wave_of = assign(parse_waves("10%"), (), 10_000, "a campaign")
    of_each_tenth = [wave_of[start : start + 1000].count(0) for start in range(0, 10_000, 1000)]
    assert all(50 < canaries < 150 for canaries in of_each_tenth)


def test_groups_are_by_device() -> None:
    with pytest.raises(ValueError, match="3 devices have 2 groups"):
        assign(parse_waves("10%"), ["x", "y"], 3, "")


@st.composite
def any_waves(draw: st.DrawFn) -> Waves:
    counts = draw(st.sets(st.integers(1, 300), max_size=3))
    shares = draw(st.sets(st.integers(1, 1_000_000), min_size=0 if counts else 1, max_size=3))
    by_count = [Reach(count=count) for count in sorted(counts)]
    return Waves((*by_count, *(Reach(share_ppm=share) for share in sorted(shares))))


@given(
    any_waves(),
    st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=250),
    st.booleans(),
    st.text(),
    st.one_of(st.just(set[int]()), st.sets(st.integers(0, 249))),
)
def test_every_device_is_in_one_wave_of_the_right_size_spread_over_the_groups(
    waves: Waves, groups: list[str], grouped: bool, seed: str, left_out: set[int]
) -> None:
    assert parse_waves(str(waves)) == waves
    wave_of = assign(waves, groups if grouped else (), len(groups), seed, left_out)
    assert len(wave_of) == len(groups)
    assert wave_of == assign(waves, groups if grouped else (), len(groups), seed, left_out)
    pairs = enumerate(zip(groups, wave_of, strict=True))
    groups_in = [pair for device, pair in pairs if device not in left_out]
    ends = waves.ends(len(groups_in))
    sizes = Counter(wave for _, wave in groups_in)
    assert [sizes[wave] for wave in range(len(ends))] == [end - start for start, end in pairwise((0, *ends))]
    assert all(wave_of[device] == max(len(ends) - 1, 0) for device in left_out if device < len(groups))
    if not grouped:
        return
    left = Counter(group for group, _ in groups_in)
    for wave in range(len(ends)):
        taken = Counter(group for group, its_wave in groups_in if its_wave == wave)
        for group, count in left.items():
            share = count * taken.total() / left.total()
            assert abs(taken[group] - share) < 1
        left -= taken


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("failed<=2%", "failed<=2%"),
        (" Unknown <= 1% ,failed<=2%, soak 1h30m, after 50", "failed<=2%, unknown<=1%, after 50, soak 90m"),
        ("soak 10m", "soak 10m"),
        ("after 1", "after 1"),
        ("failed<=0%, after 1, soak 0", "failed<=0%"),
    ],
)
def test_a_gate_reads_and_writes_its_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_gate(text)) == canonical
    assert parse_gate(canonical) == parse_gate(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a clause of a wave's gate: write failed<=2%"),
        ("failed>2%", "is not a clause"),
        ("failed 2%", "is not a clause"),
        ("after<=3", "is not a clause"),
        ("failed<=2", "is not a percentage"),
        ("failed<=2%, failed<=3%", "says `failed` once"),
        ("after many", "'many' is not a number of steps"),
        ("after 0", "at least one finished step"),
        ("soak long", "is not a duration"),
    ],
)
def test_a_gate_that_cannot_be_read_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_gate(text)
    assert message in str(raised.value)


def test_a_gate_has_shares_up_to_all() -> None:
    with pytest.raises(ValueError, match="from 0% to 100%"):
        Gate(failed_max_ppm=1_000_001)


@pytest.mark.parametrize(
    ("gate", "figures", "verdict", "explanation"),
    [
        ("failed<=2%", (98, 2, 0), Verdict.PASSED, "2 failed and 0 unknown of 100 finished steps"),
        ("failed<=2%", (97, 3, 0), Verdict.FAILED, "failed<=2%: 3 of 100 finished steps failed (3.00%)"),
        ("failed<=2%", (0, 0, 50), Verdict.PASSED, "0 failed and 50 unknown of 50 finished steps"),
        (
            "failed<=2%, unknown<=0%",
            (1, 1, 2),
            Verdict.FAILED,
            "failed<=2%: 1 of 4 finished steps failed (25.00%); unknown<=0%: 2 of 4 finished steps unknown (50.00%)",
        ),
        ("failed<=2%, after 50", (49, 0, 0), Verdict.TOO_FEW, "49 steps finished, 50 are needed to judge"),
        ("failed<=2%, after 50", (0, 49, 0), Verdict.TOO_FEW, "49 steps finished, 50 are needed to judge"),
        ("failed<=2%, after 50", (50, 0, 0), Verdict.PASSED, "0 failed and 0 unknown of 50 finished steps"),
        # Where everything was skipped, nothing was shown.
        ("soak 10m", (0, 0, 0), Verdict.TOO_FEW, "0 steps finished, 1 are needed to judge"),
        ("soak 10m", (0, 9, 9), Verdict.PASSED, "9 failed and 9 unknown of 18 finished steps"),
    ],
)
def test_a_gate_judges_a_wave_by_its_finished_steps(
    gate: str, figures: tuple[int, int, int], verdict: Verdict, explanation: str
) -> None:
    assert parse_gate(gate).verdict(*figures) is verdict
    assert parse_gate(gate).explain(*figures) == explanation
