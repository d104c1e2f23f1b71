"""Reading a run's journal without driving the run, also while another process writes it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from fleetops.errors import ExitCode, FleetopsError
from fleetops.journal.clock import boot_id, since_boot_ns
from fleetops.journal.readonly import connect_readonly, unreadable
from fleetops.journal.store import read_facts
from fleetops.model import NS_PER_S, Outcome, Reason, ReplyKind
from fleetops.policy import Policy
from fleetops.scheduler import Event, Notice, StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fleetops.journal.records import RunFacts
    from fleetops.journal.state import StateDir

_NS_PER_MS: Final = 1_000_000
RATE_OVER_S: Final = 10
"""Over how many seconds the rate of a live run is taken."""
_EVENTS: Final = frozenset(Event)
_MAY_HAVE_RUN: Final = ", ".join(f"'{kind}'" for kind in ReplyKind if kind.may_have_run)

OPEN_TRIED: Final = f"""
SELECT step,
       CASE WHEN lost_by IS NULL AND ran IS NULL THEN 'not_started' ELSE 'unknown' END AS outcome,
       CASE WHEN lost_by = :driver THEN 'in_flight'
            WHEN lost_by IS NOT NULL THEN 'crashed'
            WHEN ran IS NULL THEN :left_because
            ELSE coalesce((SELECT reason FROM attempt a WHERE a.step = tried.step AND a.attempt = ran), 'crashed')
       END AS reason,
       last_ns
FROM (SELECT step,
             max(process) FILTER (WHERE answered_ns IS NULL) AS lost_by,
             max(attempt) FILTER (WHERE kind IN ({_MAY_HAVE_RUN})) AS ran,
             max(intent_ns) AS last_ns
      FROM attempt
      WHERE step >= :from_step AND step < :to_step
        AND NOT EXISTS (SELECT 1 FROM result WHERE result.step = attempt.step)
      GROUP BY step) tried
"""  # noqa: S608 - made of constants
"""What the steps with an attempt and no result have come to: step, outcome, reason, time of the last intent.

Any other step without a result is `not_started`, for the reason `:left_because`. `RunView.standing` has the parameters.
"""

_UNUSUAL: Final = """
SELECT outcome, reason, count(*) FROM result WHERE outcome <> 'accepted' OR reason IS NOT NULL GROUP BY outcome, reason
"""
"""How many results there are of each kind but the one that most have: to group them all takes thrice the time."""

_RECENT: Final = f"""
SELECT s.step, d.serial, s.operation, t.outcome, t.reason, t.at_ns
FROM (SELECT step, outcome, reason, finished_ns AS at_ns FROM result WHERE outcome IN ('failed', 'unknown')
      UNION ALL
      SELECT step, outcome, reason, last_ns FROM ({OPEN_TRIED}) WHERE outcome = 'unknown' AND reason <> 'in_flight') t
