"""A run starts when its window opens, is left or waits when that closes, and goes on at the next opening."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from fleetops.cluster.commands import ask
from fleetops.cluster.database import make_pool
from fleetops.cluster.follow import glance
from fleetops.cluster.queue import make_queue
from fleetops.cluster.window import goes_on_ns, opened_ns
from fleetops.journal import Action
from fleetops.policy import Policy
from fleetops.sandbox import SandboxConfig, sandbox_thread
from tests.cluster.kept import claim, do, new_worker, one
from tests.cluster.within import MS, Fleet, devices
from tests.journal.runs import RUN_ID, S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.rig import ClusterRig

NIGHTS: Final = ["02:00-02:01 UTC", "03:00-03:01 UTC"]
QUICK: Final = {"connect": "200ms", "read": "200ms"}


@pytest.fixture
def fleet(database: str) -> Iterator[Fleet]:
    with sandbox_thread(SandboxConfig(devices=200)) as (base_url, _):
        yield Fleet(database, base_url)


def at_ns(clock: str) -> int:
    """A moment of a day, as nanoseconds since the epoch."""
    return round(datetime.fromisoformat(f"2026-03-10T{clock}+00:00").astimezone(UTC).timestamp()) * S


def set_clock(url: str, clock: str) -> None:
    """Have the database's clock show another time, from which it goes on: all times are by that."""
    ahead_ns = at_ns(clock) - one(url, "SELECT (extract(epoch FROM clock_timestamp()) * 1e9)::bigint")
    do(
        url,
        "CREATE OR REPLACE FUNCTION now_ns() RETURNS bigint LANGUAGE sql VOLATILE AS "
        f"$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000 + ({ahead_ns})::bigint $$",
    )


def sent(url: str) -> list[int]:
    """When something was sent."""
    return list(one(url, "SELECT json_agg(sent_ns ORDER BY sent_ns) FROM attempt") or [])


def test_a_detached_run_starts_when_its_window_opens_on_a_worker_that_had_nothing_to_do(rig: ClusterRig) -> None:
    set_clock(rig.url, "00:30:00")
    rig.write(devices=10, rate=100)
    rig.start_worker()
    rig.wait_for("SELECT count(*) = 1 FROM worker")
    run_id = rig.submit("--window=02:00-05:00 UTC")
    assert rig.value("SELECT starts_ns FROM run") == at_ns("02:00:00")
    assert "the maintenance window is closed" in glance(rig.url, run_id).text()
    set_clock(rig.url, "01:59:58")
    rig.wait_for_end(run_id)
    assert at_ns("02:00:00") <= sent(rig.url)[0] < at_ns("02:00:10")
    assert rig.audit(run_id).breaches == []


def test_a_run_that_waits_at_the_end_holds_at_the_close_and_goes_on_at_the_next_opening(fleet: Fleet) -> None:
    set_clock(fleet.url, "02:00:54")
    fleet.submit(devices(100), chunk=50, rate="10/s", timeouts=QUICK, window=NIGHTS, at_end="wait")
    counted: list[int] = []

    def night() -> None:
        fleet.wait_for("SELECT starts_ns = %s FROM run", at_ns("03:00:00"))
        counted.append(len(sent(fleet.url)))
        assert fleet.value("SELECT count(*) FROM chunk WHERE worker IS NOT NULL") == 0, "it waits on no worker"
        ask(fleet.url, RUN_ID, Action.RATE, "200/s")
        set_clock(fleet.url, "02:59:59")

    fleet.work(night)
    times = sent(fleet.url)
    assert fleet.outcomes() == {"accepted": 100}
    assert 1 <= counted[0] < 100
    assert times[counted[0] - 1] < at_ns("02:01:00")
    assert at_ns("03:00:00") <= times[counted[0]] < at_ns("03:00:10")
    assert fleet.ended_as() == ("complete", "")
    assert "window_closed" in fleet.events()


def test_a_run_that_stops_at_the_end_is_left_for_whoever_resumes_it(fleet: Fleet) -> None:
    set_clock(fleet.url, "02:00:55")
    fleet.submit(devices(100), chunk=50, rate="10/s", timeouts=QUICK, window=NIGHTS)
    fleet.work()
    assert fleet.ended_as()[0] == "window_closed"
    assert 1 <= fleet.outcomes()["accepted"] < 100
    assert sent(fleet.url)[-1] < at_ns("02:01:00")


