from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio

from fleetops.cli import progress
from fleetops.cli.log import LogFormat, log_as, one_log
from fleetops.cli.watching import Watching
from tests.report.journals import RUN_ID, make_journal, rows
from tests.report.test_metrics import Standing, read

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def watching(metrics_file: Path | None = None, *, quiet: bool = False, verbose: int = 0) -> Watching:
    return Watching(quiet=quiet, verbose=verbose, metrics_file=metrics_file, kept=())


def look_on(watch: Watching, folder: Path) -> None:
    """Have it look at a run for a moment."""
    state = make_journal(folder, rows(3)).state

    async def show() -> None:
        with anyio.move_on_after(0.2):
            await watch.show(Standing())  # type: ignore[arg-type]  # a run, as far as it is looked at

    watch.begin(state, RUN_ID, heed_window=True)
    anyio.run(show)


def gone(_: str) -> None:
    raise BrokenPipeError


def test_a_terminal_that_has_gone_leaves_the_metrics_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "say", gone)
    monkeypatch.setattr(progress, "_LOOK_S", 0.001)
    path = tmp_path / "m.prom"
    look_on(watching(path), tmp_path)
    assert read(path)["fleetops_run_running"] == 1


def test_the_metrics_tell_of_a_run_that_its_host_has_let_down(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    watch = watching(path, quiet=True)
    look_on(watch, tmp_path)
    watch.end_badly()
    assert read(path)["fleetops_run_exit_code"] == 7


def test_who_wants_nothing_is_told_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watching(quiet=True, verbose=2) as watch:
        assert watch.tell is None
        look_on(watch, tmp_path)
        watch.end_badly()
    assert capsys.readouterr() == ("", "")


def test_who_wants_more_is_told_of_steps_that_go_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"row": 1, "serial": "SN1", "operation": "sync"}
    with watching(verbose=1) as watch:
        assert watch.tell is not None
        watch.tell("info", "outcome", 0, {**step, "outcome": "accepted"})
        watch.tell("error", "outcome", 0, {**step, "outcome": "failed", "reason": "not_found"})
        look_on(watch, tmp_path)
    err = capsys.readouterr().err
    assert "SN1 sync: failed, not_found" in err
    assert "accepted" not in err


def test_all_of_a_log_is_written_also_of_a_run_that_is_over_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with one_log():
        log_as(LogFormat.JSON)
        with watching(quiet=True) as watch:
            watch.begin(make_journal(tmp_path, rows(1)).state, RUN_ID, heed_window=True)
            assert watch.tell is not None
            watch.tell("info", "attempt", 0, {"serial": "SN1"})
    assert json.loads(capsys.readouterr().err) == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "event": "attempt",
        "run_id": RUN_ID,
        "serial": "SN1",
    }
