from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fleetops.model import NS_PER_S, Operation, Reason, Reply, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.simulation import Faults, HostileWorld, Seen, SteadyWorld

STEPS = Steps.of([(f"S{number}", Operation.REBOOT, 0) for number in range(400)])


def world(**faults: Any) -> HostileWorld:
    return HostileWorld(7, STEPS, Policy(), Faults(**faults))


def replies(service: HostileWorld, sent_ns: int = 0) -> Counter[tuple[ReplyKind, int | None]]:
    all_of_them = (service.attempt(step, 1, sent_ns)[1] for step in range(len(STEPS)))
    return Counter((reply.kind, reply.http_status) for reply in all_of_them)


def test_a_steady_service_accepts_everything_after_its_latency() -> None:
    assert SteadyWorld(5).attempt(3, 1, 100) == (105, Reply(ReplyKind.ACCEPTED, http_status=200))
    assert SteadyWorld(5).look(3, 100) == (105, Seen(up=True, changed_ns=100))


def test_the_fate_of_an_attempt_does_not_depend_on_the_order_of_events() -> None:
    faults = {"lost": 0.3, "server_error": 0.3, "unreachable": 0.1}
    forwards, backwards = world(**faults), world(**faults)
    there = [forwards.attempt(step, 1, 0) for step in range(100)]
    back = [backwards.attempt(step, 1, 0) for step in reversed(range(100))]
    assert there == back[::-1]


@pytest.mark.parametrize(
    ("fault", "kind", "statuses", "arrives"),
    [
        ("unreachable", ReplyKind.NOT_REACHED, {None}, False),
        ("lost", ReplyKind.MAYBE, {None}, True),
        ("server_error", ReplyKind.MAYBE, {500, 502, 503, 504}, True),
        ("throttled", ReplyKind.THROTTLED, {429}, True),
        ("bad_reply", ReplyKind.BAD_REPLY, {200}, True),
        ("rejected", ReplyKind.REFUSED, {422}, True),
        ("no_such_device", ReplyKind.REFUSED, {404}, True),
    ],
)
def test_a_share_of_the_attempts_meets_a_fault(
    fault: str, kind: ReplyKind, statuses: set[int | None], *, arrives: bool
) -> None:
    seen = replies(world(**{fault: 0.5}))
    assert 150 < sum(count for (met, _), count in seen.items() if met is kind) < 250
    assert {status for met, status in seen if met is kind} == statuses
    service = world(**{fault: 1.0})
    assert {met for met, _ in replies(service)} == {kind}
    assert bool(service.arrivals) == arrives


def test_a_refused_request_runs_nothing_and_a_lost_reply_may_hide_a_run() -> None:
    refusing, losing = world(rejected=1.0), world(lost=1.0)
    replies(refusing)
    replies(losing)
    assert not any(arrival.ran for arrival in refusing.arrivals)
    assert {arrival.ran for arrival in losing.arrivals} == {False, True}


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        ({"token_refused_ns": 10}, ReplyKind.TOKEN_REFUSED),
        ({"misdirected_ns": 10}, ReplyKind.MISDIRECTED),
        ({"outages_ns": ((10, 20),)}, ReplyKind.NOT_REACHED),
        ({"throttling_ns": ((10, 20),)}, ReplyKind.THROTTLED),
    ],
)
def test_some_faults_come_at_a_moment(faults: dict[str, Any], kind: ReplyKind) -> None:
    service = world(**faults)
    assert {met for met, _ in replies(service, 9)} == {ReplyKind.ACCEPTED}
    assert {met for met, _ in replies(service, 10)} == {kind}


def test_an_outage_ends() -> None:
    assert {met for met, _ in replies(world(outages_ns=((10, 20),)), 20)} == {ReplyKind.ACCEPTED}


def test_a_reply_that_takes_longer_than_the_read_timeout_is_a_timeout() -> None:
    service = world(latency_ns=300 * NS_PER_S)
    results = [service.attempt(step, 1, 0) for step in range(100)]
    slow = [(at_ns, reply) for at_ns, reply in results if reply.reason is Reason.READ_TIMEOUT]
    assert len(slow) > 80
    assert {at_ns for at_ns, _ in slow} == {30 * NS_PER_S}


def test_a_device_goes_down_and_comes_back() -> None:
    service = world(latency_ns=1, away_ns=30 * NS_PER_S)
    assert service.look(0, 5) == (6, Seen(up=True, changed_ns=None))
    service.attempt(0, 1, 100)
    assert service.look(0, 100)[1] == Seen(up=False, changed_ns=100)
    seen = service.look(0, 200 * NS_PER_S)[1]
    assert seen.up
    assert seen.changed_ns is not None
    assert 100 < seen.changed_ns < 61 * NS_PER_S


def test_some_devices_stay_down() -> None:
    service = world(latency_ns=1, stays_down=1.0)
    service.attempt(0, 1, 100)
    assert service.look(0, 10**15)[1] == Seen(up=False, changed_ns=100)
