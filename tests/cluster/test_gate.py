"""One rate for all workers, whatever they ask for."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from typing import Any

import anyio
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import namedtuple_row

from fleetops.cluster.commands import ask
from fleetops.cluster.gate import SharedGate
from fleetops.cluster.slots import AHEAD_NS, SPREAD_NS, late_ns
from fleetops.cluster.submit import submit
from fleetops.journal import Action
from fleetops.model import Operation
from fleetops.policy import Policy
from tests.cluster.kept import do, one
from tests.crash.audit import busiest_second
from tests.journal.runs import BASE_URL, RUN_ID, S, new_run, rows

MS = 1_000_000
LEAD_NS = 10 * S


def prepared(url: str, rate: str = "50/s", burst: int = 0) -> None:
    policy = Policy.model_validate({"rate": rate, "burst": burst})
    submit(url, new_run(rows(4, Operation.SYNC), policy), queue="default")


def reserve(
    url: str, want: int, *, run_id: str = RUN_ID, clock_ns: int = 0, lead_ns: int = LEAD_NS, probe_ns: int = S
) -> Any:
    with psycopg.connect(url, autocommit=True, row_factory=namedtuple_row) as connection:
        given = (run_id, want, clock_ns, SPREAD_NS, AHEAD_NS, lead_ns, 0.1, probe_ns)
        statement = "SELECT * FROM reserve_slots(%s, %s, %s, %s, %s, %s, %s, %s)"
        return connection.execute(statement, given).fetchone()


@pytest.mark.parametrize("rate", ["50/s", "7/s", "1000/s"])
def test_no_second_carries_much_more_than_the_rate_however_late_workers_use_their_slots(
    database: str, rate: str
) -> None:
    prepared(database, rate)
    chance = random.Random(1)
    bound_ns = MS
    per_s = float(rate.removesuffix("/s"))
    sent: list[int] = []
    on_time: list[int] = []
    for number in range(60):
        row = reserve(database, chance.randrange(1, 200), clock_ns=bound_ns if number % 2 else 0)
        # Each of two workers reads the clock as wrongly as it may, and uses its slots as late as it may.
        off_ns = chance.choice((-bound_ns, bound_ns))
        sent += [moment_ns + off_ns + chance.choice((0, late_ns(per_s, 0))) for moment_ns in row.moments]
        on_time += [moment_ns + off_ns + chance.randrange(SPREAD_NS) for moment_ns in row.moments]
    assert len(sent) > 2 * per_s
    assert busiest_second(sorted(sent)) <= per_s + max(1, per_s / 100)
    assert busiest_second(sorted(on_time)) <= per_s
    spread_s = (max(sent) - min(sent)) / S
    assert len(sent) / spread_s > 0.98 * per_s


def test_slots_are_given_out_only_so_far_ahead(database: str) -> None:
    prepared(database, "10/s")
    began_ns = one(database, "SELECT now_ns()")
    granted = [reserve(database, 100, lead_ns=500 * MS).moments for _ in range(5)]
    took_ns = one(database, "SELECT now_ns()") - began_ns
    assert len(granted[0]) == 5
    assert sum(map(len, granted)) <= 5 + took_ns / (100 * MS) + 1
    assert one(database, "SELECT slots FROM gate") == sum(map(len, granted))


def test_a_burst_may_be_used_at_once_and_only_once(database: str) -> None:
    prepared(database, "1/s", burst=10)
    assert sum(len(reserve(database, 100, lead_ns=AHEAD_NS).moments) for _ in range(5)) == 10 + 1


@pytest.mark.parametrize(
    "state",
    [
        "UPDATE run SET paused = true",
        "UPDATE run SET stop_reason = 'aborted'",
        "UPDATE run SET ended_ns = now_ns()",
        "UPDATE gate SET hold_ns = now_ns() + 1000000000",
        "UPDATE pace SET outage_since_ns = 1, outage_until_ns = now_ns() + 1000000000",
    ],
)
def test_nothing_is_given_out_while_the_run_is_not_to_send(database: str, state: str) -> None:
    prepared(database)
    do(database, state)
    row = reserve(database, 10)
    assert row.moments == []
    assert (row.paused, row.stop_reason, row.ended, row.hold_ns, row.outage_since_ns) != (False, None, False, 0, None)


def test_in_an_outage_one_request_at_a_time_is_tried_by_whoever_comes_first(database: str) -> None:
    prepared(database)
    do(database, "UPDATE pace SET outage_since_ns = 1, outage_until_ns = now_ns() - 1")
    assert [len(reserve(database, 10).moments) for _ in range(3)] == [1, 0, 0]


def test_a_rate_that_was_cut_comes_back_while_the_service_is_quiet(database: str) -> None:
    prepared(database, "100/s")
    do(database, "SELECT cut_rate(%s, 0.75, 0.05, 1000000000)", RUN_ID)
    do(database, "SELECT cut_rate(%s, 0.75, 0.05, 1000000000)", RUN_ID)
    assert reserve(database, 0).per_s == 75
    do(database, "UPDATE gate SET looked_ns = looked_ns - 2000000000")
    assert 94 < reserve(database, 1).per_s < 97


OTHER = "20260102-030405-0001"
ELSEWHERE = "20260102-030405-0002"


def beside(url: str, rate: str, run_id: str = OTHER, base_url: str = BASE_URL, burst: int = 0) -> None:
    """One more run, of devices of its own."""
    policy = Policy.model_validate({"rate": rate, "burst": burst})
    steps = rows(8 if run_id == OTHER else 12, Operation.SYNC)[-4:]
    new = new_run(steps, policy, run_id=run_id, base_url=base_url)
    submit(url, new, queue="default", alongside=True)


def test_a_hold_and_a_cut_are_for_every_run_on_that_control_plane(database: str) -> None:
    prepared(database, "100/s")
    beside(database, "40/s")
    beside(database, "40/s", ELSEWHERE, "https://other.example")
    do(database, "SELECT hold_all(%s, 5)", RUN_ID)
    do(database, "SELECT cut_rate(%s, 0.75, 0.05, 1000000000)", OTHER)
    found = {run_id: reserve(database, 0, run_id=run_id) for run_id in (RUN_ID, OTHER, ELSEWHERE)}
    assert [row.hold_ns for row in found.values()] == [5, 5, 0]
    assert [row.per_s for row in found.values()] == [75, 30, 40]
    assert [row.gate_per_s for row in found.values()] == [75, 75, 40]


def test_runs_on_one_control_plane_keep_one_rate_and_each_its_own_beneath_it(database: str) -> None:
    prepared(database, "100/s")
    beside(database, "30/s")
    taken: dict[str, list[int]] = {RUN_ID: [], OTHER: []}
    for _ in range(20):
        for run_id, want in ((RUN_ID, 10), (OTHER, 8)):
            taken[run_id] += reserve(database, want, run_id=run_id).moments
    both = sorted(taken[RUN_ID] + taken[OTHER])
    assert len(both) == len(set(both)) > 250
    assert busiest_second(both) <= 100
    assert busiest_second(sorted(taken[OTHER])) <= 30
    seconds = (max(taken[OTHER]) - min(taken[OTHER])) / S
    assert len(taken[OTHER]) / seconds > 29
    assert not reserve(database, 10, run_id=OTHER, lead_ns=0).moments


def test_a_run_that_is_not_to_send_raises_nobodys_rate(database: str) -> None:
    prepared(database, "10/s")
    beside(database, "40/s")
    assert reserve(database, 0).gate_per_s == 40
    for state in (
        "paused = true",
        "paused = false, stop_reason = 'aborted'",
        "stop_reason = NULL, starts_ns = 1 << 62",
    ):
        do(database, f"UPDATE run SET {state.replace('1 << 62', str(1 << 62))} WHERE run_id = %s", OTHER)
        assert reserve(database, 0).gate_per_s == 10


def test_a_rate_that_is_raised_is_in_force_at_once(database: str) -> None:
    prepared(database, "0.01/s")
    assert len(reserve(database, 5).moments) == 1
    assert not reserve(database, 5).moments
    ask(database, RUN_ID, Action.RATE, "10/s")
    assert len(reserve(database, 5).moments) == 5


def test_a_clock_that_was_off_once_does_not_slow_all_down_for_good(database: str) -> None:
    prepared(database, "100/s")
    wide = reserve(database, 11, clock_ns=50 * MS).moments
    assert wide[-1] - wide[0] == 111 * MS
    do(database, "UPDATE gate SET clocked_ns = clocked_ns - 3000000000")
    narrow = reserve(database, 11, clock_ns=0).moments
    assert narrow[-1] - narrow[0] == 101 * MS


_requests = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12), st.integers(0, 300)), min_size=1, max_size=40)


def test_slots_are_given_out_once_and_as_far_apart_as_every_rate_asks(database: str) -> None:
    """Whatever runs ask for, and in whatever order."""
    with psycopg.connect(database, autocommit=True) as connection:

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.integers(1, 200), min_size=3, max_size=3), _requests)
        def check(rates: list[int], asked: list[tuple[int, int, int]]) -> None:
            apart_ns = [-(-1010 * MS // per_s) for per_s in rates]
            gate_ns = min(apart_ns)
            now_ns = next_ns = 1000 * S
            due_ns = [now_ns] * 3
            spare: list[int] = []
            taken: list[list[int]] = [[], [], []]
            for run, want, wait_ms in asked:
                now_ns += wait_ms * MS
                spare = [moment for moment in sorted(spare) if moment >= now_ns]
                given = (
                    want,
                    now_ns + S,
                    gate_ns,
                    apart_ns[run],
                    max(due_ns[run], now_ns),
                    max(next_ns, now_ns),
                    spare,
                )
                row = connection.execute(
                    "SELECT * FROM choose_slots(%s, %s, %s, %s, %s, %s, %s::bigint[])", given
                ).fetchone()
                assert row is not None
                moments, due_ns[run], next_ns, spare = row
                assert all(now_ns <= moment <= now_ns + S for moment in moments)
                taken[run] += moments
            every = sorted(itertools.chain(*taken))
            assert all(later - earlier >= gate_ns for earlier, later in itertools.pairwise(every))
            for per_s, moments in zip(rates, taken, strict=True):
                late_by_a_slot = late_ns(per_s, gate_ns if per_s < max(rates) else 0)
                assert most_when_late(sorted(moments), late_by_a_slot) <= per_s + max(1, per_s // 100)

        check()


def most_when_late(moments: list[int], late: int) -> int:
    """The most that a second can hold where each of these may be so much later."""
    return max((bisect_left(moments, moment + S + late) - n for n, moment in enumerate(moments)), default=0)


class Worker:
    """A gate on a clock of its own."""

    def __init__(self) -> None:
        self.now_ns = 1000 * S
        self.alive = True
        self.ready = 10
        self.gate = SharedGate(lambda: self.now_ns, lambda: self.alive, lambda: self.ready)
        self.gate.most_in_flight = 4
        self.gate.set_rate(100.0, 100.0)

    def grant(self, slots: int, in_ns: int = 0) -> None:
        self.gate.granted([self.now_ns + in_ns + number * 10 * MS for number in range(slots)], self.now_ns - AHEAD_NS)


def test_nothing_is_sent_without_a_slot() -> None:
    worker = Worker()
    assert not worker.gate.take_slot(100)
    assert not worker.gate.is_free(worker.now_ns)
    assert worker.gate.free_at_ns() > worker.now_ns
    worker.grant(1)
    assert worker.gate.take_slot(100)
    assert worker.gate.is_free(worker.now_ns)
    worker.gate.sent(worker.now_ns)
    assert not worker.gate.is_free(worker.now_ns)
    assert not worker.gate.take_slot(100)


def test_nothing_is_sent_once_the_lease_is_over_also_with_slots_in_hand() -> None:
    worker = Worker()
    worker.grant(3)
    worker.alive = False
    assert not worker.gate.take_slot(100)
    assert not worker.gate.is_free(worker.now_ns)
    assert worker.gate.free_at_ns() > worker.now_ns
    assert worker.gate.wanted() == 0


def test_no_more_is_taken_up_than_may_be_in_flight() -> None:
    worker = Worker()
    worker.grant(10)
    worker.gate.in_flight = 2
    assert [worker.gate.take_slot(100) for _ in range(3)] == [True, True, False]


def test_a_hold_gives_up_the_slots_before_its_end() -> None:
    worker = Worker()
    worker.grant(3)
    worker.gate.hold(worker.now_ns + 15 * MS)
    assert not worker.gate.take_slot(100)
    assert worker.gate.free_at_ns() == worker.now_ns + 15 * MS
    worker.now_ns += 15 * MS
    assert worker.gate.free_at_ns() == worker.now_ns + 5 * MS


def test_a_send_that_was_withdrawn_does_not_keep_its_place_for_good() -> None:
    worker = Worker()
    worker.grant(1)
    assert worker.gate.take_slot(100)
    worker.now_ns += 2 * S
    worker.grant(1)
    assert worker.gate.take_slot(100)


def test_a_send_whose_slot_was_lost_while_it_waited_for_the_disk_gets_another_one() -> None:
    worker = Worker()
    worker.grant(1)
    assert worker.gate.take_slot(100)
    worker.now_ns += 5 * S
    assert worker.gate.wanted() == 0
    assert worker.gate.free_at_ns() > worker.now_ns
    assert worker.gate.wanted() == 1
    worker.grant(1)
    assert worker.gate.is_free(worker.now_ns)


@pytest.mark.anyio
async def test_as_many_slots_are_asked_for_as_are_wanted_and_no_more_than_a_block() -> None:
    worker = Worker()
    assert worker.gate.wanted() == 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.gate.slot, 100.0)
        await anyio.wait_all_tasks_blocked()
        assert worker.gate.wanted() == 4
        worker.gate.most_in_flight = 50
        assert worker.gate.wanted() == 10
        worker.ready = 2
        assert worker.gate.wanted() == 3
        worker.grant(1)
        await anyio.wait_all_tasks_blocked()
    assert worker.gate.wanted() == 0


def test_sends_are_taken_up_further_ahead_where_commits_are_slow() -> None:
    worker = Worker()
    before_ns = worker.gate.ahead_ns
    for _ in range(50):
        worker.gate.committed(100 * MS)
    assert worker.gate.ahead_ns > 4 * before_ns
    assert worker.gate.lead_ns > worker.gate.ahead_ns
