from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from fleetops.cli.app import app
from fleetops.sandbox import SandboxConfig, sandbox_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetops.sandbox import Sandbox

TOKEN = "t0ken-that-must-not-be-seen"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Terminal:
    """A directory of its own, and a sandbox to talk to; not a terminal as far as the commands can tell."""

    def __init__(self, folder: Path, base_url: str, sandbox: Sandbox) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.environment = {
            "FLEETOPS_BASE_URL": base_url,
            "FLEETOPS_TOKEN": TOKEN,
            "FLEETOPS_STATE_DIR": str(folder / "state"),
            "COLUMNS": "100",
        }

    def __call__(self, *words: str, stdin: str | None = None) -> Ended:
        done = CliRunner().invoke(app, list(words), input=stdin, env=self.environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ended(done.exit_code, done.stdout, done.stderr)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def manifest(self, devices: int = 3, operation: str = "reboot") -> str:
        rows = "".join(f"ZQ{number:09},{operation}\n" for number in range(1, devices + 1))
        return self.write("manifest.csv", f"serial_number,operation\n{rows}")

    def run_id(self) -> str:
        """The newest run."""
        return max(path.stem for path in (self.folder / "state" / "runs").glob("*.db"))

    def everything_written(self) -> bytes:
        """The bytes of every file that is there."""
        return b"".join(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in [name for name in os.environ if name.startswith("FLEETOPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with sandbox_thread(SandboxConfig(devices=100, token=TOKEN)) as (base_url, sandbox):
        yield Terminal(tmp_path, base_url, sandbox)