JOIN step s USING (step) JOIN device d USING (device)
ORDER BY t.at_ns DESC, s.step DESC LIMIT :most
"""  # noqa: S608 - made of constants


class RunState(StrEnum):
    """How a run stands, in one word."""

    PREPARED = "prepared"
    RUNNING = "running"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    ABORTED = "aborted"
    WINDOW_CLOSED = "window_closed"
    FAILED = "failed"
    CRASHED = "crashed"
    DAMAGED = "damaged"


_ENDED_AS: Final = {
    StopReason.COMPLETE: RunState.COMPLETE,
    StopReason.INTERRUPTED: RunState.INTERRUPTED,
    StopReason.WINDOW_CLOSED: RunState.WINDOW_CLOSED,
    StopReason.HOST_FAILED: RunState.FAILED,
}
_LEFT_BECAUSE: Final = {
    RunState.RUNNING: Reason.PENDING,
    RunState.ABORTED: Reason.ABORTED,
    RunState.WINDOW_CLOSED: Reason.WINDOW_CLOSED,
}
_EXIT_BY_STATE: Final = {
    RunState.INTERRUPTED: ExitCode.INTERRUPTED,
    RunState.FAILED: ExitCode.HOST,
    RunState.ABORTED: ExitCode.ABORTED,
    RunState.RUNNING: ExitCode.INCOMPLETE,
    RunState.PREPARED: ExitCode.INCOMPLETE,
    RunState.WINDOW_CLOSED: ExitCode.INCOMPLETE,
}
_BY_SERIOUSNESS: Final = (
    ExitCode.INTERRUPTED,
    ExitCode.HOST,
    ExitCode.ABORTED,
    ExitCode.UNKNOWN,
    ExitCode.INCOMPLETE,
    ExitCode.FAILED,
)
BY_REQUEST: Final = frozenset({Reason.OFFLINE, Reason.EXCLUDED})
"""Why a step is skipped that nobody wanted sent; any other skip comes of a step that went wrong."""


class ProcessRecord(NamedTuple):
    """One process that drove the run. Times are nanoseconds since the epoch, by the wall clock at its start.

    Attributes:
        process: Its number, from 1.
        pid: Its process id.
        version: The version of fleetops.
        boot_id: The start of the host it belongs to; empty where the platform does not say.
        wall_minus_boot_ns: The wall clock less the time since boot, when it started.
        started_ns: When it began to drive the run.
        ended_ns: When it ended; None where it runs, or died.
        end_reason: Why it ended; None likewise.
        end_detail: What the service or the host said then; may be empty.
    """

    process: int
    pid: int
    version: str
    boot_id: str
    wall_minus_boot_ns: int
    started_ns: int
    ended_ns: int | None
    end_reason: StopReason | None
    end_detail: str


class Failure(NamedTuple):
    """A step that failed, or that may have run.

    Attributes:
        step: The step; it is row `step + 1` of the manifest.
        serial: Its device.
        operation: Its operation.
        outcome: `failed` or `unknown`.
        reason: Why.
        at_ns: When, in nanoseconds since the epoch.
    """

    step: int
    serial: str
    operation: str
    outcome: Outcome
    reason: Reason | None
    at_ns: int


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in one line.

    Attributes:
        run_id: Its name.
        state: How it stands; `damaged` where its journal cannot be read.
        manifest: The manifest as the user named it; empty where the journal cannot be read.
        campaign: The manifest's own title; may be empty.
        started_at: When its first process began, RFC 3339 in UTC; None where none has.
        finished_at: When its last process ended; None where it runs, or died.
        outcomes: How many steps have each outcome; those that no step has are left out.
        trouble: Why the journal cannot be read; empty where it can.
    """

    run_id: str
    state: RunState
    manifest: str = ""
    campaign: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    outcomes: Mapping[Outcome, int] | None = None
    trouble: str = ""


