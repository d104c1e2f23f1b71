from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetops.plan import Plan

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal

TOKEN = "t0ken-that-must-not-be-seen"


def report(terminal: Terminal, name: str = "results.csv") -> list[dict[str, str]]:
    with (terminal.folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def command(terminal: Terminal, *words: str) -> subprocess.Popen[str]:
    """A command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fleetops", *words],
        cwd=terminal.folder,
        env={**os.environ, **terminal.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_requests(terminal: Terminal, count: int) -> None:
    deadline_s = time.monotonic() + 30
    while len(terminal.sandbox.requests) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_run_sends_every_step_and_reports_it(terminal: Terminal) -> None:
    ended = terminal("run", terminal.manifest(5), "--rate", "200/s")
    assert ended.code == 0
    assert ended.out == ""
    assert "complete" in ended.err
    rows = report(terminal)
    assert [row["serial_number"] for row in rows] == [f"ZQ{number:09}" for number in range(1, 6)]
    assert {row["outcome"] for row in rows} == {"accepted"}
    assert len(terminal.sandbox.requests) == 5


def test_sequences_keep_their_order_and_the_settle_time(terminal: Terminal) -> None:
    manifest = terminal.write(
        "m.yaml",
        "sequences:\n  - devices: [ZQ000000001, ZQ000000002]\n    operations: [factory, sync, {reconf: {settle: 0}}]\n",
    )
    ended = terminal("run", manifest, "--rate", "200/s", "--settle", "150ms", "--yes")
    assert ended.code == 0
    for serial in ("ZQ000000001", "ZQ000000002"):
        received = [one for one in terminal.sandbox.requests if one.serial == serial]
        assert [one.operation for one in received] == ["factory", "sync", "reconf"]
        gaps = [after.at_ns - before.at_ns for before, after in pairwise(received)]
        assert min(gaps) >= 150_000_000


@pytest.mark.parametrize(
    ("faults", "code", "outcomes"),
    [
        (["not_found@ZQ000000001"], 1, {"failed", "accepted"}),
        (["close_after@ZQ000000001"], 5, {"unknown", "accepted"}),
        (["not_found@ZQ000000001", "bad_json@ZQ000000002"], 5, {"failed", "unknown", "accepted"}),
    ],
)
def test_the_exit_code_is_the_most_serious_that_applies(
    terminal: Terminal, faults: list[str], code: int, outcomes: set[str]
) -> None:
    terminal.sandbox.set_faults(*faults)
    assert terminal("run", terminal.manifest(3), "--rate", "200/s").code == code
    assert {row["outcome"] for row in report(terminal)} == outcomes


def test_a_wrong_token_stops_the_run_and_a_good_one_completes_it(terminal: Terminal) -> None:
    terminal.sandbox.set_token("another-token")
    ended = terminal("run", terminal.manifest(50), "--rate", "500/s", "--concurrency", "8")
    assert ended.code == 4
    assert len(terminal.sandbox.requests) <= 8
    assert "fleetops resume" in ended.err
    assert {(row["outcome"], row["reason"]) for row in report(terminal)} == {("not_started", "aborted")}
    terminal.sandbox.set_token(TOKEN)
    assert terminal("resume", terminal.run_id(), "--rate", "500/s").code == 0
    assert {row["outcome"] for row in report(terminal)} == {"accepted"}
    assert sum(received.processed for received in terminal.sandbox.requests) == 50


def test_a_device_that_the_token_may_not_touch_is_left_out_of_what_is_left_of_the_run(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("forbid@ZQ000000002")
    ended = terminal("run", terminal.manifest(4), "--rate", "100/s", "--concurrency", "1")
    assert ended.code == 4
    advice = next(line for line in ended.err.splitlines() if "--deny" in line)
    _, command, run_id, option, pattern = advice.split("goes")[0].split()
    assert (command, run_id, option) == ("resume", terminal.run_id(), "--deny")
    assert terminal("resume", run_id, "--offline", "skip").code == 2
    assert terminal("resume", run_id, option, pattern).code == 0
    assert [(row["outcome"], row["reason"]) for row in report(terminal)] == [
        ("accepted", ""),
        ("skipped", "excluded"),
        ("accepted", ""),
        ("accepted", ""),
    ]
    assert [received.serial for received in terminal.sandbox.requests].count("ZQ000000002") == 1


def test_a_redirect_stops_the_run(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("redirect=100%")
    ended = terminal("run", terminal.manifest(50), "--rate", "500/s", "--concurrency", "4")
    assert ended.code == 4
    assert len(terminal.sandbox.requests) <= 4
    assert "login.example" in ended.err


def test_ctrl_c_stops_sending_and_leaves_a_run_that_resume_completes(terminal: Terminal) -> None:
    running = command(terminal, "run", terminal.manifest(60), "--rate", "30/s")
    wait_for_requests(terminal, 5)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert f"fleetops resume {terminal.run_id()}" in err
    rows = report(terminal)
    assert len(rows) == 60
    assert {row["outcome"] for row in rows} == {"accepted", "not_started"}
    sent = len(terminal.sandbox.requests)
    assert sent < 60
    assert terminal("resume", terminal.run_id(), "--rate", "500/s").code == 0
    assert len(terminal.sandbox.requests) == 60


def test_a_killed_run_goes_on_without_sending_anything_twice(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("hang_after@ZQ000000002")
    running = command(terminal, "run", terminal.manifest(60), "--rate", "30/s")
    wait_for_requests(terminal, 10)
    running.kill()
    running.communicate(timeout=30)
    assert terminal("status", terminal.run_id()).out.startswith(f"Run {terminal.run_id()} (manifest): crashed")
    ended = terminal("resume", terminal.run_id(), "--rate", "500/s")
    assert ended.code == 5
    rows = report(terminal)
    assert len(rows) == 60
    assert (rows[1]["outcome"], rows[1]["reason"]) == ("unknown", "crashed")
    serials = [received.serial for received in terminal.sandbox.requests]
    assert len(serials) == len(set(serials))


def test_a_state_directory_that_is_removed_stops_the_run(terminal: Terminal) -> None:
    running = command(terminal, "run", terminal.manifest(200), "--rate", "50/s", "--quiet")
    wait_for_requests(terminal, 10)
    shutil.rmtree(terminal.folder / "state")
    _, err = running.communicate(timeout=30)
    assert running.returncode == 7
    assert "it was removed, moved or replaced" in err
    assert len(terminal.sandbox.requests) < 100


def test_the_token_is_nowhere(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000001", "close_after@ZQ000000002", "bad_gateway@ZQ000000003")
    manifest = terminal.manifest(5)
    printed = [terminal("run", manifest, "--rate", "200/s", "--format", "json")]
    printed += [terminal(*words) for words in (["runs"], ["status", terminal.run_id()], ["report", terminal.run_id()])]
    terminal.sandbox.set_token("another-token")
    printed.append(terminal("run", manifest))
    assert not any(TOKEN in ended.out + ended.err for ended in printed)
    assert TOKEN.encode() not in terminal.everything_written()


def test_a_dry_run_needs_no_token_sends_nothing_and_writes_nothing(terminal: Terminal) -> None:
    del terminal.environment["FLEETOPS_TOKEN"]
    before = terminal.manifest(5, "factory")
    ended = terminal("run", before, "--dry-run")
    assert ended.code == 0
    assert "5 devices" in ended.out
    assert terminal.sandbox.requests == []
    assert sorted(path.name for path in terminal.folder.iterdir()) == ["manifest.csv"]


def test_factory_resets_need_consent_where_nobody_can_be_asked(terminal: Terminal) -> None:
    ended = terminal("run", terminal.manifest(5, "factory"))
    assert ended.code == 2
    assert "resets 5 devices" in ended.err
    assert "--yes" in ended.err
    assert terminal.sandbox.requests == []


def test_without_a_token_nothing_is_sent(terminal: Terminal) -> None:
    del terminal.environment["FLEETOPS_TOKEN"]
    ended = terminal("run", terminal.manifest())
    assert ended.code == 2
    assert "FLEETOPS_TOKEN" in ended.err


def test_a_token_file_that_others_can_read_is_refused(terminal: Terminal) -> None:
    path = terminal.folder / "token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    del terminal.environment["FLEETOPS_TOKEN"]
    assert terminal("run", terminal.manifest(), "--token-file", str(path)).code == 2
    path.chmod(0o600)
    assert terminal("run", terminal.manifest(), "--token-file", str(path), "--rate", "100/s").code == 0


def test_a_report_that_has_no_place_is_refused_before_anything_is_sent(terminal: Terminal) -> None:
    assert terminal("run", terminal.manifest(), "--report", "none/results.csv").code == 2
    assert terminal("run", terminal.manifest(), "--report", str(terminal.folder)).code == 2
    assert terminal.sandbox.requests == []


def test_a_second_run_on_the_same_control_plane_has_to_be_asked_for(terminal: Terminal) -> None:
    running = command(terminal, "run", terminal.manifest(60), "--rate", "20/s")
    wait_for_requests(terminal, 1)
    run_id = terminal.run_id()
    other = terminal.write("other.csv", "serial_number,operation\nZQ000000099,sync\n")
    shared = terminal.write("shared.csv", "serial_number,operation\nZQ000000060,sync\n")
    refused = terminal("run", other, "--report", "other.results.csv")
    assert refused.code == 7
    assert run_id in refused.err
    assert terminal("run", other, "--report", "other.results.csv", "--alongside").code == 0
    held = terminal("run", shared, "--report", "shared.results.csv", "--alongside")
    assert held.code == 7
    assert "ZQ000000060" in held.err
    assert terminal("resume", run_id).code == 7
    running.terminate()
    running.communicate(timeout=30)
    assert running.returncode == 130


def test_a_finished_run_has_nothing_to_resume(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000001")
    terminal("run", terminal.manifest(2), "--rate", "100/s")
    ended = terminal("resume", terminal.run_id())
    assert ended.code == 1
    assert "nothing left to do" in ended.err
    assert len(terminal.sandbox.requests) == 2
    assert terminal("resume", "20200101-000000-abcd").code == 2
    assert terminal("resume", "../../etc/passwd").code == 2


def test_the_result_as_json_is_on_stdout_alone(terminal: Terminal) -> None:
    ended = terminal("run", terminal.manifest(2), "--rate", "100/s", "--format", "json", "--quiet")
    result = json.loads(ended.out)
    assert result["run_id"] == terminal.run_id()
    assert result["exit_code"] == 0
    assert result["outcomes"]["accepted"] == 2


def test_the_report_goes_to_stdout_for_a_dash(terminal: Terminal) -> None:
    ended = terminal("run", terminal.manifest(2), "--rate", "100/s", "--report", "-")
    assert ended.code == 0
    assert [row["outcome"] for row in csv.DictReader(ended.out.splitlines())] == ["accepted", "accepted"]
    assert terminal("resume", terminal.run_id(), "--report", "-").out == ended.out
    assert terminal("report", terminal.run_id(), "--output", "-").out == ended.out
    assert terminal("run", terminal.manifest(2), "--report", "-", "--format", "json").code == 2
    assert not (terminal.folder / "-").exists()


def test_devices_can_be_left_out_and_looked_up_before(terminal: Terminal) -> None:
    terminal.sandbox.set_device("ZQ000000002", up=False)
    ended = terminal("run", terminal.manifest(4), "--rate", "100/s", "--offline", "skip", "--deny", ".*4")
    assert ended.code == 0
    assert [(row["outcome"], row["reason"]) for row in report(terminal)] == [
        ("accepted", ""),
        ("skipped", "offline"),
        ("accepted", ""),
        ("skipped", "excluded"),
    ]
    missing = terminal.write("missing.csv", "serial_number,operation\nZQ000000001,reboot\nZQ999999999,reboot\n")
    ended = terminal("run", missing, "--preflight")
    assert ended.code == 3
    assert "missing.csv:3" in ended.err
    assert terminal("run", terminal.manifest(4), "--offline", "fail").code == 3
    assert terminal("run", terminal.manifest(4), "--max-devices", "3").code == 3
    assert sum(received.method == "PUT" for received in terminal.sandbox.requests) == 2


def test_a_failed_canary_touches_no_other_device(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("refuse=100%")
    ended = terminal(
        "run", terminal.manifest(100), "--rate", "500/s", "--waves", "5%,100%", "--gate", "failed<=10%, soak 0"
    )
    assert ended.code == 4
    assert "wave 1 of 2" in ended.err
    assert len(terminal.sandbox.requests) == 5


def test_devices_that_are_left_out_let_no_further_wave_in(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("refuse=100%")
    options = ("--rate", "500/s", "--waves", "5%,100%", "--gate", "failed<=10%, soak 0")
    ended = terminal("run", terminal.manifest(100), *options, "--deny", "ZQ0000000[1-4].")
    assert ended.code == 4
    # Five of a hundred of the sixty that are left.
    assert len(terminal.sandbox.requests) == 3


def test_a_device_that_a_resume_leaves_out_lets_no_further_wave_in(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("forbid=100%")
    options = ("--rate", "500/s", "--concurrency", "1", "--waves", "5%,100%", "--gate", "failed<=10%, soak 0")
    assert terminal("run", terminal.manifest(100), *options).code == 4
    (forbidden,) = [received.serial for received in terminal.sandbox.requests]
    terminal.sandbox.set_faults("refuse=100%")
    ended = terminal("resume", terminal.run_id(), "--deny", forbidden)
    assert ended.code == 4
    assert "wave 1 of 2" in ended.err
    assert len(terminal.sandbox.requests) == 1 + 4


def test_a_resume_cannot_change_the_waves_but_can_end_them(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("refuse=100%")
    assert terminal("run", terminal.manifest(100), "--rate", "500/s", "--waves", "5%,100%").code == 4
    ended = terminal("resume", terminal.run_id(), "--waves", "1%,50%,100%")
    assert ended.code == 2
    assert "--set waves=null" in ended.err
    assert len(terminal.sandbox.requests) == 5
    terminal.sandbox.set_faults()
    assert terminal("resume", terminal.run_id(), "--set", "waves=null", "--rate", "500/s").code == 1
    assert len(terminal.sandbox.requests) == 100


def test_a_spent_budget_stops_the_run(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("refuse=100%")
    ended = terminal("run", terminal.manifest(100), "--rate", "500/s", "--concurrency", "4", "--abort-when", "failed>9")
    assert ended.code == 4
    assert 10 <= len(terminal.sandbox.requests) <= 14


def test_a_confirmed_step_is_told_from_an_accepted_one(terminal: Terminal) -> None:
    policy = terminal.write(
        "p.yaml", "rate: 100/s\nsettle: {reboot: 100ms}\nconfirm: {enabled: true, limit: 6s, every: 200ms}\n"
    )
    ended = terminal("run", terminal.manifest(2), "--policy", policy)
    assert ended.code == 0
    assert {row["outcome"] for row in report(terminal)} == {"confirmed"}


def test_a_closed_window_leaves_the_run_waiting_until_it_is_told_not_to(terminal: Terminal) -> None:
    hour = (time.gmtime().tm_hour + 12) % 24
    window = f"{hour:02}:00-{(hour + 1) % 24:02}:00 UTC"
    running = command(terminal, "run", terminal.manifest(2), "--window", window)
    deadline_s = time.monotonic() + 30
    while not list((terminal.folder / "state").glob("runs/*.db")):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert terminal.sandbox.requests == []
    ended = terminal("resume", terminal.run_id(), "--now", "--rate", "100/s")
    assert ended.code == 0
    assert len(terminal.sandbox.requests) == 2


def test_the_sandbox_runs_a_command_and_ends_with_its_exit_code(terminal: Terminal) -> None:
    del terminal.environment["FLEETOPS_BASE_URL"]
    manifest = terminal.manifest(2)
    ended = command(
        terminal, "sandbox", "--devices", "1", "--", sys.executable, "-m", "fleetops", "run", manifest, "--rate", "50/s"
    )
    _, err = ended.communicate(timeout=60)
    assert ended.returncode == 1, err
    assert [row["outcome"] for row in report(terminal)] == ["accepted", "failed"]


def test_module_and_entry_point_are_the_same_command() -> None:
    for words in ([str(Path(sys.executable).with_name("fleetops"))], [sys.executable, "-m", "fleetops"]):
        done = subprocess.run([*words, "--version"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert done.stdout.startswith("fleetops ")


def test_a_run_from_a_plan_says_how_it_compares(terminal: Terminal) -> None:
    manifest = terminal.manifest(10)
    assert terminal("plan", manifest, "--rate", "100/s", "--out", "plan.json").code == 0
    ended = terminal("run", "plan.json")
    assert ended.code == 0
    assert "predicted" in ended.err
    digest = Plan.from_json((terminal.folder / "plan.json").read_bytes()).digest
    assert f"plan.json holds, digest {digest}" in ended.err
    assert len(terminal.sandbox.requests) == 10
    compared = json.loads(terminal("report", terminal.run_id(), "--format", "json").out)["run"]["plan"]
    assert compared["digest"] == digest
    assert (compared["predicted_sends"], compared["sends"]) == (10, 10)
    assert compared["deviation"] == pytest.approx(compared["took_s"] / compared["predicted_s"] - 1, abs=0.02)


def test_a_dry_run_says_which_live_run_would_have_it_refused(terminal: Terminal) -> None:
    manifest = terminal.manifest(20)
    live = command(terminal, "run", manifest, "--rate", "1/s")
    try:
        wait_for_requests(terminal, 1)
        ended = terminal("run", manifest, "--dry-run")
    finally:
        live.send_signal(signal.SIGINT)
        live.communicate()
    assert f"a run would be refused: run {terminal.run_id()} is live" in ended.err


def test_a_plan_whose_manifest_policy_or_service_changed_is_refused_with_what_changed(terminal: Terminal) -> None:
    manifest = terminal.manifest(10)
    assert terminal("plan", manifest, "--rate", "100/s", "--out", "plan.json").code == 0
    for words in (["--rate", "50/s"], ["--base-url", "http://127.0.0.1:9/api/v1"]):
        ended = terminal("run", "plan.json", *words)
        assert ended.code == 3
        assert "no longer holds" in ended.err
    terminal.manifest(11)
    ended = terminal("run", "plan.json")
    assert ended.code == 3
    assert "ZQ000000011" in ended.err or "11" in ended.err
    text = (terminal.folder / "plan.json").read_text()
    terminal.write("plan.json", text.replace('"100/s"', '"900/s"'))
    assert terminal("run", "plan.json").code == 3
    terminal.write("plan.json", "{")
    assert terminal("run", "plan.json").code == 3
    assert terminal.sandbox.requests == []


def test_a_report_never_replaces_what_the_run_is_made_from(terminal: Terminal) -> None:
    manifest, policy = terminal.manifest(2), terminal.write("p.yaml", "rate: 100/s\n")
    (terminal.folder / "link.csv").symlink_to(manifest)
    assert terminal("plan", manifest, "--policy", policy, "--out", "plan.json").code == 0
    for source, name in ((manifest, manifest), (manifest, "link.csv"), (manifest, policy), ("plan.json", manifest)):
        ended = terminal("run", source, "--policy", policy, "--report", name)
        assert ended.code == 2
        assert "would replace" in ended.err
    assert terminal.sandbox.requests == []
    assert terminal("run", manifest, "--policy", policy).code == 0
    assert terminal("resume", terminal.run_id(), "--report", manifest).code == 2


def test_a_dry_run_says_that_a_run_would_be_refused_for_want_of_a_token(terminal: Terminal) -> None:
    assert "refused" not in terminal("run", terminal.manifest(), "--dry-run").err
    del terminal.environment["FLEETOPS_TOKEN"]
    assert "a run would be refused: there is no token" in terminal("run", terminal.manifest(), "--dry-run").err


def test_a_dry_run_says_that_the_report_has_no_place(terminal: Terminal) -> None:
    ended = terminal("run", terminal.manifest(), "--dry-run", "--report", "nowhere/results.csv")
    assert ended.code == 0
    assert "a run would be refused: the report nowhere/results.csv is in a directory that does not exist" in ended.err


def test_a_finished_run_is_reported_again_without_a_token(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000001")
    terminal("run", terminal.manifest(2), "--rate", "100/s")
    del terminal.environment["FLEETOPS_TOKEN"]
    ended = terminal("resume", terminal.run_id(), "--report", "again.csv")
    assert ended.code == 1
    assert report(terminal, "again.csv") == report(terminal)


def test_the_sandbox_tells_of_a_killed_command_as_shells_do(terminal: Terminal) -> None:
    killed = command(terminal, "sandbox", "--", "sh", "-c", "kill -9 $$")
    killed.communicate(timeout=60)
    assert killed.returncode == 128 + signal.SIGKILL
