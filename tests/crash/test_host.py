"""What a host does to a run besides killing it. The scenarios are played two at a time, since each mostly waits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fleetops.sandbox import SandboxConfig, sandbox_thread
from tests.crash.kills import DONE, play
from tests.crash.rig import Rig, Sandbox, end_of, kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_STEPPED_CLOCK = """
import os, time
_offset_ns = int(os.environ.get("STEPPED_BY_S", "0")) * 1_000_000_000
_time_ns = time.time_ns
time.time_ns = lambda: _time_ns() + _offset_ns
time.time = lambda: time.time_ns() / 1e9
"""


@contextmanager
def state_on_small_disk(rig: Rig) -> Iterator[Path]:
    """The state directory on a disk of six megabytes of its own."""
    place, state = rig.folder / "disk", rig.folder / "state"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", place], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {made.stderr.decode().strip()}")
    try:
        shutil.copytree(state, place / "state")
        shutil.rmtree(state)
        state.symlink_to(place / "state")
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def goes_on(rig: Rig) -> None:
    """What is left is done, and nothing was done twice."""
    ended = rig.command()
    assert ended.code in DONE, ended.stderr
    assert rig.audit().breaches == []


def a_journal_that_may_not_grow_ends_the_run_and_it_can_be_resumed(rig: Rig) -> None:
    wal = rig.journal.with_name(f"{rig.journal.name}-wal")
    ended = end_of(rig.start(longest_file=wal.stat().st_size + 50_000))
    assert ended.code == 7, ended.stderr
    assert "the journal cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
    rig.take_snapshot()
    goes_on(rig)


def a_full_disk_ends_the_run_and_it_can_be_resumed_once_there_is_room(rig: Rig) -> None:
    with state_on_small_disk(rig) as disk:
        stat = os.statvfs(disk)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(stat.f_bavail * stat.f_frsize - 60_000))
        ended = rig.command()
        assert ended.code == 7, ended.stderr
        assert "the journal cannot be written" in ended.stderr
        assert "Traceback" not in ended.stderr
        rig.take_snapshot()
        ballast.unlink()
        goes_on(rig)


def a_journal_on_a_read_only_disk_is_refused_before_anything_is_sent(rig: Rig) -> None:
    with state_on_small_disk(rig) as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        ended = rig.command()
    assert ended.code == 7, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "FLEETOPS_STATE_DIR" in ended.stderr


def a_wall_clock_that_was_stepped_between_processes_changes_nothing(rig: Rig) -> None:
    (rig.folder / "sitecustomize.py").write_text(_STEPPED_CLOCK, encoding="utf-8")
    rig.environment |= {"PYTHONPATH": str(rig.folder), "STEPPED_BY_S": "-3600"}
    process = rig.start()
    rig.wait_for_arrivals(process, 20)
    assert kill(process)
    rig.take_snapshot()
    rig.environment["STEPPED_BY_S"] = "86400"
    goes_on(rig)


def an_interrupted_run_goes_on_in_one_process_where_two_resume_it_at_once(rig: Rig) -> None:
    process = rig.start()
    rig.wait_for_arrivals(process, 20)
    process.send_signal(signal.SIGINT)
    assert end_of(process).code == 130
    rig.take_snapshot()
    endeds = list(map(end_of, [rig.start(), rig.start()]))
    assert any(ended.code in DONE for ended in endeds), endeds
    for ended in endeds:
        assert ended.code in DONE or (ended.code == 7 and "driven by another process" in ended.stderr), ended.stderr
    assert rig.audit().breaches == []


def killed_again_and_again_with_its_service_killed_as_well_it_sends_no_answered_step_again(rig: Rig) -> None:
    played = play(rig.folder / "another", seed=1, devices=60, kills=2, sandbox_kills=1)
    assert played.breaches == [], f"seed {played.seed}"
    assert (played.figures.kills, played.figures.sandbox_kills) == (2, 1)


SCENARIOS = (
    a_journal_that_may_not_grow_ends_the_run_and_it_can_be_resumed,
    a_full_disk_ends_the_run_and_it_can_be_resumed_once_there_is_room,
    a_journal_on_a_read_only_disk_is_refused_before_anything_is_sent,
    a_wall_clock_that_was_stepped_between_processes_changes_nothing,
    an_interrupted_run_goes_on_in_one_process_where_two_resume_it_at_once,
    killed_again_and_again_with_its_service_killed_as_well_it_sends_no_answered_step_again,
)


def _play(scenario: Callable[[Rig], None], killed: Rig, folder: Path) -> None:
    """A scenario on a copy of the killed campaign, with a sandbox of its own; SQLite makes its -shm file anew."""
    shutil.copytree(killed.folder, folder, ignore=shutil.ignore_patterns("*-shm"))
    config = SandboxConfig(log=folder / "requests.jsonl")
    with sandbox_thread(config) as (base_url, _):
        options = [f"--base-url={base_url}"]
        scenario(
            Rig(folder, Sandbox(base_url, folder / "requests.jsonl"), options, killed.earlier, killed.snapshots[:])
        )


@pytest.fixture(scope="module")
def played(killed: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Future[None]]]:
    base = tmp_path_factory.mktemp("host")
    with ThreadPoolExecutor(2) as pool:
        yield [pool.submit(_play, scenario, killed, base / f"{n}") for n, scenario in enumerate(SCENARIOS)]


@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=[scenario.__name__ for scenario in SCENARIOS])
def test_a_run_survives_its_host(number: int, played: list[Future[None]]) -> None:
    played[number].result()
