from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from fleetops.cli import watching
from fleetops.cli.watching import Watching
from tests.report.test_metrics import Standing, read

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def gone(_: Any) -> None:
    raise BrokenPipeError


async def look_on(watch: Watching) -> None:
    with anyio.move_on_after(0.1):
        await watch.show(Standing())  # type: ignore[arg-type]  # a run, as far as it is looked at


def test_a_terminal_that_has_gone_leaves_the_metrics_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_progress", lambda: gone)
    path = tmp_path / "m.prom"
    anyio.run(look_on, Watching(False, path, kept=()))
    assert read(path)["fleetops_run_running"] == 1


def test_the_metrics_tell_of_a_run_that_its_host_has_let_down(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    watch = Watching(True, path, kept=())
    anyio.run(look_on, watch)
    watch.end_badly()
    assert read(path)["fleetops_run_exit_code"] == 7


def test_who_wants_nothing_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watching(True, None, kept=())
    watch.begin("20260102-030405-6f7a", "")
    anyio.run(look_on, watch)
    watch.end_badly()
    assert watch.tell is None
    assert capsys.readouterr() == ("", "")
