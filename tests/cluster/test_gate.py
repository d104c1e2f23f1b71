"""One rate for all workers, whatever they ask for."""

from __future__ import annotations

import random
from typing import Any

import anyio
import psycopg
import pytest
from psycopg.rows import namedtuple_row

from fleetops.cluster.gate import SharedGate
from fleetops.cluster.slots import AHEAD_NS, LATE_NS, SPREAD_NS
from fleetops.cluster.submit import submit
from fleetops.model import Operation
from fleetops.policy import Policy
from tests.cluster.kept import do, one
from tests.crash.audit import busiest_second
from tests.journal.runs import RUN_ID, S, new_run, rows

MS = 1_000_000
LEAD_NS = 10 * S


def prepared(url: str, rate: str = "50/s", burst: int = 0) -> None:
    policy = Policy.model_validate({"rate": rate, "burst": burst})
    submit(url, new_run(rows(4, Operation.SYNC), policy), queue="default")


def reserve(url: str, want: int, *, clock_ns: int = 0, lead_ns: int = LEAD_NS, probe_ns: int = S) -> Any:
    with psycopg.connect(url, autocommit=True, row_factory=namedtuple_row) as connection:
        given = (RUN_ID, want, clock_ns, SPREAD_NS, AHEAD_NS, lead_ns, 0.1, probe_ns)
        statement = "SELECT * FROM reserve_slots(%s, %s, %s, %s, %s, %s, %s, %s)"
        return connection.execute(statement, given).fetchone()


def moments(row: Any) -> list[int]:
    return [row.first_ns + round(number * row.interval_ns) for number in range(row.granted)]


@pytest.mark.parametrize("rate", ["50/s", "7/s", "1000/s"])
def test_no_second_carries_much_more_than_the_rate_however_late_workers_use_their_slots(
    database: str, rate: str
) -> None:
    prepared(database, rate)
    chance = random.Random(1)
    bound_ns = MS
    sent: list[int] = []
    on_time: list[int] = []
    for number in range(60):
        row = reserve(database, chance.randrange(1, 200), clock_ns=bound_ns if number % 2 else 0)
        # Each of two workers reads the clock as wrongly as it may, and uses its slots as late as it may.
        off_ns = chance.choice((-bound_ns, bound_ns))
        sent += [moment_ns + off_ns + chance.choice((0, LATE_NS)) for moment_ns in moments(row)]
        on_time += [moment_ns + off_ns + chance.randrange(SPREAD_NS) for moment_ns in moments(row)]
    per_s = float(rate.removesuffix("/s"))
    assert len(sent) > 2 * per_s
    assert busiest_second(sorted(sent)) <= 1.05 * per_s + 1
    assert busiest_second(sorted(on_time)) <= per_s
    spread_s = (max(sent) - min(sent)) / S
    assert len(sent) / spread_s > 0.98 * per_s


def test_slots_are_given_out_only_so_far_ahead(database: str) -> None:
    prepared(database, "10/s")
    began_ns = one(database, "SELECT now_ns()")
    granted = [reserve(database, 100, lead_ns=500 * MS).granted for _ in range(5)]
    took_ns = one(database, "SELECT now_ns()") - began_ns
    assert granted[0] == 5
    assert sum(granted) <= 5 + took_ns / (100 * MS) + 1
    assert one(database, "SELECT slots FROM gate") == sum(granted)


def test_a_burst_may_be_used_at_once_and_only_once(database: str) -> None:
    prepared(database, "1/s", burst=10)
    assert sum(reserve(database, 100, lead_ns=AHEAD_NS).granted for _ in range(5)) == 10 + 1


@pytest.mark.parametrize(
    "state",
    [
        "UPDATE run SET paused = true",
        "UPDATE run SET stop_reason = 'aborted'",
        "UPDATE run SET ended_ns = now_ns()",
        "UPDATE gate SET hold_ns = now_ns() + 1000000000",
        "UPDATE gate SET outage_since_ns = 1, outage_until_ns = now_ns() + 1000000000",
    ],
)
def test_nothing_is_given_out_while_the_run_is_not_to_send(database: str, state: str) -> None:
    prepared(database)
    do(database, state)
    row = reserve(database, 10)
    assert row.granted == 0
    assert (row.paused, row.stop_reason, row.ended, row.hold_ns, row.outage_since_ns) != (False, None, False, 0, None)


def test_in_an_outage_one_request_at_a_time_is_tried_by_whoever_comes_first(database: str) -> None:
    prepared(database)
    do(database, "UPDATE gate SET outage_since_ns = 1, outage_until_ns = now_ns() - 1")
    assert [reserve(database, 10).granted for _ in range(3)] == [1, 0, 0]


def test_a_rate_that_was_cut_comes_back_while_the_service_is_quiet(database: str) -> None:
    prepared(database, "100/s")
    do(database, "SELECT cut_rate(%s, 0.75, 0.05, 1000000000)", RUN_ID)
    do(database, "SELECT cut_rate(%s, 0.75, 0.05, 1000000000)", RUN_ID)
    assert reserve(database, 0).per_s == 75
    do(database, "UPDATE gate SET looked_ns = looked_ns - 2000000000")
    assert 94 < reserve(database, 1).per_s < 97


def test_a_hold_is_for_every_live_run_on_that_control_plane(database: str) -> None:
    prepared(database)
    other = new_run(rows(4, Operation.SYNC)[2:], run_id="20260102-030405-0001")
    elsewhere = new_run(rows(4), run_id="20260102-030405-0002", base_url="https://other.example")
    do(database, "UPDATE run SET ended_ns = 1")
    for one_more in (other, elsewhere):
        submit(database, one_more, queue="default")
    do(database, "UPDATE run SET ended_ns = NULL")
    do(database, "SELECT hold_all(%s, 5)", RUN_ID)
    with psycopg.connect(database) as connection:
        held = connection.execute("SELECT hold_ns FROM gate ORDER BY run_id").fetchall()
    assert sorted(held) == [(0,), (5,), (5,)]


class Worker:
    """A gate on a clock of its own."""

    def __init__(self) -> None:
        self.now_ns = 1000 * S
        self.alive = True
        self.ready = 10
        self.gate = SharedGate(lambda: self.now_ns, lambda: self.alive, lambda: self.ready)
        self.gate.most_in_flight = 4
        self.gate.per_s = 100.0

    def grant(self, slots: int, in_ns: int = 0) -> None:
        self.gate.granted(self.now_ns + in_ns, slots, 10.0 * MS, self.now_ns - AHEAD_NS)


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
