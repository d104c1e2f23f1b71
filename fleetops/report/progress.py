"""How a run stands at a moment, as whoever looks on is shown it: from the runner itself, or from its journal."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetops.model import NS_PER_S, Outcome, Reason
from fleetops.policy.window import Calendar
from fleetops.scheduler import Event, WaitFor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetops.journal.views import Failure, RunView
    from fleetops.policy import Policy
    from fleetops.policy.window import Interval
    from fleetops.runner import Snapshot
    from fleetops.scheduler import StopReason

_RATE_OVER_S: Final = 10.0
_MOST_FAILURES: Final = 20

_SETTLING: Final = """
SELECT count(DISTINCT s.device)
FROM result r JOIN step s USING (step)
WHERE r.finished_ns > :now_ns - s.settle_ns AND r.process = :process AND r.outcome IN ('accepted', 'confirmed')
  AND s.device IN (SELECT o.device FROM step o WHERE NOT EXISTS (SELECT 1 FROM result WHERE result.step = o.step))
"""
_EVENTS: Final = "SELECT event, detail, max(at_ns) AS last_ns FROM event WHERE process = ? GROUP BY event"
_LAST_WAVE: Final = "SELECT detail FROM event WHERE event = 'wave_started' ORDER BY process DESC, at_ns DESC LIMIT 1"
_HOLD: Final = "SELECT value FROM run WHERE key = 'hold_until_ns'"
_WAVE: Final = re.compile(r"wave (\d+) of (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run stands.

    Attributes:
        run_id: Its name.
        campaign: The manifest's own title; may be empty.
        steps: How many steps it has.
        outcomes: How many have each final outcome.
        elapsed_s: Since this process began to drive it, in seconds.
        left_s: What is left at the pace so far, in seconds; None where that cannot be said.
        planned_s: How long its plan says that it takes; None where it has none.
        sent_per_s: Requests a second over the last ten seconds.
        per_s: The rate in force, in operations per second; None where that is not known.
        asked_per_s: The rate asked for.
        in_flight: Requests that are not answered.
        waiting: Devices that settle; those that back off too, where that is known.
        ready: Devices whose next step could be sent now; None where that is not known.
        wave: The wave that was let in last, from 1, and how many there are.
        window: The opening of the maintenance window that it is in, or the next one; None without windows.
        now_ns: The time now, in nanoseconds since the epoch.
        waits_for: What keeps the next send from leaving; None while sends leave.
        wait_s: For how long at least, in seconds; None where that is not known.
        stopping: Why nothing more is sent, or None.
        failures: The last steps that failed or may have run, newest first.
    """

    run_id: str
    campaign: str
    steps: int
    outcomes: Mapping[Outcome, int]
    elapsed_s: float
    left_s: float | None
    planned_s: float | None
    sent_per_s: float
    per_s: float | None
    asked_per_s: float
    in_flight: int
    waiting: int
    ready: int | None
    wave: tuple[int, int]
    window: Interval | None
    now_ns: int
    waits_for: WaitFor | None
    wait_s: float | None
    stopping: StopReason | None
    failures: Sequence[Failure]

    @property
    def done(self) -> int:
        """How many steps have their outcome."""
        return sum(self.outcomes.values())


