from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from fleetops.journal import RunClock
from fleetops.journal.commits import Batch
from fleetops.journal.progress import settling_devices
from fleetops.model import Operation
from fleetops.policy import Policy
from tests.journal.runs import S, create, new_run, rows, state_dir, write

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600 * S


def test_a_device_settles_from_a_crash_also_where_the_wall_clock_was_stepped_back_before_the_resume(
    tmp_path: Path,
) -> None:
    clock = RunClock()
    now_ns = clock.now_ns()
    path = create(state_dir(tmp_path), new_run(rows(1, Operation.FACTORY, 300 * S)))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for wall_minus_boot_ns in (clock.wall_minus_boot_ns + HOUR, clock.wall_minus_boot_ns):
            connection.execute(
                "INSERT INTO process (pid, version, boot_id, wall_minus_boot_ns, started_ns, policy) "
                "VALUES (1, '1', ?, ?, 0, ?)",
                (clock.boot_id, wall_minus_boot_ns, Policy().to_json()),
            )
        write(connection, Batch(intents=[(0, 1, 1, now_ns + HOUR - 20 * S)]), 1)
        found_ns = now_ns - 5 * S
        crashed = (None, found_ns, 2, "maybe", "crashed", None, None, "", 0, 1)
        write(connection, Batch(answers=[crashed], results=[(0, "unknown", "crashed", found_ns, 2)]), 2)
        settling = settling_devices(connection, clock, now_ns=now_ns)
    assert settling.after_finished_ns == settling.after_any_ns == {0: found_ns + 300 * S}
