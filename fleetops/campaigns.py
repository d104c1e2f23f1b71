"""The Python API: validate a campaign, run it, resume it, write its results. The command line is a layer over it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio

from fleetops.documents import Document
from fleetops.errors import InvalidInputError, Problem, Problems, Severity, UsageError
from fleetops.journal import NewRun, RunFacts
from fleetops.journal.views import RunView
from fleetops.manifest import read_manifest
from fleetops.model import OPERATIONS, Operation, Outcome
from fleetops.policy.files import read_policy_file, resolve_policy
from fleetops.policy.settings import Offline
from fleetops.preflight import excluded, left_out, look_up
from fleetops.report.formats import Format
from fleetops.runner import Session, new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO, TextIO

    from fleetops.control import HttpControlPlane, Token
    from fleetops.errors import ExitCode
    from fleetops.journal import StateDir
    from fleetops.journal.told import Tell
    from fleetops.manifest import Manifest
    from fleetops.model import Reason, Steps
    from fleetops.policy import Policy
    from fleetops.preflight import Sighting
    from fleetops.runner.session import Watch
    from fleetops.scheduler import StopReason

OPTIONS: Final = "the command line"
"""What a policy layer that was made of options calls itself."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """A manifest and a policy, validated together.

    Attributes:
        manifest: The manifest.
        policy: The policy in force: the defaults, the manifest's own, the policy file's, the options'.
        steps: What is to be done.
        excluded: Devices that the policy's `allow` and `deny` leave out, and why.
    """

    manifest: Manifest
    policy: Policy
    steps: Steps
    excluded: Mapping[int, Reason]

    @property
    def warnings(self) -> Problems:
        """What does not stop the campaign."""
        return self.manifest.warnings

    @property
    def devices(self) -> int:
        """How many devices are to be sent to."""
        return len(self.steps.serials) - len(self.excluded)

    def steps_by_operation(self) -> dict[Operation, int]:
        """How many steps each operation has that it occurs in."""
        counts = {operation: self.steps.operation_of.count(code) for code, operation in enumerate(OPERATIONS)}
        return {operation: count for operation, count in counts.items() if count}

    def destructive_devices(self) -> int:
        """How many devices lose data or configuration."""
        steps = self.steps
        codes = bytes(code for code, operation in enumerate(OPERATIONS) if operation.destructive)
        if not any(code in steps.operation_of for code in codes):
            return 0
        pairs = zip(steps.device_of, steps.operation_of, strict=True)
        return len({device for device, code in pairs if code in codes and device not in self.excluded})


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
        base_url: As `fleetops.control.parse_base_url` gives it.
        token: The bearer token.
        ca_bundle: A file or folder of CA certificates instead of the usual ones.
    """

    base_url: str
    token: Token = field(repr=False)
    ca_bundle: Path | None = None

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


def validate(
    source: str,
    *,
    policy_file: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    stdin: BinaryIO | None = None,
) -> Campaign:
    """Read and check a manifest and its policy; nothing is sent and nothing is written.

    Args:
        source: The manifest: a path, or `-` for standard input.
        policy_file: A policy in YAML or TOML; it overrides what the manifest says.
        options: Settings that override both, in the shape of a policy file.
        stdin: What `-` reads; by default the process's standard input.

    Raises:
        InvalidInputError: With all the problems that were found.
    """
    from fleetops.planning import steps_of  # noqa: PLC0415 - pandas; a resume must not wait for it

    layers = [Document(OPTIONS, dict(options or {}))]
    if policy_file is not None:
        layers.insert(0, read_policy_file(policy_file))
    pattern = next(
        (layer.values["serial_pattern"] for layer in reversed(layers) if layer.has(["serial_pattern"])), None
    )
    manifest = read_manifest(source, serial_pattern=pattern if isinstance(pattern, str) else None, stdin=stdin)
    if manifest.policy is not None:
        layers.insert(0, manifest.policy)
    policy = resolve_policy(layers)
    steps = steps_of(manifest, policy)
    campaign = Campaign(manifest, policy, steps, excluded(policy, steps.serials))
    _check_size(campaign)
    return campaign


def _check_size(campaign: Campaign) -> None:
    most = campaign.policy.max_devices
    if most is not None and campaign.devices > most:
        raise _invalid(
            campaign,
            "too-many-devices",
            f"the campaign has {campaign.devices:,} devices, more than the {most:,} that are allowed",
            "check that this is the right manifest; --max-devices raises the limit",
        )