class Pace:
    """How fast a run gets on, from looks at it. Times are in seconds, by any clock that goes evenly."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, now_s: float, done: int, sends: int) -> None:
        """So many steps are done, and so many requests have left."""
        if self._begun is None:
            self._begun = (now_s, done)
        self._looks.append((now_s, sends))
        while len(self._looks) > 2 and self._looks[1][0] <= now_s - _RATE_OVER_S:  # noqa: PLR2004 - one to compare with
            self._looks.popleft()

    @property
    def elapsed_s(self) -> float:
        """From the first look to the last."""
        return self._looks[-1][0] - self._begun[0] if self._begun else 0.0

    def sent_per_s(self) -> float:
        """Requests a second over the last seconds."""
        if not self._looks:
            return 0.0
        (from_s, before), (to_s, now) = self._looks[0], self._looks[-1]
        return (now - before) / (to_s - from_s) if to_s > from_s else 0.0

    def left_s(self, done: int, steps: int) -> float | None:
        """What is left at this pace; None where nothing can be said yet."""
        if self._begun is None or done <= self._begun[1] or done >= steps:
            return None
        return (steps - done) * self.elapsed_s / (done - self._begun[1])


class Onlooker:
    """Looks at a run that this process drives, again and again.

    Args:
        run_id: Its name.
        campaign: Its title.
        policy: How it is run; its windows are shown.
        planned_s: How long its plan says that it takes; None where it has none.
    """

    def __init__(
        self, run_id: str = "", campaign: str = "", policy: Policy | None = None, planned_s: float | None = None
    ) -> None:
        self._run_id = run_id
        self._campaign = campaign
        self._planned_s = planned_s
        self._calendar = calendar_of(policy)
        self._pace = Pace()

    def look(self, snapshot: Snapshot, now_ns: int, now_s: float) -> Standing:
        """How the run stands now.

        Args:
            snapshot: What its runner says.
            now_ns: The time, in nanoseconds since the epoch.
            now_s: The time by a clock that goes evenly, in seconds.
        """
        done = sum(snapshot.outcomes.values())
        self._pace.look(now_s, done, snapshot.sends)
        return Standing(
            run_id=self._run_id,
            campaign=self._campaign,
            steps=snapshot.steps,
            outcomes=snapshot.outcomes,
            elapsed_s=self._pace.elapsed_s,
            left_s=None if snapshot.stopping is not None else self._pace.left_s(done, snapshot.steps),
            planned_s=self._planned_s,
            sent_per_s=self._pace.sent_per_s(),
            per_s=snapshot.per_s,
            asked_per_s=snapshot.asked_per_s,
            in_flight=snapshot.in_flight,
            waiting=snapshot.waiting,
            ready=snapshot.ready,
            wave=snapshot.wave,
            window=None if self._calendar is None else self._calendar.next_opening(now_ns),
            now_ns=now_ns,
            waits_for=snapshot.waits_for,
            wait_s=None if snapshot.wait_ns is None else snapshot.wait_ns / NS_PER_S,
            stopping=snapshot.stopping,
            failures=snapshot.failures,
        )


def calendar_of(policy: Policy | None) -> Calendar | None:
    """The maintenance windows of a policy; None where it has none."""
    return Calendar(policy.window, policy.blackout) if policy is not None and policy.window else None


def standing_of(view: RunView) -> Standing:
    """How a run that a process drives stands, as its journal has it.

    Raises:
        JournalError: The journal is damaged.
    """
    outcomes = dict(view.outcomes)
    outcomes[Outcome.NOT_STARTED] -= view.tally.get((Outcome.NOT_STARTED, view.left_because), 0)
    in_flight = view.tally.get((Outcome.UNKNOWN, Reason.IN_FLIGHT), 0)
    outcomes[Outcome.UNKNOWN] -= in_flight
    process = view.processes[-1].process if view.processes else 0
    now_ns = view.now_ns or 0
    elapsed_s = max(0.0, (now_ns - view.processes[-1].started_ns) / NS_PER_S) if view.processes else 0.0
    with view.reading() as reader:
        settling = reader.execute(_SETTLING, {"now_ns": now_ns, "process": process}).fetchone()[0]
        done_here = reader.execute("SELECT count(*) FROM result WHERE process = ?", (process,)).fetchone()[0]
        devices = reader.execute("SELECT count(*) FROM device").fetchone()[0]
        hold_until_ns = int((reader.execute(_HOLD).fetchone() or ("0",))[0])
        wave = reader.execute(_LAST_WAVE).fetchone()
        events = {Event(one): (at_ns, detail) for one, detail, at_ns in reader.execute(_EVENTS, (process,))}
    left = view.steps - sum(outcomes.values())
    calendar = None if Event.WINDOW_IGNORED in events else calendar_of(view.policy)
    window = None if calendar is None else calendar.next_opening(now_ns)
    waits_for, wait_s = _waits_for(events, window, hold_until_ns, now_ns)
    asked = events.get(Event.RATE)
    return Standing(
        run_id=view.facts.run_id,
        campaign=view.facts.campaign,
        steps=view.steps,
        outcomes=outcomes,
        elapsed_s=elapsed_s,
        left_s=left * elapsed_s / done_here if done_here and left else None,
        planned_s=planned_s(view.facts.plan) if len(view.processes) == 1 else None,
        sent_per_s=view.recent_rate_per_s(),
        per_s=None,
        asked_per_s=view.policy.rate.per_s if asked is None else float(asked[1].removesuffix("/s")),
        in_flight=in_flight,
        waiting=settling,
        ready=None,
        wave=_wave(wave[0] if wave else "", view.policy, devices),
        window=window,
        now_ns=now_ns,
        waits_for=waits_for,
        wait_s=wait_s,
        stopping=None,
        failures=view.recent_failures(_MOST_FAILURES),
    )


def planned_s(forecast: str) -> float | None:
    """How long a run takes by what its plan predicted, as its journal keeps it; None where it has no plan."""
    return float(json.loads(forecast)["makespan_s"]) if forecast else None


def _waits_for(
    events: Mapping[Event, tuple[int, str]], window: Interval | None, hold_until_ns: int, now_ns: int
) -> tuple[WaitFor | None, float | None]:
    """What the run waits for, as far as its journal tells, and for how long."""
    last_ns = {event: events[event][0] if event in events else 0 for event in Event}
    if last_ns[Event.PAUSED] > last_ns[Event.CONTINUED]:
        return WaitFor.CONTINUE, None
    if window is not None and window.start_ns > now_ns:
        return WaitFor.WINDOW, (window.start_ns - now_ns) / NS_PER_S
    if hold_until_ns > now_ns:
        return WaitFor.HOLD, (hold_until_ns - now_ns) / NS_PER_S
    if last_ns[Event.OUTAGE] > last_ns[Event.OUTAGE_OVER]:
        return WaitFor.OUTAGE, None
    return None, None


def _wave(told: str, policy: Policy, devices: int) -> tuple[int, int]:
    if policy.waves is None:
        return (1, 1)
    found = _WAVE.search(told)
    return (int(found[1]), int(found[2])) if found else (1, len(policy.waves.ends(devices)))
