"""What a change board asks: large campaigns under waves, budgets, group caps, outages and windows."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleetops.model import NS_PER_S, Operation, Outcome, Reason, Reply, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.policy.waves import assign, parse_waves
from fleetops.scheduler import Event, StopReason
from fleetops.simulation import simulate
from fleetops.simulation.world import Faults, HostileWorld, SteadyWorld

if TYPE_CHECKING:
    from fleetops.simulation import Trace

DEVICES = 50_000
GROUPS = 500
START = int(datetime(2026, 3, 10, 1, 0, tzinfo=UTC).timestamp()) * NS_PER_S
LATENCY = 50_000_000
SEED = "campaign"


def reboots(devices: int = DEVICES) -> Steps:
    rows = [(f"D{number}", Operation.REBOOT, 180 * NS_PER_S) for number in range(devices)]
    return Steps.of(rows, [f"node-{number % GROUPS}" for number in range(devices)])


def policy(**settings: object) -> Policy:
    return Policy.model_validate({"rate": "200/s", "concurrency": 64, **settings})


class RefusingWorld(SteadyWorld):
    """A service that refuses everything."""

    def attempt(self, step: int, attempt: int, sent_ns: int) -> tuple[int, Reply]:
        answered_ns, _ = super().attempt(step, attempt, sent_ns)
        return answered_ns, Reply(ReplyKind.REFUSED, Reason.INVALID, 422)


def most_disturbed(trace: Trace, steps: Steps, settle_ns: int) -> Counter[str]:
    """By group, how many of its devices were in flight or in settle at once, at most."""
    changes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, step in enumerate(trace.step):
        group = steps.groups[steps.device_of[step]]
        changes[group] += [(trace.sent_ns[index], 1), (trace.answered_ns[index] + settle_ns, -1)]
    most: Counter[str] = Counter()
    for group, moments in changes.items():
        load = 0
        for _, change in sorted(moments):
            load += change
            most[group] = max(most[group], load)
    return most


def test_a_canary_that_fails_its_gate_touches_no_device_outside_of_it() -> None:
    steps = reboots()
    asked = policy(waves="1%,10%,100%", gate="failed<=2%, soak 10m")
    trace = simulate(steps, asked, b"run", RefusingWorld(LATENCY), START, wave_seed=SEED)
    assert trace.ended is StopReason.GATE_FAILED
    assert asked.waves is not None
    wave_of = assign(parse_waves("1%,10%,100%"), steps.groups, DEVICES, SEED)
    assert len(trace) == DEVICES // 100
    assert {wave_of[steps.device_of[step]] for step in trace.step} == {0}


def test_waves_that_pass_let_everything_in_one_after_another_with_a_soak_between() -> None:
    steps = reboots()
    asked = policy(waves="1%,10%,100%", gate="failed<=2%, soak 10m")
    trace = simulate(steps, asked, b"run", SteadyWorld(LATENCY), START, wave_seed=SEED)
    assert trace.ended is StopReason.COMPLETE
    wave_of = assign(parse_waves("1%,10%,100%"), steps.groups, DEVICES, SEED)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, sent_ns, answered_ns in zip(trace.step, trace.sent_ns, trace.answered_ns, strict=True):
        wave = wave_of[steps.device_of[step]]
        first[wave] = min(first.get(wave, sent_ns), sent_ns)
        last[wave] = max(last.get(wave, 0), answered_ns)
    assert first[1] - last[0] >= 600 * NS_PER_S
    assert first[2] - last[1] >= 600 * NS_PER_S
    assert [notice.event for notice in trace.notices] == [Event.GATE_PASSED, Event.WAVE_STARTED] * 2


def test_an_aborted_run_sent_at_most_its_budget_and_what_was_in_flight() -> None:
    trace = simulate(reboots(), policy(abort_when="failed>100"), b"run", RefusingWorld(LATENCY), START)
    assert trace.ended is StopReason.BUDGET_SPENT
    assert 101 <= len(trace) <= 101 + 64
    assert "failed>100: 101 of 101 finished steps failed" in trace.detail


def test_no_group_is_ever_above_its_cap() -> None:
    steps = reboots()
    trace = simulate(steps, policy(group_cap=3), b"run", SteadyWorld(LATENCY), START)
    assert trace.ended is StopReason.COMPLETE
    most = most_disturbed(trace, steps, 180 * NS_PER_S)
    assert max(most.values()) == 3


def test_an_outage_of_ten_minutes_costs_no_failed_step() -> None:
    steps = reboots()
    asked = policy()
    outage = (START + 20 * NS_PER_S, START + 620 * NS_PER_S)
    world = HostileWorld(1, steps, asked, Faults(latency_ns=LATENCY, outages_ns=(outage,)))
    trace = simulate(steps, asked, b"run", world, START)
    assert trace.ended is StopReason.COMPLETE
    assert trace.counts()[Outcome.ACCEPTED] == DEVICES
    assert {notice.event for notice in trace.notices} == {Event.OUTAGE, Event.OUTAGE_OVER}
    probes = sum(outage[0] + 30 * NS_PER_S < sent_ns < outage[1] for sent_ns in trace.sent_ns)
    assert probes < 30


def test_nothing_is_sent_that_could_not_finish_before_the_window_closes() -> None:
    steps = reboots()
    asked = policy(window="02:00-02:30 UTC", rate="20/s")
    trace = simulate(steps, asked, b"run", SteadyWorld(LATENCY), START)
    assert trace.ended is StopReason.WINDOW_CLOSED
    opens_ns, closes_ns = START + 3600 * NS_PER_S, START + 5400 * NS_PER_S
    need_ns = asked.timeouts.connect_ns + asked.timeouts.read_ns + 180 * NS_PER_S
    assert min(trace.sent_ns) >= opens_ns
    assert max(trace.sent_ns) <= closes_ns - need_ns
    # All of the window but its last part is used, at the rate asked for.
    assert len(trace) >= 0.98 * 20 * (1800 - need_ns / NS_PER_S)


def test_a_run_that_waits_goes_on_in_the_windows_of_further_nights() -> None:
    steps = reboots(20_000)
    asked = policy(window="02:00-02:10 UTC", rate="20/s", at_end="wait")
    trace = simulate(steps, asked, b"run", SteadyWorld(LATENCY), START)
    assert trace.ended is StopReason.COMPLETE
    assert trace.counts()[Outcome.ACCEPTED] == 20_000
    nights = {datetime.fromtimestamp(sent_ns / NS_PER_S, UTC).date() for sent_ns in trace.sent_ns}
    assert len(nights) == 3
    minutes = {datetime.fromtimestamp(sent_ns / NS_PER_S, UTC).strftime("%H:%M") for sent_ns in trace.sent_ns}
    assert max(minutes) < "02:10"
    assert min(minutes) == "02:00"