@pytest.mark.parametrize("latency_s", [0.0, (0.3, 3.0)], ids=["idle", "requests under way"])
def test_a_worker_goes_by_the_databases_clock_from_the_moment_at_which_that_was_set(
    database: str, latency_s: float | tuple[float, float]
) -> None:
    with sandbox_thread(SandboxConfig(devices=200, latency_s=latency_s)) as (base_url, _):
        has_its_clock_set(Fleet(database, base_url))


def has_its_clock_set(fleet: Fleet) -> None:
    set_clock(fleet.url, "01:00:00")
    fleet.submit(devices(60), rate="20/s")

    def change() -> None:
        fleet.wait_for("SELECT count(*) > 5 FROM attempt WHERE answered_ns IS NOT NULL")
        set_clock(fleet.url, "02:00:00")

    fleet.work(change)
    assert set(fleet.outcomes()) <= {"accepted", "unknown"}
    assert sum(fleet.outcomes().values()) == 60
    assert fleet.ended_as() == ("complete", "")
    assert any(event == "clock_stepped" for _, event, _ in fleet.told)
    assert at_ns("02:00:00") < sent(fleet.url)[-1] < at_ns("02:01:00"), "which is not the time of this host"


def test_a_chunk_that_is_taken_over_after_the_close_waits_for_no_other_window(fleet: Fleet) -> None:
    set_clock(fleet.url, "02:00:30")
    fleet.submit(devices(4), timeouts=QUICK, window=NIGHTS)
    dead = new_worker(fleet.url, lease_ns=S)
    assert claim(fleet.url, RUN_ID, 0, dead) == 1
    set_clock(fleet.url, "02:30:00")
    fleet.work()
    assert fleet.ended_as()[0] == "window_closed"
    assert sent(fleet.url) == []


def test_a_run_of_which_nothing_fits_into_any_window_ends_though_it_would_wait(fleet: Fleet) -> None:
    set_clock(fleet.url, "02:00:30")
    fleet.submit(devices(4, settle_ms=61_000), timeouts=QUICK, window=NIGHTS, at_end="wait")
    fleet.work()
    assert fleet.ended_as()[0] == "window_closed"
    assert sent(fleet.url) == []


def test_a_periodic_task_of_the_queue_alone_hands_out_the_chunks_of_a_run_that_is_due(fleet: Fleet) -> None:
    fleet.submit(devices(10), window=["02:00-02:01 Pacific/Kiritimati"])
    assert fleet.value("SELECT count(*) FROM procrastinate_jobs") == 0
    taken: list[int] = []

    async def serve_queue() -> None:
        all_taken = anyio.Event()

        async def run_chunk(run_id: str, chunk: int) -> None:
            taken.append(chunk)
            if len(taken) == 2:
                all_taken.set()

        async with make_pool(fleet.url, size=4) as pool, anyio.create_task_group() as tasks:
            queue = make_queue(pool, run_chunk, cron="* * * * * *")
            await queue.open_async(pool)
            tasks.start_soon(lambda: queue.run_worker_async(install_signal_handlers=False, delete_jobs="always"))
            do(fleet.url, "UPDATE run SET starts_ns = 0")
            with anyio.fail_after(20):
                await all_taken.wait()
            tasks.cancel_scope.cancel()

    anyio.run(serve_queue)
    assert sorted(taken) == [0, 1]


def test_an_opening_goes_on_where_something_fits() -> None:
    policy = Policy.model_validate({"window": NIGHTS, "at_end": "wait", "timeouts": QUICK})
    assert goes_on_ns(policy, at_ns("02:00:59"), 0) == at_ns("03:00:00")
    assert goes_on_ns(policy, at_ns("02:30:00"), 0) == at_ns("03:00:00")
    assert goes_on_ns(policy, at_ns("02:30:00"), 60 * S) is None


def test_a_run_has_missed_its_window_only_once_that_is_over() -> None:
    policy = Policy.model_validate({"window": NIGHTS})
    opened = at_ns("02:00:00")
    assert opened_ns(policy, opened, opened - MS) is None, "a clock that is a little behind"
    assert opened_ns(policy, opened, at_ns("02:00:59")) is None
    assert opened_ns(policy, opened, at_ns("02:01:00")) == opened
    assert opened_ns(Policy(), opened, at_ns("05:00:00")) is None
