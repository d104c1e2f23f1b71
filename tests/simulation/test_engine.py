from __future__ import annotations

from collections import Counter
from typing import Any, cast

import anyio
import pytest

from fleetops.model import NS_PER_S, Operation, Outcome, Reply, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.runner import drive
from fleetops.scheduler import Event, Progress, Scheduler, StopReason, Trouble
from fleetops.simulation import Faults, HostileWorld, Order, Seen, SteadyWorld, StuckError, Trace, engine, simulate
from fleetops.simulation.journal import ModelJournal

LATENCY_NS = 200_000_000
START_NS = 1_767_225_600 * NS_PER_S


def reboots(devices: int, settle_s: int = 0) -> Steps:
    return Steps.of([(f"S{device}", Operation.REBOOT, settle_s * NS_PER_S) for device in range(devices)])


def run(steps: Steps, policy: dict[str, Any] | None = None, world: Any = None, **how: Any) -> Trace:
    settings = Policy.model_validate({"rate": "10/s", **(policy or {})})
    service = HostileWorld(1, steps, settings, world) if isinstance(world, Faults) else world
    return simulate(steps, settings, b"key", service or SteadyWorld(LATENCY_NS), START_NS, **how)


def test_a_send_that_waits_looks_as_often_as_the_runners_does() -> None:
    assert engine._LOOK_NS == drive._LOOK_S * NS_PER_S


def seconds(trace: Trace) -> list[float]:
    return [(sent_ns - START_NS) / NS_PER_S for sent_ns in trace.sent_ns]


def test_a_run_takes_as_long_as_its_rate_says() -> None:
    trace = run(reboots(1_000))
    assert trace.ended is StopReason.COMPLETE
    assert trace.makespan_ns == pytest.approx(100.5 * NS_PER_S, rel=0.01)
    assert trace.counts() == dict.fromkeys(Outcome, 0) | {Outcome.ACCEPTED: 1_000}
    assert trace.most_in_flight == 2


def test_settle_times_of_a_sequence_add_up() -> None:
    rows = [("A", Operation.FACTORY, 300 * NS_PER_S), ("A", Operation.SYNC, 60 * NS_PER_S), ("A", Operation.RECONF, 60)]
    trace = run(Steps.of(rows))
    assert trace.makespan_ns == 360 * NS_PER_S + 3 * LATENCY_NS


def test_concurrency_bounds_what_is_under_way() -> None:
    trace = run(reboots(20), {"concurrency": 3, "rate": "1000/s"}, SteadyWorld(NS_PER_S))
    assert trace.most_in_flight == 3
    assert trace.makespan_ns == pytest.approx(7 * NS_PER_S, rel=0.01)


def test_a_window_is_waited_for() -> None:
    trace = run(reboots(2), {"window": "02:00-05:00 UTC"})
    assert seconds(trace)[0] == 7200
    assert trace.ended is StopReason.COMPLETE
    assert seconds(run(reboots(2), {"window": "02:00-05:00 UTC"}, heed_window=False))[0] == 0


def test_a_refused_token_stops_the_run() -> None:
    trace = run(reboots(50), None, Faults(latency_ns=1, token_refused_ns=START_NS + 2 * NS_PER_S))
    assert trace.ended is StopReason.TOKEN_REFUSED
    assert trace.stopped_ns == trace.answered_ns[-1]
    assert len(trace) == 21
    assert trace.reply_kind(20) is ReplyKind.TOKEN_REFUSED


def test_a_hold_keeps_everything_back() -> None:
    trace = run(reboots(9), None, Faults(latency_ns=1, throttling_ns=((START_NS, START_NS + 1),), retry_after_s=60.0))
    assert trace.ended is StopReason.COMPLETE
    (learnt_ns, until_ns), *more = trace.holds
    assert not more
    assert until_ns == learnt_ns + 60 * NS_PER_S
    assert seconds(trace)[1] >= 60


def test_the_operator_stops_it_and_what_is_under_way_is_answered() -> None:
    trace = run(reboots(50), None, SteadyWorld(5 * NS_PER_S), orders=[(START_NS + NS_PER_S, Order.STOP)])
    assert trace.ended is StopReason.INTERRUPTED
    assert max(seconds(trace)) <= 1
    assert all(trace.answered_ns)
    assert trace.makespan_ns > 5 * NS_PER_S