class RunView:
    """A run as its journal has it at one moment: whatever is written meanwhile is not seen. Use it in a `with`.

    Attributes:
        path: The journal.
        facts: What the run is.
        processes: The processes that drove it, in order.
        live: Whether a process drives it.
        steps: How many steps it has.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, *, live: bool) -> None:
        self._connection = connection
        self.path = path
        self.live = live
        with self.reading() as reader:
            reader.execute("BEGIN")
            self.facts: RunFacts = read_facts(reader)
            self.processes = [_process(row) for row in reader.execute(_PROCESSES)]
            self.steps: int = reader.execute("SELECT coalesce(max(step) + 1, 0) FROM step").fetchone()[0]

    @classmethod
    def open(cls, state: StateDir, run_id: str) -> Self:
        """Open the journal of a run for reading.

        Raises:
            UsageError: There is no such run.
            JournalError: The journal cannot be read.
        """
        path = state.journal_path(run_id)
        # A process may end between the two looks; what the journal says of an end counts more than either.
        live = state.is_live(run_id)
        connection = connect_readonly(path)
        try:
            view = cls(connection, path, live=live)
        except BaseException:
            connection.close()
            raise
        view.live = live or state.is_live(run_id)
        return view

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the journal."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The journal, to query.

        Raises:
            JournalError: It turns out to be damaged.
        """
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise unreadable(self.path, str(error)) from None
        except (KeyError, TypeError, ValueError):
            raise unreadable(self.path, "an entry is missing, or is none that this version knows") from None

    @cached_property
    def policy(self) -> Policy:
        """The policy that the run goes on with."""
        with self.reading() as reader:
            return Policy.from_json(reader.execute("SELECT value FROM run WHERE key = 'policy'").fetchone()[0])

    @property
    def state(self) -> RunState:
        """How the run stands."""
        if not self.processes:
            return RunState.PREPARED
        reason = self.processes[-1].end_reason
        if reason is None:
            return RunState.RUNNING if self.live else RunState.CRASHED
        return RunState.ABORTED if reason.aborts else _ENDED_AS[reason]

    @property
    def started_ns(self) -> int | None:
        """When the first process began to drive the run, in nanoseconds since the epoch; None where none has."""
        return self.processes[0].started_ns if self.processes else None

    @property
    def finished_ns(self) -> int | None:
        """When the last process ended, in nanoseconds since the epoch; None where it runs, or died."""
        return self.processes[-1].ended_ns if self.processes else None

    @property
    def started_at(self) -> str | None:
        """`started_ns` in RFC 3339."""
        return None if self.started_ns is None else rfc3339(self.started_ns)

    @property
    def finished_at(self) -> str | None:
        """`finished_ns` in RFC 3339."""
        return None if self.finished_ns is None else rfc3339(self.finished_ns)

    def elapsed_ns(self, from_ns: int, from_process: int, to_ns: int, to_process: int) -> int:
        """The time from one moment to another, each by the clock of the process that noted it.

        A step of the wall clock between two processes of the same boot does not count.
        """
        return max(0, to_ns - from_ns - self.clock_steps_ns.get((from_process, to_process), 0))

    @cached_property
    def clock_steps_ns(self) -> dict[tuple[int, int], int]:
        """By two processes of the same boot, by how much the wall clock was stepped from the one to the other."""
        return {
            (one.process, other.process): other.wall_minus_boot_ns - one.wall_minus_boot_ns
            for one in self.processes
            for other in self.processes
            if one.boot_id and one.boot_id == other.boot_id
        }

    @property
    def took_ns(self) -> int | None:
        """The time from the start of the first process to the end of the last, or until now while it runs."""
        if not self.processes:
            return None
        first, last = self.processes[0], self.processes[-1]
        ended_ns = self.now_ns if self.state is RunState.RUNNING else last.ended_ns
        if ended_ns is None:
            return None
        return self.elapsed_ns(first.started_ns, first.process, ended_ns, last.process)

    @property
    def now_ns(self) -> int | None:
        """The time now by the last process's clock; None where there was none, or in an earlier boot."""
        last = self.processes[-1] if self.processes else None
        return None if last is None or last.boot_id != boot_id() else since_boot_ns() + last.wall_minus_boot_ns

    @property
    def standing(self) -> dict[str, object]:
        """The parameters of `OPEN_TRIED`, for all steps."""
        driver = self.processes[-1].process if self.state is RunState.RUNNING else None
        return {"driver": driver, "left_because": self.left_because, "from_step": 0, "to_step": self.steps}

    @property
    def left_because(self) -> Reason:
        """Why the steps that were never sent were not."""
        if self.state is RunState.PREPARED and self.live:
            return Reason.PENDING
        return _LEFT_BECAUSE.get(self.state, Reason.INTERRUPTED)

    @cached_property
    def tally(self) -> Mapping[tuple[Outcome, Reason | None], int]:
        """How many steps have each outcome, by reason; what became of open steps is worked out."""
        tally: Counter[tuple[Outcome, Reason | None]] = Counter()
        with self.reading() as reader:
            finished = reader.execute("SELECT count(*) FROM result").fetchone()[0]
            unusual = reader.execute(_UNUSUAL).fetchall()
            rows = [("accepted", None, finished - sum(count for *_, count in unusual)), *unusual]
            # What open steps have come to takes a look at every attempt.
            if finished < self.steps:
                rows += reader.execute(
                    f"SELECT outcome, reason, count(*) FROM ({OPEN_TRIED}) GROUP BY outcome, reason",  # noqa: S608 - a constant
                    self.standing,
                ).fetchall()
            for outcome, reason, count in rows:
                tally[Outcome(outcome), Reason(reason) if reason else None] += count
        tally[Outcome.NOT_STARTED, self.left_because] += self.steps - tally.total()
        return {key: count for key, count in tally.items() if count}

    @cached_property
    def outcomes(self) -> dict[Outcome, int]:
        """How many steps have each outcome, all outcomes named, in their usual order."""
        counts = dict.fromkeys(Outcome, 0)
        for (outcome, _), count in self.tally.items():
            counts[outcome] += count
        return counts

    @cached_property
    def unconfirmed(self) -> int:
        """How many accepted steps are still to be confirmed by the policy, whether a process drives the run or not."""
        confirm = self.policy.confirm
        if not confirm.enabled:
            return 0
        holes = ", ".join("?" * len(confirm.operations))
        with self.reading() as reader:
            row = reader.execute(
                "SELECT count(*) FROM result JOIN step USING (step) "  # noqa: S608 - holes alone are put in
                f"WHERE outcome = 'accepted' AND reason IS NULL AND operation IN ({holes})",
                confirm.operations,
            ).fetchone()
        return int(row[0])

    def exit_code(self) -> ExitCode:
        """The exit code of the run as it stands: the most serious that applies.

        Requests in flight count as incomplete, not as unknown.
        """
        codes = {_EXIT_BY_STATE.get(self.state, ExitCode.OK)}
        codes.update(_exit_of(outcome, reason) for outcome, reason in self.tally)
        return next((code for code in _BY_SERIOUSNESS if code in codes), ExitCode.OK)

    def recent_failures(self, most: int) -> list[Failure]:
        """The last steps that failed or may have run, newest first; `most` at most."""
        with self.reading() as reader:
            return [
                Failure(step, serial, operation, Outcome(outcome), Reason(reason) if reason else None, at_ns)
                for step, serial, operation, outcome, reason, at_ns in reader.execute(
                    _RECENT, {**self.standing, "most": most}
                )
            ]

    @cached_property
    def happenings(self) -> list[Notice]:
        """What happened to the run as a whole since its last process took it up, in order."""
        if not self.processes:
            return []
        with self.reading() as reader:
            rows = reader.execute(
                "SELECT at_ns, event, detail FROM event WHERE process = ? ORDER BY rowid",
                (self.processes[-1].process,),
            ).fetchall()
        # What a newer version tells of and this one does not know is left out.
        return [Notice(at_ns, Event(event), detail) for at_ns, event, detail in rows if event in _EVENTS]

    def recent_throttled(self, over_s: int = RATE_OVER_S) -> int:
        """How many answers of the last seconds were 429; 0 where nothing runs."""
        now_ns = self.now_ns if self.state is RunState.RUNNING else None
        if now_ns is None:
            return 0
        with self.reading() as reader:
            row = reader.execute(
                "SELECT count(*) FROM attempt WHERE process = ? AND intent_ns > ? AND http_status = 429",
                (self.processes[-1].process, now_ns - over_s * NS_PER_S),
            ).fetchone()
        return int(row[0])

    def recent_rate_per_s(self, over_s: int = RATE_OVER_S) -> float:
        """Sends per second over the last seconds, retries included; 0 where nothing runs."""
        now_ns = self.now_ns if self.state is RunState.RUNNING else None
        if now_ns is None:
            return 0.0
        with self.reading() as reader:
            row = reader.execute(
                "SELECT count(*) FROM attempt WHERE process = ? AND intent_ns > ?",
                (self.processes[-1].process, now_ns - over_s * NS_PER_S),
            ).fetchone()
        ran_s = (now_ns - self.processes[-1].started_ns) / NS_PER_S
        return float(row[0]) / max(1.0, min(over_s, ran_s))

    def summary(self) -> RunSummary:
        """The run in one line."""
        return RunSummary(
            self.facts.run_id,
            self.state,
            self.facts.manifest,
            self.facts.campaign,
            self.started_at,
            self.finished_at,
            {outcome: count for outcome, count in self.outcomes.items() if count},
        )


