"""A run in a few lines for people: how it ended, what became of its steps, and what to do next."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetops.journal.views import BY_REQUEST, RunState
from fleetops.model import NS_PER_S, Outcome, Reason
from fleetops.report.standing import standing
from fleetops.scheduler import StopReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetops.errors import ExitCode
    from fleetops.journal.views import RunView

_RESUMABLE: Final = frozenset(RunState) - {RunState.RUNNING, RunState.COMPLETE, RunState.DAMAGED}
_RESUME_WITH: Final = {
    StopReason.TOKEN_REFUSED: "with a token in FLEETOPS_TOKEN that the service accepts",
    StopReason.MISDIRECTED: "with the right --base-url",
    StopReason.WINDOW_CLOSED: "when the maintenance window is open again",
    StopReason.HOST_FAILED: "once this host is mended",
    StopReason.GATE_FAILED: "goes on in spite of the wave's gate",
}
_LABEL_WIDTH: Final = 12
_FORBIDDEN: Final = """
SELECT DISTINCT serial FROM attempt a JOIN step USING (step) JOIN device USING (device)
WHERE http_status = 403 AND process = ? AND NOT EXISTS (SELECT 1 FROM result WHERE result.step = a.step)
      AND EXISTS (SELECT 1 FROM attempt WHERE kind = 'accepted')
ORDER BY intent_ns LIMIT 3
"""
_LINE_WIDTH: Final = 80


@dataclass(frozen=True, slots=True)
class NextStep:
    """Something to do next.

    Attributes:
        command: A command line.
        why: What it is good for.
    """

    command: str
    why: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in figures.

    Attributes:
        run_id: Its name.
        campaign: The manifest's own title; may be empty.
        manifest: The manifest as the user named it.
        state: How it stands.
        ended: Why its last process ended, in a word, and what the service or the host said; empty where it runs, died,
            or is complete.
        steps: How many steps it has.
        outcomes: How many have each outcome, all outcomes named.
        reasons: How many have each outcome and reason, the most frequent reason of an outcome first.
        started_at: When it began, RFC 3339 in UTC; None where it has not.
        finished_at: When it ended; None where it runs, or died.
        took_ns: From the first process's start to the last one's end, in nanoseconds; None where it is not known.
        processes: How many processes have driven it.
        exit_code: Its exit code.
        next_steps: What to do next.
        now: What it does, and what it waits for, a line each; empty where no process drives it.
    """

    run_id: str
    campaign: str
    manifest: str
    state: RunState
    ended: str
    steps: int
    outcomes: Mapping[Outcome, int]
    reasons: Mapping[tuple[Outcome, Reason], int]
    started_at: str | None
    finished_at: str | None
    took_ns: int | None
    processes: int
    exit_code: ExitCode
    next_steps: tuple[NextStep, ...]
    now: tuple[str, ...] = ()

    def text(self) -> str:
        """The summary in plain lines."""
        return "\n".join([*self._heading(), "", *self._table(), *self._advice()]) + "\n"

    def _heading(self) -> list[str]:
        title = f" ({self.campaign})" if self.campaign else ""
        lines = [f"Run {self.run_id}{title}: {self.state.replace('_', ' ')}"]
        if self.ended:
            lines.append(_labelled("ended", self.ended))
        lines.append(_labelled("manifest", self.manifest))
        if self.started_at is not None:
            lines.append(_labelled("started", self.started_at))
        if self.finished_at is not None:
            lines.append(_labelled("finished", self.finished_at))
        if self.took_ns is not None:
            over = f" in {self.processes} sittings" if self.processes > 1 else ""
            lines.append(_labelled("took", f"{rounded_duration(self.took_ns)}{over}"))
        return [*lines, *(_labelled("" if at else "now", line) for at, line in enumerate(self.now))]

    def _table(self) -> list[str]:
        width = max(len(f"{self.steps:,}"), len("steps"))
        lines = []
        for outcome, count in self.outcomes.items():
            if count:
                because = [f"{reason} {n:,}" for (which, reason), n in self.reasons.items() if which is outcome]
                line = f"  {outcome:<{_LABEL_WIDTH}} {count:>{width},}"
                lines.append(f"{line}   {', '.join(because)}" if because else line)
        return [*lines, f"  {'steps':<{_LABEL_WIDTH}} {self.steps:>{width},}"]

    def _advice(self) -> list[str]:
        if not self.next_steps:
            return []
        width = max(len(step.command) for step in self.next_steps)
        lines = [f"  {step.command:<{width}}   {step.why}" for step in self.next_steps]
        if max(map(len, lines)) > _LINE_WIDTH:
            lines = [line for step in self.next_steps for line in (f"  {step.command}", f"      {step.why}")]
        return ["", "Next:", *lines]