def test_the_operator_cancels_it_and_what_is_under_way_may_have_run() -> None:
    orders = [(START_NS + NS_PER_S, Order.STOP), (START_NS + 2 * NS_PER_S, Order.CANCEL)]
    trace = run(reboots(50), None, SteadyWorld(5 * NS_PER_S), orders=orders)
    assert trace.ended is StopReason.INTERRUPTED
    assert trace.end_ns == START_NS + 2 * NS_PER_S
    assert Counter(map(trace.reply_kind, range(len(trace)))) == {ReplyKind.MAYBE: len(trace)}
    assert trace.counts()[Outcome.UNKNOWN] == len(trace)


def test_what_waits_for_the_disk_or_the_bound_is_withdrawn_when_it_is_cancelled() -> None:
    steps = reboots(30)
    for commit_ns, at_ns in ((NS_PER_S, 1_500_000_000), (NS_PER_S, 2_100_000_000), (1, 50_000_000)):
        journal = ModelJournal(steps)
        trace = run(
            steps,
            {"rate": "5/s"},
            SteadyWorld(9 * NS_PER_S),
            journal=journal,
            commit_ns=commit_ns,
            orders=[(START_NS + at_ns, Order.CANCEL)],
        )
        assert trace.ended is StopReason.INTERRUPTED
        assert {step for step, _ in journal.attempts} >= set(trace.step)
        assert set(journal.results) == set(trace.step)


def test_a_pause_lasts_until_the_operator_goes_on() -> None:
    orders = [(START_NS + NS_PER_S, Order.PAUSE), (START_NS + 60 * NS_PER_S, Order.CONTINUE)]
    trace = run(reboots(50), None, orders=orders)
    assert trace.ended is StopReason.COMPLETE
    assert not [moment for moment in seconds(trace) if 1 < moment < 60]
    assert [notice.event for notice in trace.notices] == [Event.PAUSED, Event.CONTINUED]


def test_orders_after_the_end_change_nothing() -> None:
    steps = reboots(1)
    late = [(START_NS + LATENCY_NS + 120, Order.STOP), (START_NS + LATENCY_NS + 121, Order.CANCEL)]
    trace = run(steps, None, None, journal=ModelJournal(steps), commit_ns=100, orders=late)
    assert trace.ended is StopReason.COMPLETE


def test_a_pause_without_an_operator_is_told_apart_from_a_run_that_waits() -> None:
    orders = [(START_NS, Order.PAUSE)]
    with pytest.raises(StuckError, match="nothing is under way, and the run is not done"):
        run(reboots(5), None, orders=orders)
    assert run(reboots(5), None, orders=orders, patience_ns=NS_PER_S).ended is StopReason.COMPLETE


def test_too_many_events_are_taken_for_a_run_without_an_end() -> None:
    with pytest.raises(StuckError, match="not done after 10 events"):
        run(reboots(50), None, most_events=10)


def test_a_wave_that_does_not_pass_its_gate_pauses_until_somebody_goes_on() -> None:
    policy = {"waves": "1,100%", "gate": "failed<=0%", "on_gate_failed": "pause"}
    trace = run(reboots(3), policy, Faults(latency_ns=1, rejected=1.0), patience_ns=600 * NS_PER_S)
    assert trace.ended is StopReason.COMPLETE
    assert seconds(trace)[1] >= 600
    assert run(reboots(3), {**policy, "on_gate_failed": "abort"}, Faults(rejected=1.0)).ended is StopReason.GATE_FAILED


class Homecoming(SteadyWorld):
    """Devices come back a while after they were told to restart, or never."""

    def __init__(self, back_s: int | None) -> None:
        super().__init__(LATENCY_NS)
        self.back_s = back_s
        self.looks: list[float] = []

    def look(self, device: int, now_ns: int) -> tuple[int, Seen]:
        self.looks.append((now_ns - START_NS) / NS_PER_S)
        back_ns = None if self.back_s is None else START_NS + self.back_s * NS_PER_S
        up = back_ns is not None and now_ns >= back_ns
        return now_ns + 1, Seen(up=up, changed_ns=back_ns if up else START_NS)