def _invalid(campaign: Campaign, code: str, message: str, hint: str) -> InvalidInputError:
    problems = Problems()
    problems.add(Problem(Severity.ERROR, code, message, campaign.manifest.source, hint=hint))
    return InvalidInputError(message, problems=problems)


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
    if campaign.destructive_devices() and not consent:
        raise UsageError(
            f"the campaign resets {campaign.destructive_devices():,} devices to factory settings",
            hint="say so with consent (`--yes` on the command line)",
        )
    skipped = dict(campaign.excluded)
    if campaign.policy.looks_before:
        skipped |= _look_before(campaign, connection)
    new = NewRun(
        facts=RunFacts(
            run_id=new_run_id(),
            manifest=campaign.manifest.source,
            digest=campaign.manifest.digest,
            campaign=campaign.manifest.campaign,
            base_url=connection.base_url,
            created_ns=time.time_ns(),
            carried_columns=tuple(map(str, campaign.manifest.carried.columns)),
            plan=plan,
        ),
        policy=campaign.policy,
        steps=campaign.steps,
        notes=campaign.manifest.rows["note"].tolist(),
        carried=_carried(campaign.manifest),
        skipped=skipped,
    )
    with Session.start(state, new, alongside=alongside) as session:
        if started is not None:
            started(new.facts.run_id)
        ended = anyio.run(_drive, session, connection, watch, heed_window, tell)
    return _result(state, new.facts.run_id, ended.reason, ended.detail)


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
        options: Settings that differ from now on, in the shape of a policy file.
        alongside: Whether other runs may be live on the same control plane.
        heed_window: Whether the policy's maintenance windows count.
        watch: Called with the runner, to show how far it is.
        started: Called with the run's id, once this process holds the run.
        tell: Is told of attempts and of what they lead to, as they happen: for logs.

    Raises:
        UsageError: There is no such run.
        InvalidInputError: The options make no policy.
        RunBusyError: A process drives it, or another live run stands in the way.
        JournalError: The journal is damaged or cannot be written.
    """
    done = finished(run_id, state)
    if done is not None:
        return done

    def changed(policy: Policy) -> Policy:
        before = Document("the journal", json.loads(policy.to_json()))
        return resolve_policy([before, Document(OPTIONS, dict(options or {}))]) if options else policy

    with Session.resume(state, run_id, base_url=base_url, change_policy=changed, alongside=alongside) as session:
        if started is not None:
            started(run_id)
        connection = Connection(base_url=session.loaded.facts.base_url, token=token, ca_bundle=ca_bundle)
        ended = anyio.run(_drive, session, connection, watch, heed_window, tell)
    return _result(state, run_id, ended.reason, ended.detail)


def finished(run_id: str, state: StateDir) -> RunResult | None:
    """How a run stands that has nothing left to do; None where `resume` would go on with it, or a process drives it.

    Raises:
        UsageError: There is no such run.
        JournalError: The journal is damaged.
    """
    with RunView.open(state, run_id) as view:
        if view.live or view.outcomes[Outcome.NOT_STARTED] or _has_open_steps(view):
            return None
        return RunResult(run_id, None, "", view.exit_code(), view.outcomes)


def write_results(
    run_id: str,
    state: StateDir,
    where: Path | TextIO,
    *,
    report_format: Format = Format.CSV,
    outcomes: Collection[Outcome] | None = None,
) -> None:
    """Write what became of each step of a run, at any time, also while it runs.

    Args:
        run_id: The run.
        state: Where its journal is kept.
        where: A path, which is replaced as a whole, or an open stream.
        report_format: The format.
        outcomes: Only the steps with one of these outcomes; None for all.

    Raises:
        UsageError: There is no such run, or the format cannot hold one of the steps.
        HostError: It cannot be written there.
        JournalError: The journal is damaged.
    """
    from fleetops.report.output import write_report  # noqa: PLC0415 - pandas; a resume must not wait for it

    with RunView.open(state, run_id) as view:
        write_report(view, report_format, where, outcomes)


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
    with RunView.open(state, run_id) as view:
        return RunResult(run_id, reason, detail, view.exit_code(), view.outcomes)


def _carried(manifest: Manifest) -> Iterator[str] | tuple[str, ...]:
    """The cells of the carried columns by step, each row a JSON list."""
    if manifest.carried.columns.empty:
        return ()
    columns = (manifest.carried[name].tolist() for name in manifest.carried.columns)
    return map(json.dumps, zip(*columns, strict=True))


def _look_before(campaign: Campaign, connection: Connection) -> dict[int, Reason]:
    """Look the devices up: those that are to be skipped for being down.

    Raises:
        InvalidInputError: The inventory does not have some, or some are down and must not be.
    """
    serials = {
        device: serial for device, serial in enumerate(campaign.steps.serials) if device not in campaign.excluded
    }
    sighting: Sighting = anyio.run(_look_up, campaign.policy, connection, serials)
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


def _lines(campaign: Campaign) -> Sequence[int]:
    """By device, the line of the manifest that names it first."""
    rows = campaign.manifest.rows
    lines: list[int] = rows["line"][~rows["serial_number"].duplicated()].tolist()
    return lines