def summarise(view: RunView) -> Summary:
    """Sum up a run.

    Raises:
        JournalError: The journal is damaged.
    """
    by_count = sorted(view.tally.items(), key=lambda entry: (-entry[1], str(entry[0][1])))
    return Summary(
        run_id=view.facts.run_id,
        campaign=view.facts.campaign,
        manifest=view.facts.manifest,
        state=view.state,
        ended=_ended(view),
        steps=view.steps,
        outcomes=view.outcomes,
        reasons={(outcome, reason): count for (outcome, reason), count in by_count if reason is not None},
        started_at=view.started_at,
        finished_at=view.finished_at,
        took_ns=view.took_ns,
        processes=len(view.processes),
        exit_code=view.exit_code(),
        next_steps=_next_steps(view),
        now=standing(view),
    )


def _ended(view: RunView) -> str:
    last = view.processes[-1] if view.processes else None
    if last is None or last.end_reason in {None, StopReason.COMPLETE}:
        return ""
    reason = str(last.end_reason).replace("_", " ")
    return f"{reason}: {last.end_detail}" if last.end_detail else reason


def _next_steps(view: RunView) -> tuple[NextStep, ...]:
    run_id, outcomes = view.facts.run_id, view.outcomes
    if view.state is RunState.RUNNING:
        return (NextStep(f"fleetops status {run_id} --watch", "shows how it goes on"),)
    steps = []
    resumable = view.state in _RESUMABLE
    if resumable and (outcomes[Outcome.NOT_STARTED] or outcomes[Outcome.UNKNOWN] or view.unconfirmed):
        reason = view.processes[-1].end_reason if view.processes else None
        with_what = _RESUME_WITH.get(reason, "") if reason else ""
        steps.append(NextStep(f"fleetops resume {run_id}", with_what or "goes on where it stopped"))
        if reason is StopReason.TOKEN_REFUSED and (forbidden := _forbidden(view)):
            steps.append(
                NextStep(
                    f"fleetops resume {run_id} {forbidden}",
                    "goes on without what answered 403, where the token is good for the others",
                )
            )
    if outcomes[Outcome.UNKNOWN]:
        steps.append(NextStep(f"fleetops reconcile {run_id}", "looks for what became of the unknown steps"))
    wanted = {Outcome.FAILED, *([] if resumable else [Outcome.UNKNOWN])}
    wanted |= {outcome for outcome, reason in view.tally if outcome is Outcome.SKIPPED and reason not in BY_REQUEST}
    again = ",".join(outcome for outcome, count in outcomes.items() if count and outcome in wanted)
    if again:
        steps.append(
            NextStep(f"fleetops report {run_id} --format manifest --outcome {again}", "makes a manifest of them")
        )
    return tuple(steps)


def _forbidden(view: RunView) -> str:
    """The options that leave out the devices for which the last process was told 403; empty where there are none."""
    with view.reading() as reader:
        rows = reader.execute(_FORBIDDEN, (view.processes[-1].process,)).fetchall()
    return " ".join(f"--deny {shlex.quote(re.escape(serial))}" for (serial,) in rows)


def _labelled(label: str, text: str) -> str:
    return f"  {label:<{_LABEL_WIDTH}} {text}"


def rounded_duration(duration_ns: int) -> str:
    """A duration for people, to the second, such as `1h 02m 03s`; shorter ones than ten seconds to a tenth."""
    if duration_ns < 10 * NS_PER_S:
        return f"{duration_ns / NS_PER_S:.1f}s"
    minutes, seconds = divmod(duration_ns // NS_PER_S, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m {seconds:02}s"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"