def test_devices_are_looked_for_until_they_are_back() -> None:
    world = Homecoming(25)
    trace = run(reboots(1, settle_s=10), {"confirm": {"enabled": True, "every": 10}}, world)
    assert trace.counts()[Outcome.CONFIRMED] == 1
    assert world.looks == pytest.approx([10.2, 20.2, 30.2])


def test_devices_that_do_not_come_back_stay_accepted() -> None:
    steps = Steps.of([("A", Operation.REBOOT, 0), ("A", Operation.SYNC, 0)])
    journal = ModelJournal(steps)
    trace = run(
        steps, {"confirm": {"enabled": True, "limit": 60}}, Homecoming(None), journal=journal, commit_ns=1_000_000
    )
    assert trace.counts() == dict.fromkeys(Outcome, 0) | {Outcome.ACCEPTED: 1, Outcome.SKIPPED: 1}
    assert journal.results[0].reason == "not_confirmed"


def test_a_run_taken_up_looks_for_the_devices_that_were_not_seen_yet() -> None:
    world = Homecoming(0)
    progress = Progress(outcomes=bytes([1]), unconfirmed={0: START_NS - NS_PER_S})
    trace = run(reboots(1), {"confirm": True}, world, progress=progress)
    assert len(trace) == 0
    assert trace.counts()[Outcome.CONFIRMED] == 1


@pytest.mark.parametrize("order", [Order.STOP, Order.PAUSE])
def test_what_the_inventory_says_after_a_stop_is_left_to_the_resume(order: Order) -> None:
    class Slow(Homecoming):
        def look(self, device: int, now_ns: int) -> tuple[int, Seen]:
            return now_ns + 5 * NS_PER_S, super().look(device, now_ns)[1]

    trace = run(
        reboots(1, settle_s=10), {"confirm": True}, Slow(5), orders=[(START_NS + 12 * NS_PER_S, order)], commit_ns=1
    )
    confirmed = trace.counts()[Outcome.CONFIRMED]
    assert (trace.ended, confirmed) == (
        (StopReason.INTERRUPTED, 0) if order is Order.STOP else (StopReason.COMPLETE, 1)
    )


def test_intents_are_written_together_and_wait_for_the_disk() -> None:
    steps = reboots(10)
    journal = ModelJournal(steps)
    trace = run(steps, {"rate": "1000/s"}, journal=journal, commit_ns=NS_PER_S)
    assert min(sent - intent for sent, intent in zip(trace.sent_ns, trace.intent_ns, strict=True)) >= NS_PER_S
    assert [len(batch.intents) for _, batch in journal.commits][:2] == [1, 9]


def test_a_crash_leaves_what_the_journal_has() -> None:
    steps = reboots(5)
    journal = ModelJournal(steps)
    trace = run(steps, None, SteadyWorld(NS_PER_S), journal=journal, commit_ns=1_000, crash_at=6)
    assert trace.ended is None
    assert len(trace) == 2
    journal.crash(trace.end_ns, commit_made_it=False)
    progress = journal.progress(trace.end_ns)
    assert progress.lost == [0, 1]
    again = simulate(
        steps, Policy(), b"key", SteadyWorld(1), trace.end_ns, progress=progress, journal=journal, commit_ns=1
    )
    assert again.ended is StopReason.COMPLETE
    assert again.counts()[Outcome.UNKNOWN] == 2
    assert list(again.step) == [2, 3, 4]


def test_a_crash_may_come_while_the_last_commit_runs() -> None:
    steps = reboots(1)
    journal = ModelJournal(steps)
    events = run(steps, journal=ModelJournal(steps), commit_ns=5).events
    trace = run(steps, journal=journal, commit_ns=5, crash_at=events - 1)
    assert trace.ended is None
    assert journal.is_writing
    assert journal.processes[-1].ended_ns is None


def test_a_lost_attempt_is_sent_again_with_the_next_number() -> None:
    steps = Steps.of([("A", Operation.SYNC, 0)])
    progress = Progress(troubles={0: Trouble(sends=1, failures=1, first_ns=START_NS)}, lost=[0])
    trace = run(steps, None, progress=progress)
    assert list(trace.attempt) == [3]