def summaries(state: StateDir) -> list[RunSummary]:
    """All runs of a state directory, newest first; a journal that cannot be read does not keep the others from view."""
    return [_summary(state, run_id) for run_id in state.run_ids()]


def _summary(state: StateDir, run_id: str) -> RunSummary:
    try:
        with RunView.open(state, run_id) as view:
            return view.summary()
    except FleetopsError as error:
        return RunSummary(run_id, RunState.DAMAGED, outcomes={}, trouble=error.message)


def rfc3339(moment_ns: int) -> str:
    """A moment in nanoseconds since the epoch as RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(moment_ns // NS_PER_S, tz=UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{moment_ns % NS_PER_S // _NS_PER_MS:03}Z"


_PROCESSES: Final = (
    "SELECT process, pid, version, boot_id, wall_minus_boot_ns, started_ns, ended_ns, end_reason, end_detail "
    "FROM process ORDER BY process"
)


def _process(row: tuple[Any, ...]) -> ProcessRecord:
    record = ProcessRecord(*row)
    return record if record.end_reason is None else record._replace(end_reason=StopReason(record.end_reason))


def _exit_of(outcome: Outcome, reason: Reason | None) -> ExitCode:
    match outcome:
        case Outcome.FAILED:
            return ExitCode.FAILED
        case Outcome.UNKNOWN:
            return ExitCode.INCOMPLETE if reason is Reason.IN_FLIGHT else ExitCode.UNKNOWN
        case Outcome.NOT_STARTED:
            return ExitCode.INCOMPLETE
        case Outcome.SKIPPED:
            return ExitCode.OK if reason in BY_REQUEST else ExitCode.FAILED
        case _:
            return ExitCode.OK
