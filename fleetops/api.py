"""The Python API: what a scheduler job, a notebook or another program calls. The command line does the same.

    campaign = validate("night.csv", options={"rate": "20/s"})
    result = run(campaign, on_event=print)
    print(result.exit_code, report(result.run_id).frame)

The token and the base URL come from the environment unless a `Connection` says otherwise, and the journal is kept where
the command line keeps it, so that a run can be looked at and resumed from either.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleetops import campaigns
from fleetops.campaigns import Connection, RunResult
from fleetops.control import Token, read_token
from fleetops.errors import ExitCode, FleetopsError, InvalidInputError, UsageError
from fleetops.events import Listener, RunEvent, RunStatus, outside_of_loops
from fleetops.journal import StateDir, default_state_dir
from fleetops.journal.commands import Action, Heard
from fleetops.journal.views import RunView
from fleetops.model import NS_PER_S, Operation, Outcome, Reason
from fleetops.places import shared, state_dir
from fleetops.report.formats import Format
from fleetops.validation import Campaign, validate
from fleetops.workers import ask, resume_on_workers, status, submit, wait, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime
    from typing import TextIO

    import pandas as pd

    from fleetops.plan import Plan
    from fleetops.report.summary import Summary

    State = StateDir | Path | str | None
    OnEvent = Callable[[RunEvent], object]

__all__ = [
    "Action",
    "Campaign",
    "Connection",
    "ExitCode",
    "FleetopsError",
    "Format",
    "Heard",
    "InvalidInputError",
    "Operation",
    "Outcome",
    "Reason",
    "RunEvent",
    "RunReport",
    "RunResult",
    "RunStatus",
    "StateDir",
    "StepResult",
    "Token",
    "ask",
    "plan",
    "read_token",
    "report",
    "resume",
    "run",
    "status",
    "submit",
    "validate",
    "wait",
    "worker",
    "write_report",
]

_TIMES: Final = ("first_sent_at", "finished_at")


def plan(
    campaign: Campaign,
    *,
    base_url: str | None = None,
    state: State = None,
    start_at: datetime | None = None,
    heed_window: bool = True,
    assume: str | None = None,
) -> Plan:
    """What a campaign will do and how long it takes, from the scheduler that then does it. Nothing is sent.

    `plan(...).predictions.makespan_s` is the expected time in seconds; `to_json()` gives what `fleetops plan` prints
    as JSON.

    Args:
        campaign: What to do.
        base_url: The control plane; None for the environment's.
        state: Where journals are kept: earlier runs say how fast the service answers; None for the usual place.
        start_at: When it would be started, with its time zone; None for now.
        heed_window: Whether the policy's maintenance windows count.
        assume: How the service is expected to behave, as `fleetops plan --assume` has it.

    Raises:
        UsageError: The moment has no time zone, or the base URL or the assumptions cannot be read.
        InvalidInputError: The run would not end.
    """
    from fleetops.plan import (  # noqa: PLC0415 - takes the simulation
        Assumptions,
        learned,
        make_plan,
        parse_assumptions,
        risks_of_live_runs,
    )

    if start_at is not None and start_at.tzinfo is None:
        raise UsageError("the start has no time zone", hint="give it one: datetime(2026, 1, 31, 2, tzinfo=UTC)")
    url, kept = campaigns.base_url_of(base_url), _here(state)
    assumptions = learned(kept, url) or Assumptions()
    return make_plan(
        campaign,
        assumptions if assume is None else parse_assumptions(assume, assumptions),
        start_ns=time.time_ns() if start_at is None else round(start_at.timestamp() * NS_PER_S),
        base_url=url,
        policy_file=campaign.policy_file,
        options=campaign.options,
        heed_window=heed_window,
        live=risks_of_live_runs(kept, url, campaign.steps.serials),
    )


def run(
    campaign: Campaign,
    connection: Connection | None = None,
    *,
    plan: Plan | None = None,
    state: State = None,
    consent: bool = False,
    alongside: bool = False,
    heed_window: bool = True,
    on_event: OnEvent | None = None,
) -> RunResult:
    """Run a campaign to its end, or until it is stopped.

    In the main thread, SIGINT and SIGTERM stop sends and let what is in flight finish. Where an event loop runs in this
    thread already, as in a notebook, the run has a thread of its own, and an interrupt does the same.

    Args:
        campaign: What to do.
        connection: Where; None for what FLEETOPS_BASE_URL and FLEETOPS_TOKEN say.
        plan: The plan that was approved: it is refused where the campaign is another by now, and the report compares.
        state: Where the journal is kept; None for the usual place.
        consent: Whether it is agreed that devices lose data, where the campaign has factory resets.
        alongside: Whether other runs may be live on the same control plane.
        heed_window: Whether the policy's maintenance windows count.
        on_event: Called for each event of the run, as it happens and between sends: it has to be quick. What it raises
            stops the run in good order, and is raised again once that is done.

    Raises:
        UsageError: There is no consent, no token or no usable base URL.
        InvalidInputError: The plan does not hold, or a device is not in the inventory, where that was to be looked up.
        AbortedError: The inventory cannot be read.
        RunBusyError: Another live run stands in the way.
        HostError: The journal cannot be written.
    """
    where = connection or Connection.from_environment()
    prediction = campaigns.prediction_of(plan, campaign, where.base_url, heed_window=heed_window)
    listener = Listener(on_event)

    def work() -> RunResult:
        return campaigns.run(
            campaign,
            where,
            _here(state),
            consent=consent,
            alongside=alongside,
            heed_window=heed_window,
            plan=prediction,
            watch=listener.watch,
            started=listener.started,
            tell=listener.tell,
        )

    return _ended(listener, outside_of_loops(work, listener.interrupt))


def resume(
    run_id: str,
    connection: Connection | None = None,
    *,
    state: State = None,
    database: str | None = None,
    options: Mapping[str, Any] | None = None,
    alongside: bool = False,
    heed_window: bool = True,
    on_event: OnEvent | None = None,
) -> RunResult:
    """Go on with a run that was stopped, or that lost its process; what was answered is never sent again.

    A run of a database is left to its workers, and waited for.

    Args:
        run_id: The run.
        connection: Where; None for the base URL that it was started with and the token in FLEETOPS_TOKEN.
        state: Where its journal is kept, if on this host; None for the usual place.
        database: The database that may have it; None for the one in FLEETOPS_DATABASE_URL, if any.
        options: Settings that differ from now on, in the shape of a policy file.
        alongside: Whether other runs may be live on the same control plane.
        heed_window: Whether the policy's maintenance windows count.
        on_event: As for `run`.

    Raises:
        UsageError: There is no such run, or no token.
        InvalidInputError: The options make no policy.
        RunBusyError: A process drives it, or another live run stands in the way.
        JournalError: The journal is damaged or cannot be written.
    """
    kept, listener = _anywhere(state, database), Listener(on_event)
    done = campaigns.finished(run_id, kept)
    if done is not None:
        return done
    cluster = shared(kept, run_id)
    if cluster is not None:
        if on_event is not None:
            raise UsageError("workers tell no events here", hint="leave on_event out, or give it to `worker`")
        resume_on_workers(
            cluster.url,
            run_id,
            base_url=None if connection is None else connection.base_url,
            options=options,
            alongside=alongside,
            heed_window=heed_window,
        )
        return wait(run_id, database=cluster.url)
    token = connection.token if connection is not None else campaigns.token_of_environment()

    def work() -> RunResult:
        return campaigns.resume(
            run_id,
            kept,
            token=token,
            base_url=None if connection is None else connection.base_url,
            ca_bundle=None if connection is None else connection.ca_bundle,
            options=options,
            alongside=alongside,
            heed_window=heed_window,
            watch=listener.watch,
            started=listener.started,
            tell=listener.tell,
        )

    return _ended(listener, outside_of_loops(work, listener.interrupt))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """A row of the manifest, and what became of it. What is not known, or does not apply, is None or empty.

    Attributes:
        row: Its place in the manifest, from 1.
        serial_number: The device.
        operation: What it was to do.
        group: Its failure domain.
        outcome: What became of it.
        reason: Why.
        http_status: The service's last answer.
        operation_id: What the service calls the operation.
        attempts: How often it was sent.
        first_sent_at: When it was first sent, in UTC.
        finished_at: When it had its outcome, in UTC.
        duration_s: From the first send to the outcome, in seconds.
        detail: In the words of the service or the connection.
        note: The manifest's note.
        carried: The manifest's other columns.
    """

    row: int
    serial_number: str
    operation: Operation
    group: str
    outcome: Outcome
    reason: Reason | None
    http_status: int | None
    operation_id: str
    attempts: int
    first_sent_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    detail: str
    note: str
    carried: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run stood at the moment it was asked for.

    Attributes:
        summary: The run in figures.
        frame: A row for each row of the manifest that was asked for, in its order, with the columns of `results.csv`;
            the times are time stamps in UTC, and what is not known is NA.
    """

    summary: Summary
    frame: pd.DataFrame = field(repr=False, compare=False)

    def steps(self) -> Iterator[StepResult]:
        """The rows as objects."""
        names = [str(name) for name in self.frame.columns]
        carried = [name for name in names if name not in StepResult.__slots__ and name != "run_id"]
        for cells in zip(*(self.frame[name].tolist() for name in names), strict=True):
            row = {name: None if _is_missing(cell) else cell for name, cell in zip(names, cells, strict=True)}
            known: dict[str, Any] = {name: row[name] for name in StepResult.__slots__ if name in row}
            known |= {name: known[name] and known[name].to_pydatetime() for name in _TIMES}
            known["operation"], known["outcome"] = Operation(known["operation"]), Outcome(known["outcome"])
            known["reason"] = Reason(known["reason"]) if known["reason"] else None
            known["carried"] = {name: row[name] for name in carried}
            yield StepResult(**{"note": "", **known})


