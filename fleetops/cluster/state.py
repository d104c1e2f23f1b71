"""The runs of the shared database, beside those of this host, for commands that read them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleetops.cluster.copy import RunCopy
from fleetops.cluster.database import connected
from fleetops.errors import RunBusyError
from fleetops.journal import RunLock, StateDir
from fleetops.journal.views import RunState, RunSummary, rfc3339
from fleetops.model import Outcome
from fleetops.scheduler import StopReason

if TYPE_CHECKING:
    from collections.abc import Iterable

_SUMMARIES: Final = """
SELECT r.run_id, r.facts::jsonb ->> 'manifest', r.facts::jsonb ->> 'campaign', r.steps, r.ended_ns IS NULL,
       (SELECT min(started_ns) FROM drive WHERE run_id = r.run_id), d.ended_ns, d.end_reason,
       (SELECT jsonb_object_agg(outcome, steps) FROM
           (SELECT outcome, sum(steps) AS steps FROM tally WHERE run_id = r.run_id GROUP BY outcome) t)
FROM run r JOIN drive d ON d.run_id = r.run_id AND d.drive = r.drive ORDER BY r.run_id DESC
"""
_WORKERS: Final = """
SELECT w.worker, w.host, w.pid, w.queue, w.draining, w.lease_ns > now_ns(), w.sends,
       count(c.chunk) FILTER (WHERE c.run_id = %(run_id)s)
FROM worker w LEFT JOIN chunk c ON c.worker = w.worker
WHERE w.lease_ns > now_ns() - 60000000000
GROUP BY w.worker ORDER BY w.worker
"""
_CHUNKS: Final = """
SELECT count(*) FILTER (WHERE state = 'done'), count(*),
       count(*) FILTER (WHERE EXISTS (SELECT 1 FROM worker w WHERE w.worker = c.worker AND w.lease_ns > now_ns()))
FROM chunk c WHERE run_id = %s
"""
_ENDED_AS: Final = {
    StopReason.COMPLETE: RunState.COMPLETE,
    StopReason.INTERRUPTED: RunState.INTERRUPTED,
    StopReason.WINDOW_CLOSED: RunState.WINDOW_CLOSED,
    StopReason.HOST_FAILED: RunState.FAILED,
}


class ClusterState(StateDir):
    """A state directory whose runs are those on this host and those in the database.

    A run of the database is read from a copy, which is made where its path is asked for, and then kept up to date.

    Args:
        root: The state directory of this host.
        url: The database.
    """

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self.url = url
        self._copies: dict[str, RunCopy] = {}
        self._folder: Path | None = None

    def is_here(self, run_id: str) -> bool:
        """Whether the run's journal is on this host."""
        return super().journal_path(run_id).exists()

    def journal_path(self, run_id: str) -> Path:
        """Where the journal of `run_id`, or a copy of what the database has of it, lies.

        Raises:
            UsageError: It is not a run id, or the database has no such run.
            JournalError: The database cannot be used.
        """
        here = super().journal_path(run_id)
        if here.exists():
            return here
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="fleetops-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        copy = self._copies.setdefault(run_id, RunCopy(self._folder / here.name, run_id))
        with connected(self.url) as connection:
            copy.refresh(connection)
        return copy.path

    def lock_path(self, run_id: str) -> Path:
        """Where the lock of a run of this host lies."""
        return super().journal_path(run_id).with_suffix(".lock")

    def run_ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        with connected(self.url) as connection:
            shared = [run_id for (run_id,) in connection.execute("SELECT run_id FROM run").fetchall()]
        return sorted({*super().run_ids(), *shared}, reverse=True)

    def is_live(self, run_id: str) -> bool:
        """Whether the run goes on now."""
        if self.is_here(run_id):
            return super().is_live(run_id)
        with connected(self.url) as connection:
            row = connection.execute("SELECT ended_ns IS NULL FROM run WHERE run_id = %s", (run_id,)).fetchone()
        return row is not None and bool(row[0])

    def lock_run(self, run_id: str) -> RunLock:
        """Hold a run that is over; what was found out about its steps goes into the database when it is let go.

        Raises:
            RunBusyError: It goes on.
        """
        if self.is_here(run_id):
            return super().lock_run(run_id)
        if self.is_live(run_id):
            raise RunBusyError(
                f"run {run_id} is being driven by workers",
                hint=f"watch it with `fleetops status {run_id} --watch`",
            )
        return _Findings(self, run_id)

    def summaries(self) -> list[RunSummary]:
        """The runs of the database, each in one line, newest first."""
        with connected(self.url) as connection:
            return [_summary(*row) for row in connection.execute(_SUMMARIES).fetchall()]

    def workers(self, run_id: str) -> list[dict[str, Any]]:
        """The workers that are there, or were a minute ago, and how many chunks of the run each has."""
        names = ("worker", "host", "pid", "queue", "draining", "alive", "sends", "chunks")
        with connected(self.url) as connection:
            return [dict(zip(names, row, strict=True)) for row in connection.execute(_WORKERS, {"run_id": run_id})]

    def chunks(self, run_id: str) -> tuple[int, int, int]:
        """The chunks of a run: how many are done, how many there are, and how many are being run."""
        with connected(self.url) as connection:
            row = connection.execute(_CHUNKS, (run_id,)).fetchone()
        return (0, 0, 0) if row is None else (row[0], row[1], row[2])


