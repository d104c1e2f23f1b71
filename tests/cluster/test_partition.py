"""A worker that stands still, or cannot reach the database, sends nothing under a lease that is over."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.cluster.hosts import Host, require_namespaces
from tests.journal.runs import S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.rig import ClusterRig
    from tests.cluster.server import PostgresServer

LEASE_S = 3
LEASE_NS = LEASE_S * S
LEASE = f"--lease={LEASE_S}s"


def sent_without_a_hold(rig: ClusterRig, worker: int, after_ns: int) -> int:
    """Requests that arrived after a moment for steps of which, by then, only that worker's lost holds had intents."""
    others = {
        (serial, operation)
        for serial, operation in _rows(
            rig,
            "SELECT serial, operation FROM attempt a JOIN step USING (run_id, chunk, step) "
            "JOIN device USING (run_id, chunk, device) WHERE a.worker <> %s OR a.epoch > 1",
            worker,
        )
    }
    late = [one for one in rig.arrivals() if one.at_ns > after_ns]
    return sum((one.serial, one.operation) not in others for one in late)


def _rows(rig: ClusterRig, statement: str, *values: object) -> list[tuple[str, str]]:
    found = rig.value(f"SELECT json_agg(json_build_array(x.*)) FROM ({statement}) x", *values) or []
    return [(row[0]["serial"], row[0]["operation"]) for row in found]


def test_a_worker_that_was_stopped_for_longer_than_its_lease_sends_nothing_under_it(rig: ClusterRig) -> None:
    rig.write(devices=60, rate=40)
    stopped = rig.start_worker(LEASE)
    rig.wait_for("SELECT count(*) = 1 FROM worker")
    run_id = rig.submit("--chunk-devices=15")
    rig.wait_for_answers(30)
    rig.start_worker(LEASE)
    stopped.send_signal(signal.SIGSTOP)
    rig.wait_for("SELECT count(*) >= 10 FROM attempt WHERE epoch > 1", longest_s=LEASE_S + 10)
    resumed_ns = time.monotonic_ns()
    stopped.send_signal(signal.SIGCONT)
    rig.wait_for_end(run_id)
    assert sent_without_a_hold(rig, 1, resumed_ns) == 0
    assert any(line["event"] == "chunk_lost" for line in rig.log(0))
    assert rig.audit(run_id).breaches == []


def test_a_host_that_is_cut_off_from_the_database_stops_and_the_other_one_finishes(
    rig: ClusterRig, postgres: PostgresServer, tmp_path: Path
) -> None:
    require_namespaces(tmp_path)
    rig.write(devices=60, rate=40)
    api_port = int(rig.sandbox.base_url.split(":")[2].split("/")[0])
    with ExitStack() as stack:
        first, second = (stack.enter_context(Host(number, api_port)) for number in (1, 2))
        stack.callback(rig.end_workers)
        url = rig.url
        for host in (first, second):
            rig.start_worker(LEASE, wrapper=host.wrapper, url=postgres.url_from(host.database_host, url))
        rig.wait_for("SELECT count(*) = 2 FROM worker")
        run_id = rig.submit("--chunk-devices=10")
        rig.wait_for("SELECT count(DISTINCT worker) = 2 FROM attempt WHERE answered_ns IS NOT NULL")
        rig.wait_for_answers(40)
        cut = rig.value("SELECT worker FROM worker WHERE pid = %s", rig.workers[0].pid)
        cut_ns = time.monotonic_ns()
        first.cut_off()
        rig.wait_for("SELECT count(*) >= 10 FROM attempt WHERE epoch > 1", longest_s=LEASE_S + 10)
        rig.wait_for_end(run_id)
        ended_ns = time.monotonic_ns()
        first.mend()
        assert ended_ns - cut_ns > LEASE_NS
        assert sent_without_a_hold(rig, cut, cut_ns + LEASE_NS) == 0
        assert rig.value("SELECT count(*) FROM attempt WHERE worker <> %s AND epoch > 1", cut) >= 10
        assert rig.audit(run_id).breaches == []
