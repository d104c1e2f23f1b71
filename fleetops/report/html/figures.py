"""A run in figures over time, counted by SQLite: a million attempts take a second and no memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetops.journal.views import OPEN_TRIED
from fleetops.model import NS_PER_S, Outcome, ReplyKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from fleetops.journal.views import RunView

MOST_SLICES: Final = 240
MOST_EVENTS: Final = 200
LATENCY_UNIT_S: Final = 0.0001

_SLICES_MS: Final = (
    *(1_000, 2_000, 5_000, 10_000, 15_000, 30_000),
    *(minutes * 60_000 for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440)),
)
_NS_PER_MS: Final = 1_000_000

_ENDS: Final = """
SELECT process, max(at_ns) FROM (
    SELECT process, max(max(intent_ns), coalesce(max(answered_ns), 0)) AS at_ns FROM attempt GROUP BY process
    UNION ALL SELECT process, max(finished_ns) FROM result WHERE process IS NOT NULL GROUP BY process
) GROUP BY process
"""
_SENDS: Final = f"""
SELECT process, (coalesce(sent_ns, intent_ns) - :start_ns) / :slice_ns AS slice, count(*),
       count(*) FILTER (WHERE kind = '{ReplyKind.THROTTLED}')
FROM attempt GROUP BY process, slice
"""  # noqa: S608 - made of constants
_FINISHED: Final = """
SELECT coalesce(process, 1) AS by, (finished_ns - :start_ns) / :slice_ns AS slice, outcome, count(*)
FROM result GROUP BY by, slice, outcome
"""
_LATENCIES: Final = """
SELECT max(0, answered_ns - sent_ns) / :unit_ns AS units, count(*) FROM attempt
WHERE sent_ns IS NOT NULL AND answered_ns IS NOT NULL GROUP BY units ORDER BY units
"""
_FAILED_BY_GROUP: Final = f"""
SELECT d.grp, f.outcome, count(*)
FROM (SELECT step, outcome FROM result WHERE outcome IN ('failed', 'unknown')
      UNION ALL SELECT step, outcome FROM ({OPEN_TRIED}) WHERE outcome = 'unknown' AND reason <> 'in_flight') f
JOIN step USING (step) JOIN device d USING (device) GROUP BY d.grp, f.outcome
"""  # noqa: S608 - made of constants
_STEPS_BY_GROUP: Final = "SELECT d.grp, count(*) FROM step JOIN device d USING (device) GROUP BY d.grp"
_EVENTS: Final = "SELECT process, at_ns, event, detail FROM event ORDER BY process DESC, at_ns DESC LIMIT :most"


@dataclass(frozen=True, slots=True)
class GroupFailures:
    """What went wrong in a group.

    Attributes:
        group: Its name; empty for the devices without one.
        steps: Its steps.
        failed: Those of them that failed.
        unknown: Those that may have run.
    """

    group: str
    steps: int
    failed: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A run over time, in slices of equal length from its start.

    Attributes:
        slice_s: The length of a slice, in seconds.
        length_s: From the start to the last thing that happened, or until now while it runs.
        sends: Requests sent in each slice.
        throttled: Those of them that were answered with 429.
        finished: Steps by outcome that have had it by the end of each slice.
        latencies: How many answers took so many `LATENCY_UNIT_S`, in ascending order.
        devices: How many devices there are.
        grouped: Whether any device has a group.
        groups: The groups in which something went wrong, the worst first.
        events: What happened to the run as a whole: seconds from its start, the event, its details. The last of it.
        events_left_out: Earlier events.
    """

    slice_s: float
    length_s: float
    sends: Sequence[int]
    throttled: Sequence[int]
    finished: Mapping[Outcome, Sequence[int]]
    latencies: Sequence[tuple[int, int]]
    devices: int
    grouped: bool
    groups: Sequence[GroupFailures]
    events: Sequence[tuple[float, str, str]]
    events_left_out: int


