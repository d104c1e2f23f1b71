"""Runs on workers as processes, to the end and beyond what becomes of a worker."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.cluster.rig import TOKEN
from tests.crash.rig import end_of

if TYPE_CHECKING:
    from tests.cluster.rig import ClusterRig


def test_two_workers_run_a_campaign_to_its_end_and_anyone_can_report_it(rig: ClusterRig) -> None:
    rig.write(devices=80, rate=100)
    rig.start_worker()
    rig.start_worker()
    rig.wait_for("SELECT count(*) = 2 FROM worker")
    policy = rig.folder / "policy.yaml"
    ended = rig.command(
        "run",
        "manifest.csv",
        f"--policy={policy}",
        "--yes",
        "--cluster",
        "--chunk-devices=5",
        f"--report={rig.report}",
    )
    assert ended.code == 0, ended.stderr
    with rig.report.open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 240
    assert {row["outcome"] for row in rows} == {"accepted"}
    run_id = rows[0]["run_id"]
    assert rig.audit(run_id).breaches == []
    assert rig.value("SELECT count(DISTINCT worker) FROM attempt") == 2
    status = json.loads(rig.command("status", run_id, "--format=json").stdout)
    assert status["state"] == "complete"
    assert [one["alive"] for one in status["workers"]] == [True, True]
    listed = json.loads(rig.command("runs", "--format=json").stdout)
    assert [(one["run_id"], one["state"], one["outcomes"]) for one in listed] == [
        (run_id, "complete", {"accepted": 240})
    ]


def test_the_token_is_the_workers_own_and_never_enters_the_database(rig: ClusterRig) -> None:
    rig.write(devices=20, rate=200)
    run_id = rig.submit()
    assert end_of(rig.start_worker("--until-idle")).code == 0
    dumped = subprocess.run(["pg_dump", "--inserts", rig.url], capture_output=True, check=True).stdout.decode()
    assert run_id in dumped
    assert TOKEN not in dumped


def test_a_worker_that_is_asked_to_end_gives_its_chunks_back_at_once(rig: ClusterRig) -> None:
    rig.write(devices=40, rate=60)
    first = rig.start_worker()
    run_id = rig.submit("--chunk-devices=10")
    rig.wait_for_answers(40)
    rig.start_worker()
    asked_s = time.monotonic()
    first.send_signal(signal.SIGTERM)
    assert end_of(first).code == 0
    assert time.monotonic() - asked_s < 5
    assert rig.value("SELECT count(*) FROM attempt WHERE answered_ns IS NULL AND worker = 1") == 0
    rig.wait_for_end(run_id)
    findings = rig.audit(run_id)
    assert findings.breaches == []
    assert rig.value("SELECT count(*) FROM attempt WHERE reason = 'crashed'") == 0


def test_the_chunks_of_a_worker_that_was_killed_go_on_elsewhere_once_its_lease_and_a_look_are_over(
    rig: ClusterRig,
) -> None:
    rig.write(devices=40, rate=60)
    first = rig.start_worker("--lease=3s")
    run_id = rig.submit("--chunk-devices=10")
    rig.wait_for_answers(40)
    first.kill()
    first.wait()
    rig.start_worker("--lease=3s")
    rig.wait_for("SELECT count(*) > 0 FROM attempt WHERE epoch > 1", longest_s=8)
    rig.wait_for_end(run_id)
    assert rig.audit(run_id).breaches == []
