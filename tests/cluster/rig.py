"""A campaign on workers, each a process of the installed command, against a sandbox and a database of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fleetops.cluster.database import connected
from tests.crash.audit import Attempt, JournalCopy, Step, audit, read_report, snapshot
from tests.crash.rig import FLEETOPS, Ended, Rig, end_of, kill

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.crash.audit import Arrival, Findings, Snapshot
    from tests.crash.rig import Sandbox

TOKEN: Final = "sandbox-token"
_LONGEST_S: Final = 60.0


class NotSoonError(Exception):
    """Something that was waited for did not come."""


@dataclass(slots=True)
class ClusterRig:
    """A campaign for workers, in a folder of its own.

    Attributes:
        folder: Where everything lies.
        sandbox: The control plane.
        url: The database.
        workers: The workers that were started, dead ones included.
        snapshots: How the journal was at moments in between.
    """

    folder: Path
    sandbox: Sandbox
    url: str
    workers: list[subprocess.Popen[str]] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    def write(self, *, devices: int, rate: int = 300, concurrency: int = 16) -> None:
        """Write the manifest, a sequence for each device, and the policy."""
        Rig(self.folder, self.sandbox).write(devices=devices, rate=rate, concurrency=concurrency)

    @property
    def report(self) -> Path:
        """Where the report is written."""
        return self.folder / "results.csv"

    def environment(self, *, token: bool = True, url: str | None = None) -> dict[str, str]:
        """What the commands are given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEETOPS_")}
        return {
            **kept,
            "FLEETOPS_STATE_DIR": str(self.folder / "state"),
            "FLEETOPS_BASE_URL": self.sandbox.base_url,
            "FLEETOPS_DATABASE_URL": url or self.url,
            **({"FLEETOPS_TOKEN": TOKEN} if token else {}),
        }

    def start(self, *arguments: str, token: bool = False, wrapper: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [*wrapper, FLEETOPS, *arguments],
            env=self.environment(token=token),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> Ended:
        """A command, to its end."""
        return end_of(self.start(*arguments))

    def start_worker(
        self, *arguments: str, wrapper: Sequence[str] = (), url: str | None = None
    ) -> subprocess.Popen[str]:
        """Start a worker; what it says goes into a file, so that a full pipe never stops it.

        Args:
            arguments: Of the command.
            wrapper: What runs the command.
            url: The database, where it reaches that by another address.
        """
        with (self.folder / f"worker{len(self.workers)}.log").open("w", encoding="utf-8") as log:
            worker = subprocess.Popen(
                [*wrapper, FLEETOPS, "worker", "--log-format=json", *arguments],
                env=self.environment(url=url),
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        self.workers.append(worker)
        return worker

    def log(self, worker: int) -> list[dict[str, Any]]:
        """What a worker has said."""
        lines = (self.folder / f"worker{worker}.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def submit(self, *arguments: str) -> str:
        """Start the campaign and leave it to the workers; the run's id."""
        manifest, policy = self.folder / "manifest.csv", self.folder / "policy.yaml"
        ended = self.command("run", str(manifest), f"--policy={policy}", "--yes", "--cluster", "--detach", *arguments)
        assert ended.code == 0, ended.stderr
        return ended.stdout.strip()

    def value(self, statement: str, *values: object) -> Any:
        """The first value of the first row that the database has; None where there is none."""
        with connected(self.url) as connection:
            row = connection.execute(statement, values).fetchone()
            return None if row is None else row[0]

    def wait_for(self, statement: str, *values: object, longest_s: float = _LONGEST_S) -> None:
        """Wait until the database says yes."""
        until_s = time.monotonic() + longest_s
        while not self.value(statement, *values):
            if time.monotonic() > until_s:
                said = [self.log(number)[-3:] for number in range(len(self.workers))]
                raise NotSoonError(f"{statement} {values} within {longest_s:g} s; the workers said {said}")
            time.sleep(0.05)

    def wait_for_end(self, run_id: str, longest_s: float = _LONGEST_S) -> None:
        """Wait until a run is over."""
        self.wait_for("SELECT ended_ns IS NOT NULL FROM run WHERE run_id = %s", run_id, longest_s=longest_s)

    def wait_for_answers(self, answers: int) -> None:
        """Wait until so many attempts were answered."""
        self.wait_for("SELECT count(answered_ns) >= %s FROM attempt", answers)

    def end_workers(self) -> None:
        """End the workers that are alive."""
        for worker in self.workers:
            if worker.poll() is None:
                kill(worker)

    def journal(self, run_id: str) -> JournalCopy:
        """What the database has of a run, as the audit reads it; each hold on a chunk is a process to it."""
        with connected(self.url) as connection:
            steps = connection.execute(
                "SELECT serial, operation, settle_ns FROM step JOIN device USING (run_id, chunk, device) "
                "WHERE run_id = %s ORDER BY step",
                (run_id,),
            ).fetchall()
            attempts = connection.execute(
                "SELECT step, attempt, epoch, intent_ns, sent_ns, answered_ns, kind, reason, operation_id "
                "FROM attempt WHERE run_id = %s ORDER BY step, attempt",
                (run_id,),
            ).fetchall()
            results = connection.execute("SELECT step, outcome FROM result WHERE run_id = %s", (run_id,)).fetchall()
        # Several workers together may exceed it by one operation, or a hundredth.
        asked_per_s = self.value("SELECT asked_per_s FROM pace WHERE run_id = %s", run_id)
        rate_per_s = asked_per_s + max(1, asked_per_s // 100)
        return JournalCopy(
            [Step(*row) for row in steps], [Attempt(*row) for row in attempts], dict(results), rate_per_s
        )

    def take_snapshot(self, run_id: str) -> None:
        """Note what the database has of a run, and then how much had arrived."""
        journal = self.journal(run_id)
        self.snapshots.append(snapshot(journal, len(self.arrivals())))

    def arrivals(self) -> list[Arrival]:
        """What has arrived for the campaign."""
        return Rig(self.folder, self.sandbox).arrivals()

    def audit(self, run_id: str) -> Findings:
        """Audit a run that is over."""
        ended = self.command("report", run_id, f"--output={self.report}")
        assert ended.code == 0, ended.stderr
        return audit(self.arrivals(), self.journal(run_id), read_report(self.report), self.snapshots)
