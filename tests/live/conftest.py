from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fleetops.journal import StateDir
from fleetops.sandbox import SandboxConfig, sandbox_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetops.sandbox import Sandbox

TOKEN = "t0ken-that-must-not-be-seen"
MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Night:
    """A campaign, run by other processes against a sandbox in this one."""

    folder: Path
    sandbox: Sandbox
    environment: dict[str, str]

    @property
    def state(self) -> StateDir:
        return StateDir(self.folder / "state")

    def fleetops(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fleetops", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def run(self, devices: int, *options: str, note: str = "") -> Iterator[str]:
        """A run that goes on in a process of its own until the sandbox has answered all of it: its id."""
        rows = "".join(f"ZQ{number:09},sync,{note}\n" for number in range(1, devices + 1))
        (self.folder / "night.csv").write_text(f"serial_number,operation,note\n{rows}")
        process = self.fleetops("run", "night.csv", "--quiet", *options)
        try:
            yield self._begun(process)
        finally:
            process.terminate()
            process.communicate(timeout=20)

    def _begun(self, process: subprocess.Popen[str]) -> str:
        until_s = time.monotonic() + 20
        while not (found := sorted((self.folder / "state" / "runs").glob("*.db"))):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < until_s
            time.sleep(0.02)
        return found[-1].stem

    def finished(self, devices: int, *options: str, note: str = "") -> str:
        with self.run(devices, *options, note=note) as run_id:
            until_s = time.monotonic() + 20
            while self.state.is_live(run_id):
                assert time.monotonic() < until_s
                time.sleep(0.02)
        return run_id


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEETOPS_")}
    with sandbox_thread(SandboxConfig(devices=500, token=TOKEN)) as (base_url, sandbox):
        given = {
            "FLEETOPS_BASE_URL": base_url,
            "FLEETOPS_TOKEN": TOKEN,
            "FLEETOPS_STATE_DIR": str(tmp_path / "state"),
        }
        yield Night(tmp_path, sandbox, kept | given)
