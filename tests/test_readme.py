"""What the README and the guides show is what happens."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from fleetops.errors import ExitCode

ROOT = Path(__file__).parents[1]
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
VARYING = (
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}"), "RUN_ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"took +\S+"), "took"),
    (re.compile(r"TIME,\d+\.\d+,"), "TIME,SECONDS,"),
)
PAGES = ("README.md", "docs/start.md", "docs/operating.md")
EXIT_CODES = {"broken.csv": 3, "--fault": 5}
"""What is in a command that does not end with 0, and with what it ends."""


def examples(page: str) -> list[tuple[str, list[str]]]:
    """The commands of a page in order, each with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in CONSOLE.findall((ROOT / page).read_text()):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def settled(text: str) -> str:
    """Text without what differs from one time to the next."""
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return text


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETOPS_", "COV_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "FLEETOPS_STATE_DIR": str(tmp_path / "state")}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_print_what_is_shown(page: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sample_manifests", tmp_path / "sample_manifests")
    commands = [example for example in examples(page) if not example[0].startswith("make")]
    assert len(commands) >= 4
    with ThreadPoolExecutor() as pool:
        going: list[Future[None]] = []
        for number, (command, lines) in enumerate(commands):
            if command.startswith("fleetops sandbox"):
                # A run waits more than it works, and has a sandbox of its own: what follows on it can wait for it.
                going.append(pool.submit(check, command, lines, tmp_path, f"state-{number}"))
                continue
            while going:
                going.pop().result()
            check(command, lines, tmp_path, "state")
        while going:
            going.pop().result()


def check(command: str, lines: list[str], folder: Path, state: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment(folder) | {"FLEETOPS_STATE_DIR": str(folder / state)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    expected = next((code for word, code in EXIT_CODES.items() if word in command), 0)
    assert done.returncode == expected, done.stderr
    printed = settled(done.stdout + done.stderr).splitlines()
    for line in lines:
        assert line == "..." or settled(line) in printed, f"{command} does not print {line!r}, but {printed}"


def test_make_demo_ends_with_a_report_of_every_step(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("sample_manifests", "Makefile", "requirements.lock", "pyproject.toml"):
        source = ROOT / name
        shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy2(source, copy / name)
    # The environment is there already: setting one up takes a minute and the network.
    (copy / ".venv").mkdir()
    (copy / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (copy / ".venv/.ready").touch()
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "demo"], cwd=copy, env=environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = (copy / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 120
    assert sum(",accepted," in row for row in rows) == 120


def test_the_test_command_of_the_readme_is_the_one_of_the_makefile() -> None:
    commands = [command for command, _ in examples("README.md") if command.startswith("make")]
    assert commands == ["make demo", "make test"]
    assert re.search(r"^test: .*\n\t.*pytest", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "page", ["README.md", "ARCHITECTURE.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_every_file_that_a_page_links_to_is_there(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text())
    written = [f"generated/{name}.md" for name in runpy.run_path(str(ROOT / "docs/reference.py"))["PAGES"]]
    missing = [
        link
        for link in links
        if not link.startswith("http")
        and not (ROOT / page).parent.joinpath(link).exists()
        and not (page.startswith("docs/") and link in written)
    ]
    assert missing == []


def test_the_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    shown = dict(re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert shown == {str(int(code)): code.meaning for code in ExitCode}
