"""What a database costs: loading a campaign, two workers against one, and reading a large run back.

`python benchmarks/cluster.py load|workers|rate|copy|gate` starts a PostgreSQL server and sandboxes of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from fleetops.cluster.follow import offer
from fleetops.cluster.slots import AHEAD_NS, SPREAD_NS
from fleetops.cluster.state import ClusterState
from fleetops.cluster.submit import submit
from fleetops.journal import NewRun, RunFacts, create_journal
from fleetops.journal.views import RunView
from fleetops.model import CODE_OF, Operation, Steps
from fleetops.policy import Policy
from fleetops.runner import new_run_id
from tests.cluster.server import PostgresServer
from tests.crash.audit import busiest_second, read_arrivals
from tests.crash.rig import FLEETOPS, SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Callable

NS_PER_S = 1_000_000_000
_IN_FLIGHT = 8
"""Of each worker: few enough that the service's latency of 50 ms sets the pace, and not this machine's cores."""


def campaign(devices: int, policy: Policy, base_url: str, settle_ns: int = 300 * NS_PER_S, first: int = 1) -> NewRun:
    """A run of two steps a device, with a note and a carried cell for each."""
    steps = Steps(
        serials=[f"ZQ{number:09}" for number in range(first, first + devices)],
        groups=(),
        device_of=array("I", (*range(devices), *range(devices))),
        operation_of=bytes([CODE_OF[Operation.SYNC]]) * devices + bytes([CODE_OF[Operation.RECONF]]) * devices,
        settle_ns_of=array("q", [settle_ns]) * (2 * devices),
    )
    facts = RunFacts(new_run_id(), "routers.csv", "0" * 64, "", base_url, time.time_ns(), ("site",))
    return NewRun(facts, policy, steps, notes=["batch 14"] * len(steps), carried=['["Madrid"]'] * len(steps))


def timed(what: str, work: Callable[[], object]) -> float:
    """Do something, and say how long it took, in seconds."""
    began_s = time.perf_counter()
    work()
    took_s = time.perf_counter() - began_s
    print(f"{what:<58} {took_s:8.2f} s")
    return took_s


def load(server: PostgresServer, devices: int) -> None:
    """A campaign into the database, beside the same campaign into a journal on one host."""
    new = campaign(devices, Policy(), "https://control.example/api/v1")
    with tempfile.TemporaryDirectory() as folder:
        sqlite_s = timed(f"{2 * devices:,} steps into SQLite", lambda: create_journal(Path(folder, "run.db"), new))
    postgres_s = timed(f"{2 * devices:,} steps into PostgreSQL", lambda: submit(server.url, new, queue="default"))
    print(f"ratio {postgres_s / sqlite_s:.1f}")


def copy(server: PostgresServer, devices: int) -> None:
    """A finished run read back, as `report` and `status` read it."""
    new = campaign(devices, Policy(), "https://control.example/api/v1")
    submit(server.url, new, queue="default")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO attempt (run_id, chunk, step, attempt, drive, worker, epoch, intent_ns, sent_ns, answered_ns, "
            "kind, http_status, operation_id, detail) SELECT run_id, chunk, step, 1, 1, 1, 1, now_ns(), now_ns(), "
            "now_ns(), 'accepted', 200, '12345', '' FROM step"
        )
        connection.execute("INSERT INTO result SELECT run_id, chunk, step, 'accepted', NULL, now_ns(), 1 FROM step")
        for table in ("device", "step", "attempt", "result"):
            size = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (table,)).fetchone()
            rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert size is not None
            assert rows is not None
            print(f"{table:<10} {rows[0]:>10,} rows {size[0] / 1e6:>8.0f} MB {size[0] / rows[0]:>6.0f} bytes a row")
    with tempfile.TemporaryDirectory() as folder:
        state = ClusterState(Path(folder), server.url)
        timed(f"a copy of {2 * devices:,} finished steps", lambda: state.journal_path(new.facts.run_id))
        timed("the copy brought up to date", lambda: state.journal_path(new.facts.run_id))

        def look() -> None:
            with RunView.open(state, new.facts.run_id) as view:
                print(f"  {view.outcomes}")

        timed("the run's outcomes", look)


def _ended(connection: psycopg.Connection[Any], run_id: str) -> bool:
    row = connection.execute("SELECT ended_ns IS NOT NULL FROM run WHERE run_id = %s", (run_id,)).fetchone()
    return row is not None and bool(row[0])


def workers(server: PostgresServer, devices: int) -> None:
    """How many operations a second one worker sends, and two with as many requests in flight each."""
    took: dict[int, float] = {}
    for count in (1, 2, 1, 2):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sandbox = stack.enter_context(
                SandboxProcess(folder / "log", devices=devices, faults=(), options=("--latency=50ms",))
            )
            policy = Policy.model_validate({"rate": "2000/s", "concurrency": _IN_FLIGHT * count})
            new = campaign(devices, policy, sandbox.base_url, settle_ns=0)
            environment = {**os.environ, "FLEETOPS_DATABASE_URL": server.url, "FLEETOPS_TOKEN": "sandbox-token"}
            procs = [
                stack.enter_context(
                    subprocess.Popen([FLEETOPS, "worker", "--quiet"], env=environment, stderr=subprocess.DEVNULL)
                )
                for _ in range(count)
            ]
            time.sleep(3)
            submit(server.url, new, queue="default", devices_per_chunk=devices // 40)
            offer(server.url, new.facts.run_id)
            with psycopg.connect(server.url, autocommit=True) as connection:
                while not _ended(connection, new.facts.run_id):
                    time.sleep(0.1)
                row = connection.execute(
                    "SELECT count(*) / ((max(answered_ns) - min(sent_ns)) / 1e9) FROM attempt WHERE run_id = %s",
                    (new.facts.run_id,),
                ).fetchone()
            assert row is not None
            took[count] = max(took.get(count, 0), float(row[0]))
            print(f"{count} workers: {float(row[0]):.0f} operations/s")
            for proc in procs:
                proc.kill()
    print(f"ratio {took[2] / took[1]:.2f}")


def rate(server: PostgresServer, devices: int, per_s: float, runs: int) -> None:
    """What three workers send in all of a rate that they could exceed, and in the busiest second, here and there."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options = ("--latency=50ms",)
        sandbox = stack.enter_context(SandboxProcess(folder / "log", devices=devices, faults=(), options=options))
        policy = Policy.model_validate({"rate": f"{per_s:g}/s", "concurrency": max(90, int(per_s / 5))})
        environment = {**os.environ, "FLEETOPS_DATABASE_URL": server.url, "FLEETOPS_TOKEN": "sandbox-token"}
        command = [FLEETOPS, "worker", "--quiet"]
        procs = [
            stack.enter_context(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)) for _ in range(3)
        ]
        time.sleep(3)
        each = devices // runs
        for number in range(runs):
            new = campaign(each, policy, sandbox.base_url, settle_ns=0, first=number * each + 1)
            submit(server.url, new, queue="default", devices_per_chunk=max(1, each // 40), alongside=True)
            offer(server.url, new.facts.run_id)
        with psycopg.connect(server.url, autocommit=True) as connection:
            while connection.execute("SELECT 1 FROM run WHERE ended_ns IS NULL").fetchone():
                time.sleep(0.1)
            rows = connection.execute("SELECT sent_ns, run_id, worker FROM attempt ORDER BY sent_ns").fetchall()
        for proc in procs:
            proc.kill()
        arrived = sorted(arrival.at_ns for arrival in read_arrivals(sandbox.log))
    sent = [sent_ns for sent_ns, *_ in rows]
    middle = sent[len(sent) // 20 : -len(sent) // 20]
    print(f"{len(middle) / ((middle[-1] - middle[0]) / NS_PER_S):.1f} operations/s at a rate of {per_s:g}/s")
    print(f"in the busiest second {busiest_second(sent)} sent, {busiest_second(arrived)} arrived")
    for what, of in (("run", 1), ("worker", 2)):
        print(f"by {what} {sorted(Counter(row[of] for row in rows).values())}")


def gate(server: PostgresServer, devices: int) -> None:
    """Reservations a second on one row, by as many connections as there might be workers."""
    new = campaign(devices, Policy.model_validate({"rate": "100000/s"}), "https://control.example/api/v1")
    submit(server.url, new, queue="default")
    script = Path(tempfile.mkstemp(suffix=".sql")[1])
    given = f"'{new.facts.run_id}', 1, 0, {SPREAD_NS}, {AHEAD_NS}, 1000000000, 0.1, 1000000000"
    script.write_text(f"SELECT * FROM reserve_slots({given});\n")
    script.chmod(0o644)
    for clients in (1, 5, 20):
        command = ["pgbench", "-n", "-M", "prepared", f"-c{clients}", "-j1", "-T5", f"-f{script}", server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(
            f"{clients:>2} connections: "
            + "; ".join(line for line in done.stdout.splitlines() if "latency a" in line or "tps" in line)
        )
    script.unlink()


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("load", "workers", "rate", "copy", "gate"))
    parser.add_argument("--devices", type=int, default=500_000)
    parser.add_argument("--rate", type=float, default=100, help="operations a second, of `rate`")
    parser.add_argument("--runs", type=int, default=1, help="runs at once, of `rate`")
    options = parser.parse_args()
    with PostgresServer(durable=True) as server:
        server.make_template()
        if options.what == "rate":
            rate(server, options.devices, options.rate, options.runs)
        else:
            {"load": load, "workers": workers, "copy": copy, "gate": gate}[options.what](server, options.devices)
    return 0


if __name__ == "__main__":
    sys.exit(main())
