from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.model import NS_PER_S, Operation, Steps
from fleetops.plan.assumptions import AssumedWorld, Assumptions
from fleetops.plan.timeline import Timeline
from fleetops.policy import Policy
from fleetops.simulation import Trace, simulate

SETTLE_NS = 30 * NS_PER_S
ACCEPTED, MAYBE = 1, 4


def steps_of(devices: int, each: int, groups: int) -> Steps:
    rows = [(f"CPE{device}", Operation.SYNC, SETTLE_NS) for device in range(devices) for _ in range(each)]
    return Steps.of(rows, [f"olt{device % groups}" for device in range(devices)] if groups else ())


def disturbed_at(steps: Steps, trace: Trace, at_ns: int, group: str | None = None) -> int:
    """The devices that are disturbed at a moment, counted one by one."""
    devices = set()
    for step, sent_ns, answered_ns, kind in zip(trace.step, trace.sent_ns, trace.answered_ns, trace.kind, strict=True):
        until_ns = answered_ns + (steps.settle_ns_of[step] if kind in (ACCEPTED, MAYBE) else 0)
        device = steps.device_of[step]
        if sent_ns <= at_ns < until_ns and (group is None or steps.groups[device] == group):
            devices.add(device)
    return len(devices)


@given(
    devices=st.integers(1, 25),
    each=st.integers(1, 3),
    groups=st.integers(0, 3),
    failing=st.sampled_from([0.0, 0.3]),
    rate=st.sampled_from(["1/s", "20/s"]),
)
@settings(deadline=None, max_examples=40)
def test_the_peak_is_what_counting_one_by_one_gives(
    devices: int, each: int, groups: int, failing: float, rate: str
) -> None:
    steps = steps_of(devices, each, groups)
    policy = Policy.model_validate({"rate": rate, "retries": {"initial": "5s"}})
    trace = simulate(steps, policy, b"key", AssumedWorld(Assumptions(failing=failing)), 10**18)
    timeline = Timeline(steps, trace)
    moments = sorted(set(trace.sent_ns))
    assert timeline.peak()[0] == max(disturbed_at(steps, trace, at_ns) for at_ns in moments)
    assert max(timeline.series().disturbed) == timeline.peak()[0]
    uses, left_out = timeline.groups(None)
    assert left_out == 0
    for use in uses:
        assert use.peak == max(disturbed_at(steps, trace, at_ns, use.group) for at_ns in moments)


def test_a_run_that_sends_nothing_has_an_empty_timeline() -> None:
    steps = steps_of(2, 1, 2)
    timeline = Timeline(steps, Trace(10**18, bytearray(2), end_ns=10**18))
    assert timeline.peak() == (0, 0.0)
    assert timeline.series().disturbed == (0,)
    assert timeline.series().answered == {}
    assert [use.peak for use in timeline.groups(None)[0]] == [0, 0]
    assert timeline.settled_ns == 10**18


def test_an_attempt_that_did_not_get_through_disturbs_only_while_it_is_under_way() -> None:
    steps = Steps.of([("CPE1", Operation.SYNC, SETTLE_NS)])
    trace = Trace(0, bytearray([1]), end_ns=20)
    trace.step, trace.attempt = array("I", [0, 0]), array("I", [1, 2])
    trace.sent_ns, trace.answered_ns = array("q", [0, 10]), array("q", [5, 20])
    trace.kind = bytearray([2, ACCEPTED])
    _, start_ns, end_ns = Timeline(steps, trace).disturbances
    assert list(start_ns) == [0, 10]
    assert list(end_ns) == [5, 20 + SETTLE_NS]


def test_a_resend_while_the_device_settles_counts_the_device_once() -> None:
    steps = Steps.of([("CPE1", Operation.SYNC, SETTLE_NS)])
    trace = Trace(0, bytearray([1]), end_ns=30)
    trace.step, trace.attempt = array("I", [0] * 3), array("I", [1, 2, 3])
    trace.sent_ns, trace.answered_ns = array("q", [0, 10, 20]), array("q", [5, 15, 30])
    trace.kind = bytearray([MAYBE, 2, ACCEPTED])
    timeline = Timeline(steps, trace)
    assert timeline.peak()[0] == 1
    assert sum(timeline.disturbances[2] - timeline.disturbances[1]) == 30 + SETTLE_NS


@pytest.mark.parametrize(("slices", "seconds"), [(480, 100_000), (60, 60), (1, 0)])
def test_a_timeline_has_slices_of_a_second_or_more(slices: int, seconds: int) -> None:
    steps = steps_of(1, 1, 0)
    timeline = Timeline(steps, Trace(10**18, bytearray(1), end_ns=10**18 + seconds * NS_PER_S))
    assert len(timeline.series().disturbed) == slices
