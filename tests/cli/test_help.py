"""What people see before they have read anything: help, and what their shell completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fleetops.cli.app import app
from fleetops.cli.options import known_runs
from fleetops.cli.usage import HOME

COMMANDS = tuple(HOME)
RUNS = ("20260102-030405-6f7a", "20260203-040506-aaaa")


def state_with_runs(folder: Path) -> str:
    (folder / "state/runs").mkdir(parents=True)
    for run_id in RUNS:
        (folder / f"state/runs/{run_id}.db").touch()
    return str(folder / "state")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_into_80_columns_and_ends_with_an_example(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert ("Example" if command else "Exit codes") in done.stdout


def test_every_command_is_listed_with_the_module_that_has_it() -> None:
    homes: dict[str, str] = {}
    for module in dict.fromkeys(HOME.values()):
        part = typer.Typer()
        import_module(f"fleetops.cli.{module}").register(part)
        homes |= dict.fromkeys(typer.main.get_group(part).commands, module)
    assert homes == HOME


def test_a_command_loads_no_other_one() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom fleetops.cli.app import app\n"
        "assert CliRunner().invoke(app, ['schema', 'manifest']).exit_code == 0\n"
        "print(sorted(name for name in ('run', 'look', 'operate', 'serve') if f'fleetops.cli.{name}' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_no_run_is_completed_where_they_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("not a folder")
    monkeypatch.setenv("FLEETOPS_STATE_DIR", str(tmp_path))
    assert known_runs("2026") == []


def test_help_loads_nothing_that_takes_long() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom fleetops.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(sorted({'pandas', 'httpx', 'pydantic', 'rich', 'fleetops.policy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_completing_a_run_loads_neither_pandas_nor_the_http_client() -> None:
    script = (
        "import sys\nfrom fleetops.cli.app import app\nfrom fleetops.cli.options import known_runs\nknown_runs('')\n"
        "print(sorted({'pandas', 'httpx', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_and_runs(tmp_path: Path) -> None:
    script = """
        eval "$(fleetops --show-completion bash)"
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fleetops_completion fleetops; echo "${COMPREPLY[*]}"; }
        ask fleetops res
        ask fleetops status 20260102
        ask fleetops report ''
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FLEETOPS_STATE_DIR": state_with_runs(tmp_path), "SHELL": "/bin/bash"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    resume, status, report = done.stdout.splitlines()
    assert resume == "resume"
    assert status == RUNS[0]
    assert sorted(report.split()) == sorted(RUNS)
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_the_runs_as_well(shell: str, tmp_path: Path) -> None:
    asked = {
        "_FLEETOPS_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "fleetops status 2026",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "FLEETOPS_STATE_DIR": state_with_runs(tmp_path),
    }
    command = Path(sys.executable).with_name("fleetops")
    done = subprocess.run([command], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60)
    assert all(run in done.stdout for run in RUNS)
    assert done.stderr == ""