def read_figures(view: RunView) -> Figures:
    """The figures of a run.

    Raises:
        JournalError: The journal is damaged.
    """
    with view.reading() as reader:
        reckoning = _Reckoning(view, reader)
        sends, throttled = reckoning.sends()
        devices, grouped = reader.execute("SELECT count(*), coalesce(max(grp <> ''), 0) FROM device").fetchone()
        (events,) = reader.execute("SELECT count(*) FROM event").fetchone()
        return Figures(
            slice_s=reckoning.slice_ms / 1000,
            length_s=reckoning.length_ns / NS_PER_S,
            sends=sends,
            throttled=throttled,
            finished=reckoning.finished(),
            latencies=reader.execute(_LATENCIES, {"unit_ns": round(LATENCY_UNIT_S * NS_PER_S)}).fetchall(),
            devices=devices,
            grouped=bool(grouped),
            groups=_groups(view, reader) if grouped else (),
            events=reckoning.events(),
            events_left_out=max(0, events - MOST_EVENTS),
        )


class _Reckoning:
    """Counts by slice, with what each process's clock was off from the first one's taken out."""

    def __init__(self, view: RunView, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._start_ns = view.started_ns or view.facts.created_ns
        first = view.processes[0].process if view.processes else 1
        self._steps_ns = {one: stepped for (other, one), stepped in view.clock_steps_ns.items() if other == first}
        ends = [self._since_start_ns(at_ns, process) for process, at_ns in reader.execute(_ENDS)]
        self.length_ns = max([view.took_ns or 0, *ends])
        length_ms = self.length_ns // _NS_PER_MS
        whole_days_ms = -(-length_ms // MOST_SLICES // _SLICES_MS[-1]) * _SLICES_MS[-1]
        self.slice_ms = next((ms for ms in _SLICES_MS if length_ms < ms * MOST_SLICES), whole_days_ms)
        self._slices = length_ms // self.slice_ms + 1
        self._slice_ns = self.slice_ms * _NS_PER_MS

    def _since_start_ns(self, at_ns: int, process: int) -> int:
        return max(0, at_ns - self._start_ns - self._steps_ns.get(process, 0))

    def _slice(self, counted: int, process: int) -> int:
        shifted = counted - round(self._steps_ns.get(process, 0) / self._slice_ns)
        return min(max(0, shifted), self._slices - 1)

    @property
    def _parameters(self) -> dict[str, int]:
        return {"start_ns": self._start_ns, "slice_ns": self._slice_ns}

    def sends(self) -> tuple[list[int], list[int]]:
        """Requests, and those answered with 429, by slice."""
        sends, throttled = [0] * self._slices, [0] * self._slices
        for process, counted, count, refused in self._reader.execute(_SENDS, self._parameters):
            at = self._slice(counted, process)
            sends[at] += count
            throttled[at] += refused
        return sends, throttled

    def finished(self) -> dict[Outcome, list[int]]:
        """Steps that have an outcome by the end of each slice."""
        counts = {outcome: Counter[int]() for outcome in Outcome}
        for process, counted, outcome, count in self._reader.execute(_FINISHED, self._parameters):
            counts[Outcome(outcome)][self._slice(counted, process)] += count
        return {outcome: self._summed(by_slice) for outcome, by_slice in counts.items() if by_slice}

    def _summed(self, by_slice: Counter[int]) -> list[int]:
        total, sums = 0, []
        for at in range(self._slices):
            total += by_slice[at]
            sums.append(total)
        return sums

    def events(self) -> list[tuple[float, str, str]]:
        """What happened to the run as a whole, in order."""
        rows = self._reader.execute(_EVENTS, {"most": MOST_EVENTS}).fetchall()
        return [
            (self._since_start_ns(at_ns, process) / NS_PER_S, event, detail)
            for process, at_ns, event, detail in reversed(rows)
        ]


def _groups(view: RunView, reader: sqlite3.Connection) -> list[GroupFailures]:
    failures = {(group, outcome): count for group, outcome, count in reader.execute(_FAILED_BY_GROUP, view.standing)}
    if not failures:
        return []
    steps = dict(reader.execute(_STEPS_BY_GROUP).fetchall())
    groups = [
        GroupFailures(
            group,
            steps[group],
            failures.get((group, Outcome.FAILED.value), 0),
            failures.get((group, Outcome.UNKNOWN.value), 0),
        )
        for group in {group for group, _ in failures}
    ]
    return sorted(groups, key=lambda one: (-one.failed - one.unknown, one.group))
