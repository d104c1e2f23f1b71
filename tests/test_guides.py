"""The Python on the pages of the site runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fleetops.sandbox import SandboxConfig, parse_fault, sandbox_thread

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SEVERAL_HOSTS = "## On several hosts"
PAGES = sorted(page.name for page in DOCS.glob("*.md") if BLOCK.search(page.read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_from_above_to_below(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"ZQ{number:09},sync\n" for number in range(1, 11))
    (tmp_path / "night.csv").write_text(f"serial_number,operation\n{rows}")
    (tmp_path / "night-policy.yaml").write_text("rate: 50/s\nsettle: {sync: 0}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETOPS_STATE_DIR", str(tmp_path / "state"))
    known: dict[str, Any] = {"__name__": "page"}
    with sandbox_thread(SandboxConfig(devices=20, faults=(parse_fault("not_found@ZQ000000003"),))) as (base_url, _):
        monkeypatch.setenv("FLEETOPS_BASE_URL", base_url)
        monkeypatch.setenv("FLEETOPS_TOKEN", "sandbox-token")
        for block in BLOCK.findall((DOCS / page).read_text().partition(SEVERAL_HOSTS)[0]):
            exec(compile(block, page, "exec"), known)
    shown = capsys.readouterr().out
    assert shown
    if page == "python.md":
        assert "10 devices, 10 steps" in shown
        assert known["failed"] == [("ZQ000000003", "sync", "not_found")]
        assert "ZQ000000003 sync not_found Not found." in shown
        assert (tmp_path / "run.html").exists()
        assert "ZQ000000003" in (tmp_path / "again.csv").read_text()


def test_the_python_for_several_hosts_runs_from_above_to_below(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"ZQ{number:09},sync\n" for number in range(1, 11))
    (tmp_path / "night.csv").write_text(f"serial_number,operation\n{rows}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETOPS_DATABASE_URL", database)
    blocks = BLOCK.findall((DOCS / "python.md").read_text().partition(SEVERAL_HOSTS)[2])
    known: dict[str, Any] = {"__name__": "page"}
    with sandbox_thread(SandboxConfig(devices=20)) as (base_url, _):
        monkeypatch.setenv("FLEETOPS_BASE_URL", base_url)
        monkeypatch.setenv("FLEETOPS_TOKEN", "sandbox-token")
        for block in blocks:
            exec(compile(block, "python.md", "exec"), known)
    shown = capsys.readouterr().out
    assert "0 of 10 steps, 0 workers are there" in shown
    assert "OK {<Outcome.ACCEPTED: 'accepted'>: 10," in shown
    assert len(blocks) == 2


def test_there_are_pages_with_python() -> None:
    assert {"planning.md", "python.md"} <= set(PAGES)
