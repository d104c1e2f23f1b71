from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cli.conftest import Terminal

FLEETOPS = f"{sys.executable} -m fleetops"


def shell(terminal: Terminal, script: str) -> subprocess.CompletedProcess[str]:
    """A line of bash; a pipe in it ends with the first exit code in it that is not 0."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"],
        cwd=terminal.folder,
        env={**os.environ, **terminal.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def typed(terminal: Terminal, words: Sequence[str], question: bytes, answer: bytes) -> tuple[int, bytes]:
    """How a command ends on a terminal where `answer` is typed to its question, and what it shows."""
    pid, fd = pty.fork()
    if not pid:
        os.chdir(terminal.folder)
        os.execve(sys.executable, [sys.executable, "-m", "fleetops", *words], {**os.environ, **terminal.environment})
    shown, answered = b"", False
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        if select.select([fd], [], [], 0.3)[0]:
            try:
                shown += os.read(fd, 4096)
            except OSError:  # the other end is closed
                break
        elif question in shown and not answered:
            # The question has been there for a moment: a key that is pressed before it is waited for may be lost. And a
            # second one may come when Python has taken its handlers down.
            os.write(fd, answer)
            answered = True
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_run_does_without_the_streams_that_its_caller_closed(terminal: Terminal, closed: str) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000001")
    done = shell(terminal, f"{FLEETOPS} run {terminal.manifest(2)} --rate 100/s --format json {closed}")
    assert done.returncode == 1
    assert "defect" not in done.stderr
    assert len((terminal.folder / "results.csv").read_text().splitlines()) == 3


def test_a_reader_that_goes_away_does_not_change_how_a_run_ends(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000001")
    run = f"{FLEETOPS} run {terminal.manifest(2)} --rate 100/s --settle 0"
    for script in (f"{run} --format json | true", f"{run} 2>&1 | true"):
        sent = len(terminal.sandbox.requests)
        done = shell(terminal, script)
        assert (done.returncode, done.stderr.count("Error")) == (1, 0)
        assert len(terminal.sandbox.requests) == sent + 2


def test_a_reader_that_has_seen_enough_is_no_error(terminal: Terminal) -> None:
    terminal("run", terminal.manifest(2), "--rate", "100/s")
    done = shell(terminal, f"{FLEETOPS} report {terminal.run_id()} | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")  # noqa: PTH110 - not a file
def test_an_output_that_cannot_be_written_is_a_failure_of_this_host(terminal: Terminal) -> None:
    done = shell(terminal, f"{FLEETOPS} run {terminal.manifest(1)} --rate 100/s --format json >/dev/full")
    assert done.returncode == 7
    assert done.stderr.endswith("error: this host failed: No space left on device\n")
    assert (terminal.folder / "results.csv").exists()


def test_a_locale_without_the_characters_shows_them_escaped(terminal: Terminal) -> None:
    manifest = terminal.write(
        "m.yaml", "campaign: noche \u2713\nsteps: [{serial_number: ZQ000000001, operation: sync}]\n"
    )
    terminal.environment["PYTHONIOENCODING"] = "latin-1"
    done = shell(terminal, f"{FLEETOPS} run {manifest} --rate 100/s")
    assert done.returncode == 0
    assert "(noche \\u2713): complete" in done.stderr


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (b"2\n", 0, b"complete"),
        (b"3\n", 2, b"not the number"),
        (b"\x03", 130, b"interrupted"),
        (b"\x04", 130, b"inter"),
    ],
)
def test_on_a_terminal_consent_is_the_number_of_devices(
    terminal: Terminal, answer: bytes, code: int, says: bytes
) -> None:
    words = ["run", terminal.manifest(2, "factory"), "--rate", "100/s"]
    ended, shown = typed(terminal, words, b"number of devices to go on", answer)
    assert ended == code, shown
    assert says in shown
    assert b"defect" not in shown
    assert len(terminal.sandbox.requests) == (0 if code else 2)


def test_ctrl_c_while_the_command_starts_shows_no_traceback(terminal: Terminal) -> None:
    # The module that takes longest to load tells that it is being loaded, and waits.
    slow = terminal.folder / "slow"
    slow.mkdir()
    (slow / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(30)\n")
    starting = subprocess.Popen(
        [sys.executable, "-m", "fleetops", "runs"],
        env={**os.environ, **terminal.environment, "PYTHONPATH": str(slow)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert starting.stdout is not None
    assert starting.stdout.readline() == "loading\n"
    starting.send_signal(signal.SIGINT)
    _, err = starting.communicate(timeout=30)
    assert (starting.returncode, err) == (130, "")


def test_a_second_ctrl_c_leaves_what_is_in_flight_unknown(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("hang_after=100%")
    running = subprocess.Popen(
        [sys.executable, "-m", "fleetops", "run", terminal.manifest(9), "--rate", "100/s", "--concurrency", "3"],
        cwd=terminal.folder,
        env={**os.environ, **terminal.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline_s = time.monotonic() + 30
    while len(terminal.sandbox.requests) < 3:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert f"fleetops resume {terminal.run_id()}" in err
    rows = (terminal.folder / "results.csv").read_text()
    assert (rows.count(",unknown,interrupted,"), rows.count(",not_started,interrupted,")) == (3, 6)


def test_what_a_manifest_says_does_not_control_the_terminal(terminal: Terminal) -> None:
    evil = "\\e[2Jred\\a\\nRun 1: complete"
    manifest = terminal.write(
        "m.yaml", f'campaign: "{evil}"\nsteps: [{{serial_number: ZQ000000001, operation: sync}}]\n'
    )
    code, shown = typed(terminal, ["run", manifest, "--rate", "100/s", "--quiet"], b"no question", b"")
    assert code == 0
    assert b"red" in shown
    assert b"\x1b[2J" not in shown
    assert b"\a" not in shown
    assert b"\nRun 1" not in shown
