"""Which chunks are put into the queue, and by whom they are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.cluster.follow import offer
from fleetops.sandbox import SandboxConfig, sandbox_thread
from tests.cluster.kept import claim, do, new_worker, one
from tests.cluster.within import Fleet, devices
from tests.journal.runs import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITING = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"


@pytest.fixture
def fleet(database: str) -> Iterator[Fleet]:
    with sandbox_thread(SandboxConfig(devices=200)) as (base_url, _):
        yield Fleet(database, base_url)


def test_a_chunk_waits_in_the_queue_once_however_often_it_is_offered(fleet: Fleet) -> None:
    fleet.submit(devices(20))
    offer(fleet.url, RUN_ID)
    assert one(fleet.url, WAITING) == 4


def test_a_chunk_that_a_live_worker_has_is_not_offered_and_that_of_a_dead_one_is(fleet: Fleet) -> None:
    fleet.submit(devices(20))
    do(fleet.url, "DELETE FROM procrastinate_jobs")
    alive, dead = new_worker(fleet.url), new_worker(fleet.url)
    assert claim(fleet.url, RUN_ID, 0, alive) == claim(fleet.url, RUN_ID, 1, dead) == 1
    do(fleet.url, "UPDATE worker SET lease_ns = 0 WHERE worker = %s", dead)
    do(fleet.url, "UPDATE chunk SET state = 'done' WHERE chunk = 2")
    offer(fleet.url, RUN_ID)
    found = one(fleet.url, "SELECT json_agg(queueing_lock ORDER BY queueing_lock) FROM procrastinate_jobs")
    assert found == [f"{RUN_ID}/1", f"{RUN_ID}/3"]


def test_a_run_that_nobody_takes_chunks_of_keeps_no_other_from_the_queue(fleet: Fleet) -> None:
    fleet.submit(devices(100), chunk=1)
    assert one(fleet.url, WAITING) == 64
    do(fleet.url, "UPDATE run SET queue = 'elsewhere', base_url = 'https://other.example'")
    do(fleet.url, "UPDATE procrastinate_jobs SET queue_name = 'elsewhere'")
    other = fleet.submit(devices(10), chunk=5, run_id="20260102-030405-0001")
    assert one(fleet.url, f"{WAITING} AND queue_name = 'default'") == 2
    do(fleet.url, "UPDATE run SET ended_ns = 1 WHERE run_id <> %s", other)
    fleet.work()
    assert fleet.outcomes() == {"accepted": 10}