def test_a_send_that_waits_for_the_bound_is_withdrawn_by_a_hold() -> None:
    class ThrottlesOnce(SteadyWorld):
        def attempt(self, step: int, attempt: int, sent_ns: int) -> tuple[int, Reply]:
            if (step, attempt) == (0, 1):
                return sent_ns + 30 * NS_PER_S, Reply(ReplyKind.THROTTLED, retry_after_s=100.0)
            return super().attempt(step, attempt, sent_ns)

    steps = reboots(6)
    trace = run(steps, {"rate": "1/m", "concurrency": 6}, ThrottlesOnce(1), journal=ModelJournal(steps), commit_ns=1)
    assert trace.ended is StopReason.COMPLETE
    assert not [moment for moment in seconds(trace) if 30 < moment < 130]


class Memory:
    """A journal of which everything is durable at once."""

    async def intend(self, step: int, attempt: int, now_ns: int) -> None: ...

    def withdrawn(self, step: int, attempt: int) -> None: ...

    def answered(self, step: int, attempt: int, **what: Any) -> None: ...

    def confirmed(self, effects: Any, now_ns: int) -> None: ...

    def happened(self, notices: Any) -> None: ...

    async def serve(self) -> None:
        await anyio.sleep_forever()

    async def close(self, **what: Any) -> None: ...


@pytest.mark.parametrize(
    ("policy", "faults"),
    [
        ({"rate": "20/s"}, Faults(latency_ns=LATENCY_NS)),
        ({"rate": "500/s", "concurrency": 64}, Faults(latency_ns=LATENCY_NS)),
        ({"rate": "500/s", "concurrency": 4}, Faults(latency_ns=LATENCY_NS)),
        ({"rate": "30/m", "burst": 9}, Faults(latency_ns=NS_PER_S)),
        ({"rate": "20/s", "group_cap": "10%"}, Faults(latency_ns=LATENCY_NS)),
        ({"rate": "20/s", "waves": "5%,100%", "gate": "failed<=90%, soak 10m"}, Faults(unreachable=0.2, rejected=0.2)),
        ({"rate": "20/s"}, Faults(lost=0.1, server_error=0.1, throttled=0.02, retry_after_s=5.0)),
    ],
)
def test_the_runner_sends_when_the_simulation_does(policy: dict[str, Any], faults: Faults, virtual_time: Any) -> None:
    rows = [(f"S{device}", op, 60 * NS_PER_S) for device in range(150) for op in (Operation.REBOOT, Operation.SYNC)]
    steps = Steps.of(rows, [f"olt-{device % 3}" for device in range(150)])
    settings = Policy.model_validate(policy)
    real = HostileWorld(1, steps, settings, faults)
    attempts: Counter[int] = Counter()
    sends: list[tuple[int, int]] = []

    class Service:
        async def execute(self, serial: str, operation: Operation) -> Reply:
            step = 2 * int(serial[1:]) + (operation is Operation.SYNC)
            attempts[step] += 1
            now_ns = virtual_time.now_ns()
            sends.append((step, now_ns))
            answered_ns, reply = real.attempt(step, attempts[step], now_ns)
            await anyio.sleep((answered_ns - now_ns) / NS_PER_S)
            return reply

    async def drive_for_real() -> int:
        machine = Scheduler(steps, settings, b"key")
        journal, service = cast("Any", Memory()), cast("Any", Service())
        runner = drive.Runner(machine, journal, service, virtual_time, steps=steps, policy=settings)
        assert await runner.drive() is StopReason.COMPLETE
        ended_ns: int = virtual_time.now_ns()
        return ended_ns

    ended_ns = virtual_time.run(drive_for_real)
    trace = simulate(steps, settings, b"key", HostileWorld(1, steps, settings, faults), 0)
    assert trace.ended is StopReason.COMPLETE
    assert sorted(trace.step) == sorted(step for step, _ in sends)
    assert trace.end_ns == pytest.approx(ended_ns, rel=0.01)
    assert list(trace.sent_ns) == pytest.approx([at_ns for _, at_ns in sends], rel=0.01, abs=NS_PER_S // 10)
