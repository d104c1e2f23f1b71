from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal


def test_runs_are_listed_newest_first_with_the_promised_keys(terminal: Terminal) -> None:
    assert json.loads(terminal("runs", "--format", "json").out) == []
    terminal("run", terminal.manifest(1), "--rate", "100/s", "--settle", "0")
    first = terminal.run_id()
    time.sleep(1)
    terminal("run", terminal.manifest(2), "--rate", "100/s")
    found = json.loads(terminal("runs", "--format", "json").out)
    assert [one["run_id"] for one in found] == [terminal.run_id(), first]
    keys = {"run_id", "state", "manifest", "started_at", "finished_at", "outcomes"}
    assert all(keys <= set(one) for one in found)
    assert found[0]["outcomes"] == {"accepted": 2}
    assert first in terminal("runs").out


def test_a_status_says_how_a_run_stands(terminal: Terminal) -> None:
    terminal("run", terminal.manifest(2), "--rate", "100/s")
    assert "complete" in terminal("status", terminal.run_id()).out
    facts = json.loads(terminal("status", terminal.run_id(), "--format", "json").out)
    assert facts["state"] == "complete"
    assert facts["outcomes"]["accepted"] == 2
    assert terminal("status", terminal.run_id(), "--watch").code == 0


@pytest.mark.parametrize("form", ["csv", "json", "junit", "manifest"])
def test_a_report_comes_in_every_format_at_any_time(terminal: Terminal, form: str) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000001")
    terminal("run", terminal.manifest(3), "--rate", "100/s")
    whole = terminal("report", terminal.run_id(), "--format", form)
    assert whole.code == 0
    assert "ZQ000000002" in whole.out
    failed = terminal("report", terminal.run_id(), "--format", form, "--outcome", "failed", "--output", "failed.txt")
    assert failed.code == 0
    assert failed.out == ""
    text = (terminal.folder / "failed.txt").read_text()
    assert "ZQ000000001" in text
    assert "ZQ000000002" not in text


def test_a_manifest_of_what_failed_runs_again(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000001")
    terminal("run", terminal.manifest(3), "--rate", "100/s")
    words = ["--format", "manifest", "--outcome", "failed,unknown,not_started", "--output", "again.csv"]
    terminal("report", terminal.run_id(), *words)
    terminal.sandbox.set_faults()
    assert terminal("run", "again.csv", "--rate", "100/s", "--report", "again.results.csv").code == 0
    assert [one.serial for one in terminal.sandbox.requests[3:]] == ["ZQ000000001"]


def test_what_is_not_known_is_refused_with_what_is(terminal: Terminal) -> None:
    terminal("run", terminal.manifest(1), "--rate", "100/s")
    ended = terminal("report", terminal.run_id(), "--format", "xml")
    assert ended.code == 2
    assert "junit" in ended.err
    ended = terminal("report", terminal.run_id(), "--outcome", "broken")
    assert ended.code == 2
    assert "accepted" in ended.err
    assert terminal("status", "20200101-000000-abcd").code == 2
    assert terminal("report", "x").code == 2


def test_a_live_run_is_paused_slowed_and_aborted_from_elsewhere(terminal: Terminal) -> None:
    manifest = terminal.manifest(100)

    def in_a_second(condition: object) -> None:
        deadline_s = time.monotonic() + 20
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    running = subprocess.Popen(
        [sys.executable, "-m", "fleetops", "run", manifest, "--rate", "10/s"],
        cwd=terminal.folder,
        env={**os.environ, **terminal.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    requests = terminal.sandbox.requests
    in_a_second(lambda: len(requests) >= 2)
    run_id = terminal.run_id()
    lines: list[str] = []
    assert running.stderr is not None
    reader = threading.Thread(target=lambda: lines.extend(running.stderr or []))
    reader.start()
    assert terminal("status", run_id).out.startswith(f"Run {run_id} (manifest): running")
    assert terminal("continue", run_id).code == 2
    assert "is paused; what is in flight finishes" in terminal("pause", run_id).err
    assert f"paused: by the operator; `fleetops continue {run_id}`" in terminal("status", run_id).out
    in_a_second(lambda: any("paused" in line for line in lines))
    paused_at = len(requests)
    time.sleep(0.5)
    assert len(requests) == paused_at
    assert "was paused already" in terminal("pause", run_id).err
    assert "sends at most 50/s" in terminal("rate", run_id, "50/s").err
    assert "goes on" in terminal("continue", run_id).err
    assert "; 50/s asked for" in terminal("status", run_id).out
    in_a_second(lambda: len(requests) > paused_at + 5)
    assert "has stopped" in terminal("abort", run_id).err
    assert running.wait(timeout=20) == 4
    reader.join(timeout=20)
    running.stderr.close()
    assert len(requests) < 100
    assert terminal("pause", run_id).code == 2
    assert terminal("rate", run_id, "fast").code == 2
    assert terminal("resume", run_id, "--rate", "500/s").code == 0


def test_unknown_steps_are_reconciled_with_the_inventory(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("close_after@ZQ000000001", "close_before@ZQ000000002")
    assert terminal("run", terminal.manifest(3), "--rate", "100/s").code == 5
    time.sleep(1.2)  # the sandbox's devices take a second to come back
    ended = terminal("reconcile", terminal.run_id())
    assert "ZQ000000001 reboot: confirmed" in ended.out
    assert "ZQ000000002 reboot: unknown" in ended.out
    assert ended.code == 5
    rows = terminal("report", terminal.run_id()).out.splitlines()
    assert "it went down and came back" in rows[1]
    assert "no change since; " in rows[2]
    assert terminal("reconcile", terminal.run_id(), "--serial", "ZQ000000003").code == 2
    ended = terminal("reconcile", terminal.run_id(), "--assume", "not-executed", "--format", "json")
    assert [found["outcome"] for found in json.loads(ended.out)] == ["failed"]
    assert ended.code == 1
    assert terminal("reconcile", terminal.run_id()).out == "no step is unknown\n"
    assert terminal("reconcile", terminal.run_id(), "--assume", "perhaps").code == 2


def test_the_inventory_becomes_a_manifest(terminal: Terminal) -> None:
    terminal.sandbox.set_device("ZQ000000001", up=False)
    ended = terminal("inventory", "--status", "up", "--organization", "2", "--operation", "sync", "--output", "i.csv")
    assert ended.code == 0
    assert "19 devices" in ended.err
    assert terminal("validate", "i.csv").code == 0
    assert terminal("inventory", "--limit", "2").out.count("\n") == 3
    for words in (["--operation", "explode"], ["--status", "sideways"], ["--changed-from", "soon"]):
        assert terminal("inventory", *words).code == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["20200101-000000-abcd", "--serve"], 2, "there is no run"),
        (["20200101-000000-abcd", "8090"], 2, "add --serve"),
        (["20200101-000000-abcd", "--serve", "99999"], 2, "65535"),
    ],
)
def test_a_page_that_cannot_be_served_is_refused_in_words(
    terminal: Terminal, words: list[str], code: int, said: str
) -> None:
    ended = terminal("status", *words)
    assert ended.code == code
    assert said in ended.err
    assert ended.out == ""


def test_a_taken_port_is_an_error_of_this_host(terminal: Terminal) -> None:
    terminal("run", terminal.manifest(1), "--rate", "100/s")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = terminal("status", terminal.run_id(), "--serve", str(taken.getsockname()[1]))
    assert ended.code == 7
    assert "name another port" in ended.err
