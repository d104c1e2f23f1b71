"""fleetops itself: manifests for it, runs of it, and what their journals say of how it went."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.commands import Took, measured

if TYPE_CHECKING:
    from collections.abc import Sequence

FLEETOPS = str(Path(sys.executable).parent / "fleetops")
NS_PER_S = 1_000_000_000
UNTHROTTLED = "100000/s"


def manifest(folder: Path, devices: int) -> Path:
    """A manifest of one reboot for each device."""
    path = folder / f"{devices}.csv"
    if not path.exists():
        with path.open("w", encoding="ascii") as file:
            file.write("serial_number,operation\n")
            file.writelines(f"ZQ{number:09d},reboot\n" for number in range(devices))
    return path


@dataclass(frozen=True, slots=True)
class Run:
    """A run of fleetops.

    Attributes:
        took: What the whole process took.
        sent_s: When each request left, in seconds from the first.
        answered_s: When the last answer came, likewise.
    """

    took: Took
    sent_s: Sequence[float]
    answered_s: float

    @property
    def sending_per_s(self) -> float:
        """Operations per second from the first request to the last answer."""
        return len(self.sent_s) / self.answered_s

    @property
    def paced_per_s(self) -> float:
        """Sends per second, from the first to the last."""
        return (len(self.sent_s) - 1) / self.sent_s[-1]

    def most_in_a_second(self) -> int:
        """The most sends in any sliding second."""
        most = first = 0
        for last, moment_s in enumerate(self.sent_s):
            while self.sent_s[first] <= moment_s - 1:
                first += 1
            most = max(most, last - first + 1)
        return most


def run(
    folder: Path,
    base_url: str,
    devices: int,
    *,
    rate: str = UNTHROTTLED,
    in_flight: int = 64,
    transport: str = "",
    loop: str = "",
) -> Run:
    """Run a campaign with everything on, in a state directory of its own."""
    state = folder / "state"
    shutil.rmtree(state, ignore_errors=True)
    env = {
        "FLEETOPS_TOKEN": "token",
        "FLEETOPS_BASE_URL": base_url,
        "FLEETOPS_STATE_DIR": str(state),
        "FLEETOPS_TRANSPORT": transport,
        "FLEETOPS_EVENT_LOOP": loop,
    }
    report = folder / "results.csv"
    command = [FLEETOPS, "run", str(manifest(folder, devices)), "--rate", rate, "--concurrency", str(in_flight)]
    took = measured([*command, "--report", str(report), "--quiet"], folder, env)
    with sqlite3.connect(journal(folder)) as connection:
        sent_ns = [ns for (ns,) in connection.execute("SELECT sent_ns FROM attempt ORDER BY sent_ns")]
        last_ns, accepted = connection.execute(
            "SELECT max(answered_ns), (SELECT count(*) FROM result WHERE outcome = 'accepted') FROM attempt"
        ).fetchone()
    connection.close()
    if accepted != devices or sum(1 for _ in report.open("rb")) != devices + 1:
        raise RuntimeError(f"{accepted} of {devices} steps were accepted")
    return Run(took, [(ns - sent_ns[0]) / NS_PER_S for ns in sent_ns], (last_ns - sent_ns[0]) / NS_PER_S)


def journal(folder: Path) -> Path:
    """The journal of the last run."""
    (path,) = (folder / "state" / "runs").glob("*.db")
    return path


def command_on(folder: Path, *words: str) -> Took:
    """Another command of fleetops, on the state directory of the last run."""
    return measured(
        [FLEETOPS, *words], folder, {"FLEETOPS_STATE_DIR": str(folder / "state"), "FLEETOPS_TOKEN": "token"}
    )
