"""The installed command and its sandbox as processes, to be killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.crash.audit import audit, read_arrivals, read_journal, read_report, snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.crash.audit import Arrival, Findings, JournalCopy, Snapshot

FLEETOPS: Final = str(Path(sys.executable).with_name("fleetops"))
SEQUENCE: Final = ("factory", "sync", "reconf")
FAULTS: Final = (
    "throttle=2%:0s",
    "unavailable=2%",
    "hang=1%",
    "close_after=1%",
    "close_before=0.5%",
    "gateway_timeout=0.5%",
    "reset=0.5%",
)
POLICY: Final = """
rate: {rate}/s
concurrency: {concurrency}
settle: {{factory: 300ms, sync: 150ms, reconf: 100ms}}
timeouts: {{connect: 400ms, read: 400ms}}
retries: {{attempts: 20, initial: 50ms, cap: 200ms, total: 5m}}
throttling: {{hold: 50ms, longest_hold: 200ms}}
breaker: {{failures: 5, hold: 50ms, longest_hold: 200ms}}
"""
_LIMITED: Final = """
import os, resource, sys
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
os.execv(sys.argv[2], sys.argv[2:])
"""
_LONGEST_S: Final = 60.0


class RigError(Exception):
    """Something other than fleetops went wrong."""


class Sandbox:
    """A control plane, wherever it runs.

    Attributes:
        base_url: Its address.
        log: Its log.
    """

    def __init__(self, base_url: str, log: Path) -> None:
        self.base_url = base_url
        self.log = log

    def arrivals(self) -> int:
        """How many requests it has logged."""
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 16), b""))
        return 0


class SandboxProcess(Sandbox):
    """A sandbox in a process of its own, on one port for all its lives."""

    def __init__(
        self, log: Path, *, devices: int, seed: int = 1, faults: Sequence[str] = FAULTS, options: Sequence[str] = ()
    ) -> None:
        super().__init__("", log)
        self._arguments = [f"--devices={devices}", f"--seed={seed}", "--time-scale=0", f"--log={log}"]
        self._arguments += [*(f"--fault={fault}" for fault in faults), *options]
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        self._process = subprocess.Popen(
            [FLEETOPS, "sandbox", f"--port={self._port}", *self._arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\S+?(?=,)", line)
        if found is None:
            raise RigError(f"the sandbox did not start: {line}{self._process.stderr.read()}")
        self._port = int(found[1])
        self.base_url = found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code (negative: the signal that ended it) and what it printed."""

    code: int
    stdout: str
    stderr: str


@dataclass(slots=True)
class Rig:
    """A campaign against a sandbox, in a folder of its own.

    Attributes:
        folder: Where everything lies.
        sandbox: The control plane.
        options: What the command is given besides when it resumes.
        earlier: What had arrived for the campaign elsewhere, before.
        snapshots: How the journal was at moments between processes.
        environment: Variables for the command on top of the usual ones.
    """

    folder: Path
    sandbox: Sandbox
    options: Sequence[str] = ()
    earlier: Sequence[Arrival] = ()
    snapshots: list[Snapshot] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, *, devices: int, rate: int = 300, concurrency: int = 16) -> None:
        """Write the manifest, a sequence for each device, and the policy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [f"ZQ{device:09},{operation}\n" for operation in SEQUENCE for device in range(1, devices + 1)]
        self._file("manifest.csv").write_text("serial_number,operation\n" + "".join(rows), encoding="utf-8")
        self._file("policy.yaml").write_text(POLICY.format(rate=rate, concurrency=concurrency), encoding="utf-8")

    def _file(self, name: str) -> Path:
        return self.folder / name

    @property
    def report(self) -> Path:
        """Where the report is written."""
        return self.folder / "results.csv"

    @property
    def runs(self) -> Path:
        """Where the journals are."""
        return self.folder / "state" / "runs"

    @property
    def journal(self) -> Path:
        """The run's journal."""
        (path,) = self.runs.glob("*.db")
        return path

    @property
    def started(self) -> bool:
        """Whether there is a run to resume."""
        return any(self.runs.glob("*.db"))

    def run_arguments(self) -> list[str]:
        """The command that starts the campaign."""
        manifest, policy = self._file("manifest.csv"), self._file("policy.yaml")
        return ["run", str(manifest), f"--policy={policy}", "--yes", "--quiet", f"--report={self.report}"]

    def resume_arguments(self) -> list[str]:
        """The command that goes on with it."""
        return ["resume", self.journal.stem, "--quiet", f"--report={self.report}", *self.options]

    def start(
        self, arguments: Sequence[str] | None = None, *, longest_file: int | None = None
    ) -> subprocess.Popen[str]:
        """Start a command: the run's first, or the one that goes on with it.

        Args:
            arguments: Of another command.
            longest_file: How long any file may become, in bytes.
        """
        given = arguments or (self.resume_arguments() if self.started else self.run_arguments())
        limited = [] if longest_file is None else [sys.executable, "-c", _LIMITED, str(longest_file)]
        return subprocess.Popen(
            [*limited, FLEETOPS, *given],
            env=self._variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self) -> Ended:
        """The run's next command, to its end."""
        return end_of(self.start())

    def wait_for_arrivals(self, process: subprocess.Popen[str], more: int, *, longest_s: float = 20.0) -> None:
        """Wait until so many more requests have arrived, or the process has ended."""
        wanted, until_s = self.sandbox.arrivals() + more, time.monotonic() + longest_s
        while self.sandbox.arrivals() < wanted and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.01)

    def arrivals(self) -> list[Arrival]:
        """What has arrived for the campaign."""
        return [*self.earlier, *read_arrivals(self.sandbox.log)]

    def take_snapshot(self) -> None:
        """Note how far the journal is, when no process drives the run."""
        self.snapshots.append(snapshot(self.read_journal(), len(self.arrivals())))

    def audit(self) -> Findings:
        """Audit the campaign, which is done."""
        return audit(self.arrivals(), self.read_journal(), read_report(self.report), self.snapshots)

    def read_journal(self) -> JournalCopy:
        """What the journal holds, read from a copy so that nothing of it changes."""
        copy = self.folder / "copy.db"
        for suffix in ("", "-wal"):
            if Path(f"{self.journal}{suffix}").exists():
                shutil.copyfile(f"{self.journal}{suffix}", f"{copy}{suffix}")
        try:
            return read_journal(copy)
        finally:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{copy}{suffix}").unlink(missing_ok=True)

    def _variables(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "FLEETOPS_STATE_DIR": str(self.folder / "state"),
            "FLEETOPS_BASE_URL": self.sandbox.base_url,
            "FLEETOPS_TOKEN": "sandbox-token",
            **self.environment,
        }


def end_of(process: subprocess.Popen[str]) -> Ended:
    """How a process ends.

    Raises:
        RigError: It does not.
    """
    try:
        stdout, stderr = process.communicate(timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise RigError(f"{process.args!r} did not end within {_LONGEST_S:g} s: {stderr}") from None
    return Ended(process.returncode, stdout, stderr)


def kill(process: subprocess.Popen[Any], number: int = signal.SIGKILL) -> bool:
    """Send a signal and wait for the end; whether the process was alive to be sent it."""
    alive = process.poll() is None
    if alive:
        process.send_signal(number)
    end_of(process)
    return alive and process.returncode == -number
