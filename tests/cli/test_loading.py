"""What is loaded for a command, and when garbage is looked for."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

from fleetops.cli.loading import begin_work

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def in_a_process(state: Path, *arguments: str) -> str:
    """What the collector is like when a command has ended: whether it is on, and whether anything is left out of it."""
    script = (
        "import atexit, gc, os, sys\nimport fleetops.cli as cli\n"
        "atexit.register(lambda: os.write(2, f'{gc.isenabled()} {gc.get_freeze_count() > 10_000}'.encode()))\n"
        f"os.environ['FLEETOPS_STATE_DIR'] = {str(state)!r}\nsys.argv = {['fleetops', *arguments]!r}\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stderr


def test_a_command_works_with_the_collector_on(tmp_path: Path) -> None:
    assert in_a_process(tmp_path, "runs").endswith("True True")


def test_help_needs_no_collector(tmp_path: Path) -> None:
    assert in_a_process(tmp_path, "--help").endswith("False True")


def test_the_collector_of_a_program_that_calls_a_command_is_left_alone() -> None:
    before = gc.get_freeze_count()
    begin_work(["errors"])
    assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_work_begins_with_what_is_needed_loaded_and_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    monkeypatch.delitem(sys.modules, "fleetops.report.cells", raising=False)
    gc.disable()
    try:
        begin_work(["report.cells"])
        assert gc.isenabled()
    finally:
        gc.enable()
    assert frozen == [False]
    assert "fleetops.report.cells" in sys.modules
