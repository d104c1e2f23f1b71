"""The command line, with a database named."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from fleetops.cli.app import app
from fleetops.cli.cluster import look_on
from fleetops.cluster import follow
from fleetops.cluster.state import ClusterState
from fleetops.errors import JournalError, UsageError
from fleetops.live.follow import Follower
from fleetops.sandbox import SandboxConfig, sandbox_thread
from tests.cluster.kept import do
from tests.cluster.within import Fleet, devices
from tests.journal.runs import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetops.events import RunStatus


class Shell:
    """Commands in a folder of their own."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self.folder = folder
        self.fleet = fleet
        self.environment = {
            "FLEETOPS_DATABASE_URL": fleet.url,
            "FLEETOPS_BASE_URL": fleet.base_url,
            "FLEETOPS_STATE_DIR": str(folder / "state"),
            "COLUMNS": "100",
        }

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(app, list(words), env=self.environment)

    def manifest(self, count: int) -> str:
        path = self.folder / "night.csv"
        rows = "".join(f"ZQ{number:09},sync\n" for number in range(1, count + 1))
        path.write_text(f"serial_number,operation\n{rows}")
        return str(path)


@pytest.fixture
def shell(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in [name for name in os.environ if name.startswith("FLEETOPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with sandbox_thread(SandboxConfig(devices=50)) as (base_url, _):
        made = Shell(tmp_path, Fleet(database, base_url))
        monkeypatch.setenv("FLEETOPS_DATABASE_URL", database)
        yield made


def test_a_run_is_left_to_workers_without_a_token_and_looked_at_until_it_is_over(shell: Shell) -> None:
    done = shell("run", shell.manifest(10), "--cluster", "--detach", "--rate=100/s", "--settle=10ms")
    assert done.exit_code == 0, done.stderr
    run_id = done.stdout.strip()
    assert "10 devices, 10 steps, 1 chunk, queue default" in done.stderr
    seen: list[bool] = []
    shell.fleet.work(lambda: seen.append(look_on(run_id, quiet=False)))
    assert seen == [True]
    listed = json.loads(shell("runs", "--format=json").stdout)
    assert [(one["run_id"], one["outcomes"]) for one in listed] == [(run_id, {"accepted": 10})]
    status = shell("status", run_id)
    assert "1 of 1 done, 0 being run" in status.stdout
    again = shell("resume", run_id, "--report=again.csv")
    assert again.exit_code == 0
    assert "nothing left to do" in again.stderr
    assert (shell.folder / "again.csv").read_text().count(",accepted,") == 10


def test_what_stops_a_run_is_said_by_each_command(shell: Shell) -> None:
    run_id = shell("run", shell.manifest(5), "--cluster", "--detach", "--format=json").stdout
    run_id = json.loads(run_id)["run_id"]
    assert "is paused" in shell("pause", run_id).stderr
    assert "was paused already" in shell("pause", run_id).stderr
    assert "goes on" in shell("continue", run_id).stderr
    assert "there is nothing to continue" in shell("continue", run_id).stderr
    assert "sends at most 7/s" in shell("rate", run_id, "7/s").stderr
    assert "no worker is there" in shell("status", run_id).stdout
    assert "has stopped" in shell("abort", run_id).stderr
    assert shell("abort", run_id).exit_code == 2
    late = shell("resume", run_id, "--offline=skip", "--detach")
    assert late.exit_code == 2
    assert "offline is heeded only where a run is started" in late.stderr
    resumed = shell("resume", run_id, "--rate=100/s", "--detach")
    assert resumed.stdout.strip() == run_id
    shell.fleet.work()
    assert shell.fleet.outcomes() == {"accepted": 5}
    assert shell.fleet.events() == ["paused", "continued", "rate", "resumed"]


def test_a_run_on_the_cluster_writes_no_metrics_here(shell: Shell) -> None:
    done = shell("run", shell.manifest(1), "--cluster", "--metrics-file=m.prom", "--detach")
    assert done.exit_code == 2
    assert "no metrics file" in done.stderr


def test_the_tables_are_there_already(shell: Shell) -> None:
    assert "up to date" in shell("database").stderr


def test_a_worker_needs_a_token(shell: Shell) -> None:
    done = shell("worker")
    assert done.exit_code == 2
    assert "token" in done.stderr


def test_whoever_looks_on_waits_for_a_database_that_is_away(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.fleet.submit(devices(2))
    do(shell.fleet.url, "UPDATE run SET ended_ns = 1")
    real, away = follow.glance, iter([True])

    def glance(url: str, run_id: str) -> RunStatus:
        if next(away, False):
            raise JournalError("away")
        return real(url, run_id)

    monkeypatch.setattr(follow, "glance", glance)
    assert look_on(RUN_ID, quiet=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("paused = true", "paused"),
        ("stop_reason = 'budget_spent'", "stopping: budget spent"),
        ("starts_ns = now_ns() + 1000000000000", "the maintenance window is closed"),
        ("waves = 3", "wave 1 of 3"),
        ("wave = 0", "no worker is there: start one with `fleetops worker`"),
    ],
)
def test_a_glance_says_what_a_run_waits_for(shell: Shell, change: str, said: str) -> None:
    shell.fleet.submit(devices(2))
    do(shell.fleet.url, f"UPDATE run SET {change}")
    assert said in follow.glance(shell.fleet.url, RUN_ID).text()


def test_there_has_to_be_such_a_run(shell: Shell) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        follow.glance(shell.fleet.url, RUN_ID)
    assert shell("pause", RUN_ID).exit_code == 2


def test_the_live_page_follows_a_run_of_the_database(shell: Shell) -> None:
    shell.fleet.submit(devices(3))
    follower = Follower(ClusterState(shell.folder, shell.fleet.url), RUN_ID)
    assert RUN_ID in follower.page()
    before = follower.version
    shell.fleet.work()
    follower.look()
    assert any("accepted" in message for message in follower.since(before))
