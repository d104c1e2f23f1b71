"""Makes the pictures of the README against a sandbox: a plan page in chromium, and a run on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parent
FLEETOPS = str(Path(sys.executable).parent / "fleetops")
MANIFEST = "sample_manifests/redeployment.yaml"
COLUMNS = 100
POLICY = "--rate 20/s --waves 10%,100% --gate 'failed<=20%, soak 1s' --settle 1s"
FAULTS = ("close_after@ZQ000000077", "not_found@ZQ000000090", "not_found=1%")
ENOUGH = 70
"""The share of the run, in percent, that is done in the picture."""


def main() -> None:
    """Write docs/plan.png and docs/run.svg."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("the picture of the plan page takes chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = {**os.environ, "FLEETOPS_STATE_DIR": str(place / "state")}
        page = place / "plan.html"
        start = ["--start", "2026-02-02T02:00+01:00", "--base-url", "http://127.0.0.1:8080/api/v1"]
        _done([FLEETOPS, "plan", MANIFEST, "--waves", "10%,100%", *start, "--html", str(page)], environment)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1300"]
        flags += ["--virtual-time-budget=3000", f"--user-data-dir={place / 'profile'}"]
        _done([chromium, *flags, f"--screenshot={DOCS / 'plan.png'}", page.as_uri()], environment)
        seen = _seen_on_a_terminal(place, environment)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ fleetops run night.json", style="bold"))
    for line in seen:
        console.print(Text.from_ansi(line))
    # rich names fonts of another host; those of the reader will do.
    svg = console.export_svg(title="fleetops run")
    (DOCS / "run.svg").write_text(_without_fonts(svg), encoding="utf-8")


def _seen_on_a_terminal(place: Path, environment: dict[str, str]) -> list[str]:
    """The lines on the terminal when most of a planned run is done."""
    rows = "".join(f"ZQ{number:09},reboot,node-{number % 12:02}\n" for number in range(1, 201))
    (place / "night.csv").write_text(f"serial_number,operation,group\n{rows}", encoding="utf-8")
    run = f"{FLEETOPS} plan night.csv {POLICY} --out night.json >/dev/null 2>&1 && exec {FLEETOPS} run night.json"
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(place)
        words = [FLEETOPS, "sandbox", "--latency", "40ms", *faults, "--", "/bin/sh", "-c", run]
        os.execve(FLEETOPS, words, {**environment, "TERM": "xterm-256color"})  # noqa: S606 - a command of our own
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    written = b""
    # Reading from a terminal that every process has left is an error.
    with suppress(OSError):
        while part := os.read(terminal, 65_536):
            written += part
    os.waitpid(pid, 0)
    stays: list[str] = []
    # Each drawing begins where the one before is taken away; what is printed for good stands above it.
    for piece in re.split(r"(?:\x1b\[\d+F)?\x1b\[J", written.decode().replace("\r", "")):
        lines = piece.splitlines()
        plain = [Text.from_ansi(line).plain for line in lines]
        top = next((at for at, line in enumerate(plain) if line.startswith("Run ")), len(lines))
        stays += [line for line, words in zip(lines[:top], plain, strict=False) if not words.startswith("sandbox")]
        share = re.search(r"(\d+) %", "\n".join(plain[top:]))
        if share and int(share[1]) >= ENOUGH:
            return [*stays, *lines[top:]]
    sys.exit("the run was over before it was seen")


def _without_fonts(svg: str) -> str:
    while "@font-face" in svg:
        before, _, after = svg.partition("@font-face")
        svg = before.rstrip() + after.partition("}")[2]
    return svg


def _done(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(  # noqa: S603 - commands of our own
        command, cwd=DOCS.parent, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode not in {0, 5}:
        sys.exit(done.stderr)
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
