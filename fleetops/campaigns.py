"""Runs a campaign, or goes on with one; the command line and the Python API are layers over it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from fleetops.documents import Document
from fleetops.errors import InvalidInputError, JournalError, Problem, Problems, Severity, UsageError
from fleetops.journal import NewRun, RunFacts
from fleetops.journal.views import RunView
from fleetops.model import Outcome
from fleetops.policy.files import OPTIONS, resolve_policy
from fleetops.policy.settings import Offline
from fleetops.preflight import left_out, look_up
from fleetops.runner import Session, is_uvloop_wanted, new_run_id, run_in_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from fleetops.control import HttpControlPlane, Token
    from fleetops.errors import ExitCode
    from fleetops.journal import StateDir
    from fleetops.journal.told import Tell
    from fleetops.manifest import Manifest
    from fleetops.model import Reason
    from fleetops.plan import Plan
    from fleetops.policy import Policy
    from fleetops.preflight import Sighting
    from fleetops.runner.session import Watch
    from fleetops.scheduler import StopReason
    from fleetops.validation import Campaign

ONLY_AT_THE_START: Final = ("max_devices", "preflight", "offline", "serial_pattern")
"""Settings that say what a run is made of, and cannot change for one that is there."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run stands after one process's drive of it.

    Attributes:
        run_id: Its name.
        reason: Why it ended; None where there was nothing left to do.
        detail: In figures, or in the service's or the host's words; may be empty.
        exit_code: The most serious code that applies.
        outcomes: Steps by outcome.
    """

    run_id: str
    reason: StopReason | None
    detail: str
    exit_code: ExitCode
    outcomes: Mapping[Outcome, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How the control plane is reached.

    Attributes:
        base_url: The control API: https, or http to this machine itself.
        token: The bearer token.
        ca_bundle: A file or folder of CA certificates instead of the usual ones.

    Raises:
        UsageError: The base URL is not one that can be used.
    """

    base_url: str
    token: Token = field(repr=False)
    ca_bundle: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", base_url_of(self.base_url))

    @classmethod
    def from_environment(
        cls, *, base_url: str | None = None, token_file: Path | None = None, ca_bundle: Path | None = None
    ) -> Self:
        """What FLEETOPS_BASE_URL and FLEETOPS_TOKEN say, where nothing else is given.

        Args:
            base_url: The control API.
            token_file: A private file with the token.
            ca_bundle: As above.

        Raises:
            UsageError: There is no token, or the base URL is not one that can be used.
        """
        return cls(base_url=base_url_of(base_url), token=token_of_environment(token_file), ca_bundle=ca_bundle)

    def control(self, policy: Policy) -> HttpControlPlane:
        """The control plane, to be used in one event loop."""
        from fleetops.control import ClientSettings, HttpControlPlane  # noqa: PLC0415 - takes httpx

        return HttpControlPlane(
            ClientSettings(
                base_url=self.base_url,
                token=self.token,
                concurrency=policy.concurrency,
                connect_timeout_s=policy.timeouts.connect_ns / 1e9,
                read_timeout_s=policy.timeouts.read_ns / 1e9,
                ca_bundle=self.ca_bundle,
            )
        )


def base_url_of(given: str | None) -> str:
    """A base URL in its one spelling: the one that is given, else that of the environment, else the default.

    Raises:
        UsageError: It is not one that can be used.
    """
    from fleetops.control import DEFAULT_BASE_URL, parse_base_url  # noqa: PLC0415 - takes httpx

    return parse_base_url(given or os.environ.get("FLEETOPS_BASE_URL") or DEFAULT_BASE_URL)


def token_of_environment(token_file: Path | None = None) -> Token:
    """The token in a private file, else the one in FLEETOPS_TOKEN.

    Raises:
        UsageError: There is none.
    """
    from fleetops.control import read_token  # noqa: PLC0415 - takes httpx

    return read_token(os.environ, token_file)


def run(
    campaign: Campaign,
    connection: Connection,
    state: StateDir,
    *,
    consent: bool = False,
    alongside: bool = False,
    heed_window: bool = True,
    plan: str = "",
    watch: Watch | None = None,
    started: Callable[[str], None] | None = None,
    tell: Tell | None = None,
) -> RunResult:
    """Run a campaign to its end, or until it is stopped.

    Args:
        campaign: What to do.
        connection: Where.
        state: Where the journal is kept.
        consent: Whether it is agreed that devices lose data, where the campaign has factory resets.
        alongside: Whether other runs may be live on the same control plane.
        heed_window: Whether the policy's maintenance windows count.
        plan: What its plan predicted, as `fleetops.plan.Forecast` writes it; empty where it has none.
        watch: Called with the runner, to show how far it is.
        started: Called with the run's id, once the run is in the journal.
        tell: Is told of attempts and of what they lead to, as they happen: for logs.

    Raises:
        UsageError: There is no consent.
        InvalidInputError: A device is not in the inventory, where that was to be looked up.
        AbortedError: The inventory cannot be read.
        RunBusyError: Another live run stands in the way.
        HostError: The journal cannot be written.
    """
    is_uvloop_wanted()  # What it refuses must not leave a run behind.
    new = new_run(campaign, connection.base_url, connection, consent=consent, plan=plan)
    with Session.start(state, new, alongside=alongside) as session:
        if started is not None:
            started(new.facts.run_id)
        ended = run_in_loop(_drive, session, connection, watch, heed_window, tell)
    return _result(state, new.facts.run_id, ended.reason, ended.detail)


