"""Runs that go through to one control plane at the same time keep one rate together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fleetops.cluster.database import connected
from fleetops.cluster.follow import offer
from fleetops.cluster.submit import submit
from fleetops.policy import Policy
from tests.cluster.within import devices
from tests.crash.audit import busiest_second
from tests.crash.rig import end_of
from tests.journal.runs import RUN_ID, S, new_run

if TYPE_CHECKING:
    from tests.cluster.rig import ClusterRig

OTHER = "20260102-030405-0001"
_RATE = 60


def test_two_runs_on_two_workers_send_no_more_than_the_faster_one_asks_for(rig: ClusterRig) -> None:
    for run_id, first, rate in ((RUN_ID, 1, _RATE), (OTHER, 61, _RATE // 3)):
        policy = Policy.model_validate({"rate": f"{rate}/s", "concurrency": 30})
        steps = devices(60 if run_id == RUN_ID else 20, settle_ms=0, first=first)
        new = new_run(steps, policy, run_id=run_id, base_url=rig.sandbox.base_url)
        submit(rig.url, new, queue="default", devices_per_chunk=10, alongside=True)
        offer(rig.url, run_id)
    workers = [rig.start_worker("--until-idle") for _ in range(2)]
    assert [end_of(worker).code for worker in workers] == [0, 0]
    with connected(rig.url) as connection:
        sent = connection.execute("SELECT sent_ns, run_id, kind FROM attempt ORDER BY sent_ns").fetchall()
    assert Counter((run_id, kind) for _, run_id, kind in sent) == {(RUN_ID, "accepted"): 60, (OTHER, "accepted"): 20}
    assert busiest_second([sent_ns for sent_ns, *_ in sent]) <= _RATE + 1
    assert busiest_second([sent_ns for sent_ns, run_id, _ in sent if run_id == OTHER]) <= _RATE // 3 + 1
    both = [sent_ns for sent_ns, *_ in sent]
    began_ns = next(sent_ns for sent_ns, run_id, _ in sent if run_id == OTHER)
    assert any(run_id == RUN_ID for sent_ns, run_id, _ in sent if sent_ns > began_ns), "they went at once"
    assert (len(both) - 1) / ((both[-1] - both[0]) / S) < _RATE
