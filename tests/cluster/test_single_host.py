"""Whoever needs no database loads nothing of what it takes to use one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FLEETOPS = str(Path(sys.executable).with_name("fleetops"))
_SCRIPT = """
import sys
import fleetops.cli as cli
sys.argv = ["fleetops", *sys.argv[1:]]
try:
    cli.main()
except SystemExit:
    pass
names = {name.partition(".")[0] for name in sys.modules} | {name for name in sys.modules if name == "fleetops.cluster"}
print(sorted(names & {"psycopg", "psycopg_pool", "procrastinate", "yoyo", "fleetops.cluster"}), file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["runs"], ["run", "m.csv", "--yes", "--rate=50/s"], ["--help"], ["worker"]])
def test_a_run_on_one_host_imports_nothing_of_the_cluster(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("serial_number,operation\nZQ000000001,reboot\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETOPS_", "COV_"))}
    environment |= {"FLEETOPS_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [FLEETOPS, "sandbox", "--", sys.executable, "-c", _SCRIPT, *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "[]" in done.stderr, done.stderr


def test_the_python_api_loads_nothing_of_the_cluster_for_a_run_on_one_host(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("serial_number,operation\nZQ000000001,sync\n")
    script = (
        "import sys\nfrom fleetops import api\n"
        "result = api.run(api.validate('m.csv', options={'settle': {'sync': 0}}))\napi.report(result.run_id)\n"
        "names = ('fleetops.cluster', 'psycopg', 'procrastinate', 'yoyo')\n"
        "print([one for one in sys.modules if one.startswith(names)])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETOPS_", "COV_"))}
    done = subprocess.run(
        [FLEETOPS, "sandbox", "--", sys.executable, "-c", script],
        env=environment | {"FLEETOPS_STATE_DIR": str(tmp_path / "state")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_a_command_for_workers_says_what_is_missing_where_no_database_is_named(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETOPS_")}
    done = subprocess.run([FLEETOPS, "worker"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "there is no FLEETOPS_DATABASE_URL in the environment" in done.stderr


def test_where_the_extra_is_not_installed_that_is_said(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['procrastinate'] = None\nimport fleetops.cli as cli\n"
        "sys.argv = ['fleetops', 'runs']\ncli.main()"
    )
    environment = {**os.environ, "FLEETOPS_DATABASE_URL": "postgresql:///none", "FLEETOPS_STATE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert 'pip install "fleetops[cluster]"' in done.stderr
