"""A command, run on the client's core, and what it took."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.speed.services import CLIENT_CORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Took:
    """What a command took, from its start to its end.

    Attributes:
        wall_s: Time.
        cpu_s: Processor time, in user and system mode.
        peak_mb: The most memory resident at once, in megabytes.
        printed: What it wrote to standard output.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    printed: str


def measured(
    command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, *, pinned: bool = True
) -> Took:
    """Run a command to its end.

    Raises:
        RuntimeError: It failed.
    """
    out, err = folder / "stdout", folder / "stderr"
    pin = ["taskset", "-c", str(CLIENT_CORE)] if pinned else []
    with out.open("wb") as to, err.open("wb") as errors:
        began_s = time.perf_counter()
        process = subprocess.Popen([*pin, *command], stdout=to, stderr=errors, env={**os.environ, **(env or {})})
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {err.read_text()[-2000:]}")
    return Took(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read_text())
