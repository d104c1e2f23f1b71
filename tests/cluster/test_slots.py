"""Slots are used in their order, not before their moment and not long after it."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from fleetops.cluster.slots import AHEAD_NS, LATEST_NS, SPREAD_NS, Slots, late_ns
from tests.crash.audit import busiest_second
from tests.journal.runs import S

MS = 1_000_000


def every(first_ns: int, count: int, interval_ns: float) -> list[int]:
    return [first_ns + round(number * interval_ns) for number in range(count)]


def test_a_slot_is_there_from_its_moment_on() -> None:
    slots = Slots()
    slots.add(every(100 * MS, 2, 10.0 * MS), 90 * MS)
    assert slots.wait_ns(99 * MS) == MS
    assert slots.wait_ns(100 * MS) == 0
    slots.take(100 * MS)
    assert slots.wait_ns(100 * MS) == 10 * MS


def test_a_slot_that_was_not_used_in_time_is_lost() -> None:
    slots = Slots()
    slots.add(every(100 * MS, 1, 10.0 * MS), 90 * MS)
    assert slots.wait_ns(100 * MS + LATEST_NS) == 0
    assert slots.wait_ns(100 * MS + LATEST_NS + 1) is None
    assert slots.expired == 1


def test_slots_of_a_burst_lie_in_the_past_and_may_be_used_once_they_have_arrived() -> None:
    slots = Slots()
    slots.add(every(0, 3, 10.0 * MS), 100 * MS)
    assert slots.due_by(100 * MS + AHEAD_NS) == 3
    for _ in range(3):
        assert slots.wait_ns(100 * MS + AHEAD_NS) == 0
        slots.take(100 * MS + AHEAD_NS)


def test_those_who_wait_are_each_told_a_slot_of_their_own() -> None:
    slots = Slots()
    slots.add(every(100 * MS, 3, 10.0 * MS), 90 * MS)
    assert [slots.wait_ns(95 * MS) for _ in range(4)] == [5 * MS, 15 * MS, 25 * MS, 25 * MS]


def test_slots_before_the_end_of_a_hold_are_given_up() -> None:
    slots = Slots()
    slots.add(every(100 * MS, 3, 10.0 * MS), 90 * MS)
    slots.expire(105 * MS)
    assert slots.moment_ns(0) == 100 * MS
    slots.drop_until(115 * MS)
    assert len(slots) == 1
    assert slots.moment_ns(0) == 120 * MS
    assert slots.moment_ns(1) is None
    slots.clear()
    assert not len(slots)


def test_what_was_late_delays_what_would_make_a_second_too_full() -> None:
    slots = Slots()
    slots.add(every(0, 25, 101.0 * MS), -AHEAD_NS)
    sent = []
    for at_ms in (40, 141, 242, 343, 444, 545, 646, 747, 848, 949, 1010, 1039):
        if slots.wait_ns(at_ms * MS) == 0:
            slots.take(at_ms * MS)
            sent.append(at_ms)
    assert sent == [40, 141, 242, 343, 444, 545, 646, 747, 848, 949]
    assert slots.wait_ns(1039 * MS) == MS
    assert slots.wait_ns(1040 * MS) == 0


@given(
    st.integers(2, 60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=300),
)
def test_a_worker_alone_never_sends_more_in_a_second_than_the_rate(per_s: int, looks: list[tuple[int, int]]) -> None:
    slots, now_ns, used = Slots(), 0, []
    slots.add(every(0, 60 * per_s, 1.01 * S / per_s), -AHEAD_NS)
    for wait_ms, sends in looks:
        now_ns += wait_ms * MS
        for _ in range(sends):
            if slots.wait_ns(now_ns) != 0:
                break
            slots.take(now_ns)
            used.append(now_ns)
    assert busiest_second(used) <= per_s


def test_below_one_a_second_sends_are_a_period_apart() -> None:
    slots = Slots()
    slots.span_ns = 4 * S
    slots.add(every(0, 3, 4.04 * S), -AHEAD_NS)
    assert slots.wait_ns(45 * MS) == 0
    slots.take(45 * MS)
    assert slots.wait_ns(4040 * MS) == 5 * MS


@given(
    st.one_of(st.integers(1, 3000), st.floats(0.05, 3000)),
    st.lists(st.floats(0, 1), min_size=40, max_size=40),
)
def test_slots_that_are_used_late_come_to_little_more_than_the_rate(per_s: float, late: list[float]) -> None:
    """Whichever of them are late, and by how much: a second that begins with late ones is the fullest there is."""
    latest_ns = late_ns(per_s, 0)
    assert 9 * MS < latest_ns <= LATEST_NS
    apart_ns = (S + SPREAD_NS) / per_s
    used = sorted(
        round(number * apart_ns + latest_ns * late[number % len(late)]) for number in range(2 * int(per_s) + 5)
    )
    assert busiest_second(used) <= ceil(per_s) + max(1, int(per_s / 100))
    if per_s <= 1:
        assert all(later - earlier >= S / per_s - 1 for earlier, later in pairwise(used))


def test_slots_that_were_passed_over_are_used_in_their_turn() -> None:
    slots = Slots()
    slots.add([100 * MS, 120 * MS], 90 * MS)
    slots.add([110 * MS, 130 * MS], 90 * MS)
    assert [slots.moment_ns(number) for number in range(4)] == [100 * MS, 110 * MS, 120 * MS, 130 * MS]