def new_run(
    campaign: Campaign, base_url: str, connection: Connection | None, *, consent: bool = False, plan: str = ""
) -> NewRun:
    """A new run of a campaign, as a journal takes it; devices are looked up where the policy says so.

    Args:
        campaign: What to do.
        base_url: Where, as `fleetops.control.parse_base_url` gives it.
        connection: How the inventory is reached; None where it need not be.
        consent: Whether it is agreed that devices lose data, where the campaign has factory resets.
        plan: What its plan predicted, as `fleetops.plan.Forecast` writes it; empty where it has none.

    Raises:
        UsageError: There is no consent.
        InvalidInputError: A device is not in the inventory, where that was to be looked up.
        AbortedError: The inventory cannot be read.
    """
    resets = campaign.destructive_devices()
    if resets and not consent:
        raise UsageError(
            f"the campaign resets {resets:,} device{'' if resets == 1 else 's'} to factory settings",
            hint="say so with consent (`--yes` on the command line)",
        )
    skipped = dict(campaign.excluded)
    if campaign.policy.looks_before and connection is not None:
        skipped |= _look_before(campaign, connection)
    notes = campaign.manifest.rows.note
    return NewRun(
        facts=RunFacts(
            run_id=new_run_id(),
            manifest=campaign.manifest.source,
            digest=campaign.manifest.digest,
            campaign=campaign.manifest.campaign,
            base_url=base_url,
            created_ns=time.time_ns(),
            carried_columns=tuple(campaign.manifest.carried),
            plan=plan,
        ),
        policy=campaign.policy,
        steps=campaign.steps,
        notes=() if notes is None else notes.tolist(),
        carried=_carried(campaign.manifest),
        skipped=skipped,
    )


def resume(
    run_id: str,
    state: StateDir,
    *,
    token: Token,
    base_url: str | None = None,
    ca_bundle: Path | None = None,
    options: Mapping[str, Any] | None = None,
    alongside: bool = False,
    heed_window: bool = True,
    watch: Watch | None = None,
    started: Callable[[str], None] | None = None,
    tell: Tell | None = None,
) -> RunResult:
    """Go on with a run that was stopped, or that lost its process.

    Args:
        run_id: The run.
        state: Where its journal is kept.
        token: The bearer token; it is never in the journal.
        base_url: Another base URL than the one it was started with.
        ca_bundle: A file or folder of CA certificates instead of the usual ones.
        options: Settings that differ from now on, in the shape of a policy file. Devices that `allow` or `deny` leave
            out now are left out for good.
        alongside: Whether other runs may be live on the same control plane.
        heed_window: Whether the policy's maintenance windows count.
        watch: Called with the runner, to show how far it is.
        started: Called with the run's id, once this process holds the run.
        tell: Is told of attempts and of what they lead to, as they happen: for logs.

    Raises:
        UsageError: There is no such run, or an option counts only where a run is started.
        InvalidInputError: The options make no policy.
        RunBusyError: A process drives it, or another live run stands in the way.
        JournalError: The journal is damaged or cannot be written.
    """
    refuse_late(options or {})
    if (options or {}).get("waves") is not None:
        # Devices that were sent to already would be in other waves, which lets those in.
        raise UsageError(
            "the waves of a run stay as they were when it was started",
            hint="`--set waves=null` lets in all devices that are left",
        )
    done = finished(run_id, state)
    if done is not None:
        return done

    is_uvloop_wanted()  # What it refuses must not leave a trace in the run.

    def changed(policy: Policy) -> Policy:
        return changed_policy(policy, options or {})

    with Session.resume(state, run_id, base_url=base_url, change_policy=changed, alongside=alongside) as session:
        if started is not None:
            started(run_id)
        connection = Connection(base_url=session.loaded.facts.base_url, token=token, ca_bundle=ca_bundle)
        ended = run_in_loop(_drive, session, connection, watch, heed_window, tell)
    return _result(state, run_id, ended.reason, ended.detail)


def prediction_of(plan: Plan | None, campaign: Campaign, base_url: str, *, heed_window: bool) -> str:
    """What the plan of a campaign predicted, as a journal keeps it; empty where there is no plan.

    Raises:
        InvalidInputError: The plan does not hold.
    """
    if plan is None:
        return ""
    from fleetops.plan import Forecast, require_unchanged  # noqa: PLC0415 - takes the simulation

    require_unchanged(plan, campaign.manifest, campaign.policy, base_url=base_url, heed_window=heed_window)
    return Forecast.of(plan).model_dump_json()