def report(
    run_id: str,
    *,
    state: State = None,
    database: str | None = None,
    outcomes: Collection[Outcome | str] | None = None,
) -> RunReport:
    """What became of each step of a run, at any time, also while it runs.

    Args:
        run_id: The run.
        state: Where its journal is kept, if on this host; None for the usual place.
        database: The database that may have it; None for the one in FLEETOPS_DATABASE_URL, if any.
        outcomes: Only the steps with one of these outcomes; None for all.

    Raises:
        UsageError: There is no such run, or no such outcome.
        JournalError: The journal is damaged.
    """
    import pandas as pd  # noqa: PLC0415 - takes a third of a second

    from fleetops.report.frame import report_frame  # noqa: PLC0415 - takes numpy
    from fleetops.report.summary import summarise  # noqa: PLC0415 - only for a report

    wanted = _outcomes(outcomes)
    with RunView.open(_anywhere(state, database), run_id) as view:
        summary, frame = summarise(view), report_frame(view, wanted)
    for name in _TIMES:
        frame[name] = pd.to_datetime(frame[name].mask(frame[name] == ""), utc=True, format="ISO8601")
    return RunReport(summary, frame)


def write_report(
    run_id: str,
    where: Path | str | TextIO,
    *,
    state: State = None,
    database: str | None = None,
    report_format: Format | str = Format.CSV,
    outcomes: Collection[Outcome | str] | None = None,
) -> None:
    """Write what became of each step of a run, at any time, also while it runs.

    Args:
        run_id: The run.
        where: A path, whose file is replaced as a whole, or an open stream.
        state: Where its journal is kept, if on this host; None for the usual place.
        database: The database that may have it; None for the one in FLEETOPS_DATABASE_URL, if any.
        report_format: `csv`, `json`, `junit`, `html` or `manifest`.
        outcomes: Only the steps with one of these outcomes; None for all.

    Raises:
        UsageError: There is no such run, format or outcome, or the format cannot hold one of the steps.
        HostError: It cannot be written there.
        JournalError: The journal is damaged.
    """
    from fleetops.report.output import write_report as write  # noqa: PLC0415 - takes numpy

    if report_format not in set(Format):
        raise UsageError(f"there is no report format {report_format!r}", hint=f"known: {', '.join(Format)}")
    with RunView.open(_anywhere(state, database), run_id) as view:
        write(view, Format(report_format), Path(where) if isinstance(where, str) else where, _outcomes(outcomes))


def _ended(listener: Listener, result: RunResult) -> RunResult:
    listener.ended(result.reason, result.detail)
    if listener.error is not None:
        raise listener.error
    return result


def _here(state: State) -> StateDir:
    """The runs of this host."""
    if isinstance(state, StateDir):
        return state
    return StateDir(default_state_dir(os.environ) if state is None else Path(state))


def _anywhere(state: State, database: str | None) -> StateDir:
    """The runs of this host, and those of a database where one is named."""
    return state if isinstance(state, StateDir) else state_dir(state, database)


def _outcomes(names: Collection[Outcome | str] | None) -> set[Outcome] | None:
    if names is None:
        return None
    for name in names:
        if name not in set(Outcome):
            raise UsageError(f"there is no outcome {name!r}", hint=f"known: {', '.join(Outcome)}")
    return {Outcome(name) for name in names}


def _is_missing(cell: object) -> bool:
    # What pandas has for nothing, NaN, NaT and NA, is not equal to itself, or does not say.
    return not isinstance(cell, str) and (cell == cell) is not True  # noqa: PLR0124