class _Findings(RunLock):
    """Takes what was found out about a copy's steps over into the database."""

    def __init__(self, state: ClusterState, run_id: str) -> None:
        self._state = state
        self._run_id = run_id
        self._copy = state.journal_path(run_id)
        self._known = self._count()

    def _count(self) -> int:
        with closing(sqlite3.connect(self._copy)) as journal:
            return int(journal.execute("SELECT count(*) FROM evidence").fetchone()[0])

    def release(self) -> None:
        """Write what was found into the database, and let go.

        Raises:
            RunBusyError: Somebody resumed the run meanwhile.
            JournalError: The database cannot be used.
        """
        with closing(sqlite3.connect(self._copy)) as journal:
            found = journal.execute(
                "SELECT e.step, e.at_ns, e.found, e.before, e.after, r.reason FROM evidence e "
                "JOIN result r USING (step) ORDER BY e.rowid LIMIT -1 OFFSET ?",
                (self._known,),
            ).fetchall()
        if found:
            self._write(found)

    def _write(self, found: Iterable[tuple[Any, ...]]) -> None:
        with connected(self._state.url) as connection, connection.transaction():
            row = connection.execute(
                "SELECT 1 FROM run WHERE run_id = %s AND ended_ns IS NOT NULL FOR UPDATE", (self._run_id,)
            ).fetchone()
            if row is None:
                raise RunBusyError(
                    f"run {self._run_id} was resumed meanwhile: nothing was put on record",
                    hint="wait until it is over, then reconcile again",
                )
            for step, at_ns, what, before, after, reason in found:
                connection.execute(
                    "INSERT INTO evidence (run_id, step, at_ns, found, before, after) VALUES (%s, %s, %s, %s, %s, %s)",
                    (self._run_id, step, at_ns, what, before, after),
                )
                if after != Outcome.UNKNOWN:
                    connection.execute(
                        "UPDATE result SET outcome = %s, reason = %s WHERE run_id = %s AND step = %s "
                        "AND chunk = (SELECT chunk FROM step WHERE run_id = %s AND step = %s)",
                        (after, reason, self._run_id, step, self._run_id, step),
                    )
            connection.execute("SELECT count_again(%s)", (self._run_id,))


def _summary(
    run_id: str,
    manifest: str,
    campaign: str,
    steps: int,
    live: bool,
    started_ns: int,
    ended_ns: int | None,
    end_reason: str | None,
    tallies: dict[str, int] | None,
) -> RunSummary:
    outcomes = dict.fromkeys(Outcome, 0)
    for outcome, count in (tallies or {}).items():
        outcomes[Outcome.ACCEPTED if outcome == "not_confirmed" else Outcome(outcome)] += int(count)
    outcomes[Outcome.NOT_STARTED] = steps - sum(outcomes.values())
    state = RunState.RUNNING
    if not live and end_reason is not None:
        reason = StopReason(end_reason)
        state = RunState.ABORTED if reason.aborts else _ENDED_AS[reason]
    return RunSummary(
        run_id,
        state,
        manifest,
        campaign,
        rfc3339(started_ns),
        None if ended_ns is None else rfc3339(ended_ns),
        {outcome: count for outcome, count in outcomes.items() if count},
    )
