"""Large campaigns: what a million rows take, and how time and memory grow."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.speed import fleet
from benchmarks.speed.commands import Took, measured
from benchmarks.speed.services import nginx
from benchmarks.speed.tables import Section, Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MILLION = 1_000_000
SMALL = 50_000
GROWING = (10_000, 30_000, 100_000, 300_000, MILLION, 3_000_000)


def _report(folder: Path) -> Took:
    run_id = fleet.journal(folder).stem
    return fleet.command_on(folder, "report", run_id, "--output", str(folder / "again.csv"))


def _validate(folder: Path, devices: int) -> Took:
    return measured([fleet.FLEETOPS, "validate", str(fleet.manifest(folder, devices))], folder)


def measure_million(folder: Path, rounds: int) -> Section:
    """A million rows, validated, run, reported and resumed; the start-up times beside them."""
    rows: list[Sequence[str]] = []
    validated = [_validate(folder, MILLION) for _ in range(rounds)]
    with nginx(folder / "nginx") as base_url:
        small = median(SMALL / fleet.run(folder, base_url, SMALL).took.wall_s for _ in range(rounds))
        run = fleet.run(folder, base_url, MILLION)
        reported = [_report(folder) for _ in range(rounds)]
        resumed_s = _resume(folder, base_url)
    tiny = fleet.manifest(folder, 10)
    commands = {
        "`fleetops --help`": ["--help"],
        "`fleetops --version`": ["--version"],
        "`fleetops validate`, 10 rows": ["validate", str(tiny)],
    }
    starts = {
        name: median(measured([fleet.FLEETOPS, *words], folder).wall_s for _ in range(2 * rounds + 1))
        for name, words in commands.items()
    }
    validate_s = median(took.wall_s for took in validated)
    report_s = median(took.wall_s for took in reported)
    validate_mb = max(took.peak_mb for took in validated)
    per_s = MILLION / run.took.wall_s
    rows = [
        ["`fleetops validate`, 1,000,000 rows", f"{validate_s:.2f} s", f"{validate_mb:,.0f} MB"],
        [f"`fleetops run`, {SMALL:,} rows", f"{small:,.0f} operations/s", ""],
        ["`fleetops run`, 1,000,000 rows", f"{per_s:,.0f} operations/s", f"{run.took.peak_mb:,.0f} MB"],
        ["`fleetops report`, 1,000,000 rows", f"{report_s:.2f} s", f"{max(took.peak_mb for took in reported):,.0f} MB"],
        ["`fleetops resume`, 1,000,000 rows, to its first send", f"{resumed_s:.2f} s", ""],
        *([name, f"{start_s * 1000:.0f} ms", ""] for name, start_s in starts.items()),
    ]
    help_s, version_s, small_s = starts.values()
    targets = [
        Target("validating a million rows, in seconds", validate_s, None, 1.5),
        Target("validating a million rows, in megabytes", validate_mb, None, 500),
        Target("throughput of a million rows beside that of 50,000", per_s / small, 0.6),
        Target("running a million rows, in megabytes", run.took.peak_mb, None, 600),
        Target("reporting a million rows, in seconds", report_s, None, 5),
        Target("resuming a million rows until the first send, in seconds", resumed_s, None, 3),
        Target("`--help`, in seconds", help_s, None, 0.15),
        Target("`--version`, in seconds", version_s, None, 0.15),
        Target("validating a small file, in seconds", small_s, None, 0.5),
    ]
    return Section(["what", "took", "peak memory"], rows, targets)


def _resume(folder: Path, base_url: str) -> float:
    """How long a resume of a run of a million rows, of which half are done, takes to its first send."""
    with closing(sqlite3.connect(fleet.journal(folder), isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM result WHERE step >= ?", (MILLION // 2,))
        connection.execute("DELETE FROM attempt WHERE step >= ?", (MILLION // 2,))
        counts = connection.execute("SELECT count(*), count(answered_ns) FROM attempt").fetchone()
        for key, count in zip(("attempts", "answers"), counts, strict=True):
            connection.execute("UPDATE run SET value = ? WHERE key = ?", (str(count), key))
        connection.execute("UPDATE process SET ended_ns = NULL")
        connection.execute("COMMIT")
        before = counts[0]
    words = [
        "resume",
        fleet.journal(folder).stem,
        "--rate",
        "1000/s",
        "--report",
        str(folder / "results.csv"),
        "--quiet",
    ]
    began_s = time.time()
    command = ["env", f"FLEETOPS_STATE_DIR={folder / 'state'}", "FLEETOPS_TOKEN=token", fleet.FLEETOPS, *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with closing(sqlite3.connect(f"{fleet.journal(folder).as_uri()}?mode=ro", uri=True)) as connection:
            while (
                first_ns := connection.execute(
                    "SELECT min(sent_ns) FROM attempt WHERE process > 1 AND sent_ns IS NOT NULL AND step >= ?",
                    (MILLION // 2,),
                ).fetchone()[0]
            ) is None:
                if process.poll() is not None or time.time() > began_s + 60:
                    raise RuntimeError(f"{base_url} was not sent to again after {before} sends")
                time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    return float(first_ns / fleet.NS_PER_S - began_s)


def measure_growth(folder: Path, rounds: int) -> Section:
    """Time and memory from ten thousand rows to three million."""
    rows = []
    with nginx(folder / "nginx") as base_url:
        for devices in GROWING:
            validated = _validate(folder, devices)
            run = fleet.run(folder, base_url, devices)
            reported = _report(folder)
            took = (validated, run.took, reported)
            cells = [cell for one in took for cell in (f"{one.wall_s:.2f}", f"{one.peak_mb:,.0f}")]
            rows.append([f"{devices:,}", *cells, f"{1e6 * run.took.wall_s / devices:.1f}"])
    units = [f"{name}, {unit}" for name in ("validate", "run", "report") for unit in ("s", "MB")]
    return Section(["rows", *units, "run, µs a row"], rows)
