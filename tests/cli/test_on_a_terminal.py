"""What an operator sees: the commands on a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal

_PATIENCE_S = 30


class Pane:
    """A command on a terminal of its own, and what it has written there."""

    def __init__(self, terminal: Terminal, *words: str, columns: int = 80, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fleetops", *words],
            cwd=terminal.folder,
            env={**os.environ, **terminal.environment, "TERM": "xterm-256color", **environment} | {"COLUMNS": ""},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.text = ""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def _read(self) -> bool:
        try:
            if select.select([self._master], [], [], 0.05)[0]:
                self.text += os.read(self._master, 65536).decode(errors="replace")
        except OSError:
            return False
        return True

    def wait_for(self, words: str, *, again: bool = False) -> None:
        """Wait until that is written; where it may be there already, from here on."""
        seen, until_s = len(self.text) if again else 0, time.monotonic() + _PATIENCE_S
        while words not in self.text[seen:]:
            assert self._read(), f"{words} was not written: {self.text}"
            assert time.monotonic() < until_s, f"{words} was not written: {self.text}"

    def end(self) -> int:
        """Read to its end; its exit code."""
        while self._read():
            pass
        return self._process.wait(timeout=_PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


def test_a_run_is_shown_with_its_last_failures_while_the_terminal_changes_its_size(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000002")
    with Pane(
        terminal, "run", terminal.manifest(60), "--rate", "20/s", "--waves", "10,100%", "--gate", "soak 0s"
    ) as pane:
        pane.wait_for("last failures")
        pane.wait_for("ZQ000000002 reboot: failed, not_found")
        pane.wait_for("wave started: wave 2 of 2")
        pane.resize(40)
        pane.wait_for("of 20/s asked", again=True)
        assert pane.end() == 1
        assert "\x1b[32m" in pane.text
        assert pane.text.rpartition("\x1b[J")[2].lstrip().startswith("Run "), "only the summary stays"


def test_nothing_is_coloured_for_who_does_not_want_it(terminal: Terminal) -> None:
    with Pane(terminal, "run", terminal.manifest(20), "--rate", "20/s", NO_COLOR="1") as pane:
        pane.wait_for("of 20 steps: ")
        assert pane.end() == 0
        assert not re.search(r"\x1b\[(3[0-9]|38;5;\d+|9[0-7])m", pane.text)


def test_a_run_is_watched_from_another_terminal(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000002")
    with Pane(terminal, "run", terminal.manifest(60), "--rate", "20/s", "--quiet") as run:
        until_s = time.monotonic() + _PATIENCE_S
        while not list((terminal.folder / "state" / "runs").glob("*.db")):
            assert time.monotonic() < until_s
            time.sleep(0.02)
        with Pane(terminal, "status", terminal.run_id(), "--watch") as pane:
            pane.wait_for("of 20/s asked")
            pane.wait_for("ZQ000000002 reboot: failed, not_found")
            lines = subprocess.run(
                [sys.executable, "-m", "fleetops", "status", terminal.run_id(), "--watch"],
                env={**os.environ, **terminal.environment},
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
            )
            assert pane.end() == 0
        assert run.end() == 1
    assert re.match(r"\d\d:\d\d:\d\d [\d,]+ of 60 steps", lines.stdout)
    assert "\x1b" not in lines.stdout
    for shown in (lines.stdout, pane.text.rpartition("\x1b[J")[2]):
        assert f"Run {terminal.run_id()} (manifest): complete" in shown
