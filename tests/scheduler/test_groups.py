from __future__ import annotations

from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from fleetops.policy.waves import Reach
from fleetops.scheduler.groups import GroupLoad

GROUPS = ["olt-1", "olt-1", "olt-1", "", "olt-2", "olt-2"]


def test_a_device_without_a_group_always_has_a_place() -> None:
    load = GroupLoad(GROUPS, Reach(count=1), {})
    assert all(load.take(3, 3) for _ in range(10))
    assert list(load.landed(3, 99, 0)) == []


def test_a_group_takes_as_many_devices_as_its_cap_and_lines_up_the_rest() -> None:
    load = GroupLoad(GROUPS, Reach(count=1), {})
    assert load.take(0, 10)
    assert not load.take(2, 12)
    assert not load.take(1, 11)
    assert load.take(4, 14)
    assert load.waiting == 2


def test_whoever_is_first_in_rank_gets_the_place_that_becomes_free() -> None:
    load = GroupLoad(GROUPS, Reach(count=1), {})
    load.take(0, 10)
    load.take(2, 12)
    load.take(1, 11)
    assert list(load.landed(0, until_ns=0, now_ns=5)) == [11]
    assert load.waiting == 1


def test_a_device_keeps_its_place_until_it_has_settled() -> None:
    load = GroupLoad(GROUPS, Reach(count=1), {})
    load.take(0, 10)
    load.take(1, 11)
    assert list(load.landed(0, until_ns=100, now_ns=5)) == []
    assert load.next_release_ns() == 100
    assert list(load.settled(99)) == []
    assert list(load.settled(100)) == [11]
    assert load.next_release_ns() is None


def test_a_retry_within_the_settle_time_needs_no_second_place_and_does_not_lose_the_first() -> None:
    load = GroupLoad(GROUPS, Reach(count=1), {})
    load.take(0, 10)
    load.landed(0, until_ns=100, now_ns=5)
    assert load.take(0, 10)
    assert not load.take(1, 11)
    assert list(load.settled(100)) == []  # in flight again
    assert list(load.landed(0, until_ns=0, now_ns=120)) == [11]


def test_a_share_is_rounded_down_but_never_to_none() -> None:
    load = GroupLoad(["a"] * 30, Reach(share_ppm=100_000), {})
    assert [load.take(device, device) for device in range(5)] == [True, True, True, False, False]
    small = GroupLoad(["a"] * 5, Reach(share_ppm=10_000), {})
    assert [small.take(device, device) for device in range(2)] == [True, False]


def test_devices_that_settle_or_are_in_flight_from_before_count() -> None:
    load = GroupLoad(GROUPS, Reach(count=2), {0: 50, 3: 60})
    load.occupy([0, 1, 3])
    assert not load.take(2, 12)
    assert list(load.landed(1, until_ns=0, now_ns=10)) == [12]
    assert load.take(2, 12)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.integers(0, 20)), max_size=120),
)
def test_no_group_ever_has_more_disturbed_devices_than_its_cap(cap: int, moves: list[tuple[int, bool, int]]) -> None:
    groups = [f"g{device % 3}" for device in range(12)]
    load = GroupLoad(groups, Reach(count=cap), {})
    now_ns = 1
    in_flight: set[int] = set()
    in_line: set[int] = set()
    disturbed_until: dict[int, int] = {}
    ready: list[int] = []
    for device, lands, settle_ns in moves:
        now_ns += 1
        for rank in load.settled(now_ns):
            heappush(ready, rank)
        if lands and in_flight:
            landed = min(in_flight)
            in_flight.remove(landed)
            disturbed_until[landed] = max(disturbed_until.get(landed, 0), now_ns + settle_ns)
            for rank in load.landed(landed, now_ns + settle_ns, now_ns):
                heappush(ready, rank)
        candidate = heappop(ready) if ready else device
        in_line.discard(candidate)
        if candidate not in in_flight and candidate not in in_line:
            (in_flight if load.take(candidate, candidate) else in_line).add(candidate)
        for name in set(groups):
            disturbed = {
                one
                for one, group in enumerate(groups)
                if group == name and (one in in_flight or disturbed_until.get(one, 0) > now_ns)
            }
            assert len(disturbed) <= cap
