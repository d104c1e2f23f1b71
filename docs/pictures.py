"""Makes the pictures of the README against a sandbox: a plan page in chromium, and the lines that a run prints."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parent
FLEETOPS = str(Path(sys.executable).parent / "fleetops")
MANIFEST = "sample_manifests/redeployment.yaml"


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
        run = ["run", "sample_manifests/scheduled-reboot.csv", "--rate", "20/s", "--report", str(place / "results.csv")]
        faults = ["--fault", "close_after@ZQ000000003", "--fault", "not_found@ZQ000000004"]
        printed = _done([FLEETOPS, "sandbox", *faults, "--", FLEETOPS, *run], environment)
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(
        Text(f"$ fleetops sandbox {' '.join(faults)} -- fleetops run scheduled-reboot.csv --rate 20/s", style="bold")
    )
    console.print(Text(printed.replace(str(place), ".")))
    # rich names fonts of another host; those of the reader will do.
    svg = console.export_svg(title="fleetops run")
    (DOCS / "run.svg").write_text(_without_fonts(svg), encoding="utf-8")


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