def ended(run_id: str, state: StateDir) -> RunResult:
    """How a run stands that has ended wherever it was driven.

    Raises:
        UsageError: There is no such run.
        JournalError: The journal is damaged.
    """
    with RunView.open(state, run_id) as view:
        last = view.processes[-1]
        return RunResult(run_id, last.end_reason, last.end_detail, view.exit_code(), view.outcomes)


def refuse_late(options: Mapping[str, Any]) -> None:
    """Refuse what says what a run is made of, where it is there already.

    Raises:
        UsageError: One of the options counts only where a run is started.
    """
    for name in ONLY_AT_THE_START:
        if name in options:
            raise UsageError(
                f"{name} is heeded only where a run is started",
                hint="`deny` leaves devices out of what is left of this run",
            )


def changed_policy(policy: Policy, options: Mapping[str, Any]) -> Policy:
    """The policy that a run goes on with.

    Args:
        policy: The policy that it had.
        options: Settings that differ from now on, in the shape of a policy file.

    Raises:
        InvalidInputError: That makes no policy.
    """
    before = Document("the journal", json.loads(policy.to_json()))
    return resolve_policy([before, Document(OPTIONS, dict(options))]) if options else policy


def finished(run_id: str, state: StateDir) -> RunResult | None:
    """How a run stands that has nothing left to do; None where `resume` would go on with it, or a process drives it.

    Raises:
        UsageError: There is no such run.
        JournalError: The journal is damaged.
    """
    with RunView.open(state, run_id) as view:
        # Whether steps are open is known at once, unlike what they all have come to.
        if view.live or _has_open_steps(view) or view.outcomes[Outcome.NOT_STARTED] or view.unconfirmed:
            return None
        return RunResult(run_id, None, "", view.exit_code(), view.outcomes)


def _has_open_steps(view: RunView) -> bool:
    with view.reading() as reader:
        return bool(reader.execute("SELECT (SELECT count(*) FROM result) < ?", (view.steps,)).fetchone()[0])


async def _drive(
    session: Session, connection: Connection, watch: Watch | None, heed_window: bool, tell: Tell | None
) -> Any:
    control = connection.control(session.loaded.policy)
    try:
        return await session.drive(control, watch, inventory=control.inventory, heed_window=heed_window, tell=tell)
    finally:
        await control.aclose()


def _result(state: StateDir, run_id: str, reason: StopReason, detail: str) -> RunResult:
    try:
        with RunView.open(state, run_id) as view:
            return RunResult(run_id, reason, detail, view.exit_code(), view.outcomes)
    except UsageError:
        raise JournalError(
            f"the journal of run {run_id} was removed while the run went on",
            hint="what was sent is on record nowhere: look at the devices before anything is sent again",
        ) from None


def _carried(manifest: Manifest) -> Iterator[str] | tuple[str, ...]:
    """The cells of the carried columns by step, each row a JSON list."""
    if not manifest.carried:
        return ()
    columns = (cells.tolist() for cells in manifest.carried.values())
    return map(json.dumps, zip(*columns, strict=True))


def _look_before(campaign: Campaign, connection: Connection) -> dict[int, Reason]:
    """Look the devices up: those that are to be skipped for being down.

    Raises:
        InvalidInputError: The inventory does not have some, or some are down and must not be.
    """
    serials = {
        device: serial for device, serial in enumerate(campaign.steps.serials) if device not in campaign.excluded
    }
    sighting: Sighting = run_in_loop(_look_up, campaign.policy, connection, serials)
    problems = Problems()
    lines = _lines(campaign)
    for device in sorted(sighting.missing):
        message = f"the inventory has no device {serials[device]}"
        problems.add(
            Problem(
                Severity.ERROR,
                "not-in-inventory",
                message,
                campaign.manifest.source,
                lines[device],
                hint="correct the serial number, or leave the row out",
            )
        )
    if campaign.policy.offline is Offline.FAIL:
        for device in sorted(sighting.offline):
            problems.add(
                Problem(
                    Severity.ERROR,
                    "device-offline",
                    f"device {serials[device]} is down",
                    campaign.manifest.source,
                    lines[device],
                    hint="leave the row out, or choose --offline skip or --offline send",
                )
            )
    if problems.errors:
        raise InvalidInputError("the inventory does not match the manifest", problems=problems)
    return left_out(campaign.policy, sighting)


async def _look_up(policy: Policy, connection: Connection, serials: Mapping[int, str]) -> Sighting:
    control = connection.control(policy)
    try:
        return await look_up(control.inventory(), serials)
    finally:
        await control.aclose()


def _lines(campaign: Campaign) -> Mapping[int, int]:
    """By device, the line of the manifest that names it first."""
    rows = campaign.manifest.rows
    return dict(zip(reversed(rows.device_of.tolist()), reversed(rows.line.tolist()), strict=True))
