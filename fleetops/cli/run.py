"""`run` and `resume`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetops.cli.cluster import Place, left, look_on, refuse_here, start_on_cluster
from fleetops.cli.diagnostics import counted, printable
from fleetops.cli.errors import ends_well, log, put, reader_may_go, say, say_problems, warn
from fleetops.cli.log import LogFormat, LogFormatOption, log_as, logs_json
from fleetops.cli.look import summary_text
from fleetops.cli.options import (
    STDOUT,
    AlongsideOption,
    BaseUrlOption,
    CaOption,
    Format,
    FormatOption,
    NowOption,
    PolicyFileOption,
    QuietOption,
    RunArgument,
    TokenFileOption,
    YesOption,
    base_url_or_default,
    file_or_stdout,
    takes_policy_options,
)
from fleetops.cli.plan import assumed, campaign_of_plan, is_plan, planned
from fleetops.cli.progress import reading, working
from fleetops.cli.watching import MetricsOption, VerboseOption, Watching
from fleetops.errors import ExitCode, HostError, UsageError
from fleetops.places import shared, state_dir

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetops.campaigns import Connection, RunResult
    from fleetops.journal import StateDir
    from fleetops.validation import Campaign

ReportOption = Annotated[
    Path,
    typer.Option(
        "--report", metavar="FILE", help="Where the results go, a row for each row of the manifest; - for stdout."
    ),
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="With workers: do not wait for the end, and write no report.")
]
_RESULTS = Path("results.csv")
_NEEDS = ("campaigns", "validation")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog='Example: fleetops run night.csv --rate 20/s --window "02:00-05:00 Europe/Madrid"')(
        ends_well(takes_policy_options(run), needs=_NEEDS)
    )
    app.command(epilog="Example: fleetops resume 20260102-030405-6f7a --rate 10/s")(
        ends_well(takes_policy_options(resume), needs=_NEEDS)
    )


def run(
    manifest: Annotated[
        str, typer.Argument(metavar="MANIFEST|PLAN.json", help="A CSV or YAML file, - for standard input, or a plan.")
    ],
    options: dict[str, Any],
    policy: PolicyFileOption = None,
    report: ReportOption = _RESULTS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what would be done; open no connection.")
    ] = False,
    yes: YesOption = False,
    base_url: BaseUrlOption = None,
    token_file: TokenFileOption = None,
    ca_bundle: CaOption = None,
    alongside: AlongsideOption = False,
    now: NowOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Leave it to the workers of the database in FLEETOPS_DATABASE_URL.")
    ] = False,
    queue: Annotated[str, typer.Option("--queue", metavar="NAME", help="The queue of those workers.")] = "default",
    chunk_devices: Annotated[
        int | None, typer.Option("--chunk-devices", min=1, metavar="N", help="Devices that one worker takes at a time.")
    ] = None,
    detach: DetachOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    log_format: LogFormatOption = LogFormat.TEXT,
    metrics_file: MetricsOption = None,
    output: FormatOption = Format.TEXT,
) -> ExitCode:
    """Run the operations of a manifest; a report says what became of each."""
    from fleetops import campaigns
    from fleetops.journal import StateDir, default_state_dir
    from fleetops.validation import validate

    log_as(log_format)
    prediction = ""
    if is_plan(manifest):
        campaign, url, prediction = _planned(manifest, policy, options, base_url, heed_window=not now, quiet=quiet)
    else:
        with reading(manifest):
            campaign = validate(manifest, policy_file=policy, options=options)
        url = base_url_or_default(base_url)
    _say_warnings(campaign, strict)
    if dry_run:
        code = _dry_run(campaign, url, policy, options, heed_window=not now, alongside=alongside, output=output)
        inputs = (Path(manifest), Path(campaign.manifest.source), policy, token_file)
        _say_what_refuses(token_file, report, output, inputs)
        return code
    consent = _consent(campaign, yes, from_stdin=manifest == "-")
    _say_now(campaign, now=now)
    inputs = (Path(manifest), Path(campaign.manifest.source), policy, token_file)
    if not (cluster and detach):
        _check_report_place(report, output, inputs=inputs)
    connection = _connection(url, token_file, ca_bundle, needed=not cluster or campaign.policy.looks_before)
    if connection is None or cluster:
        refuse_here(metrics_file)
        new = campaigns.new_run(campaign, url, connection, consent=consent, plan=prediction)
        start_on_cluster(new, Place(queue, chunk_devices, heed_window=not now, alongside=alongside), quiet=quiet)
        return _end_on_cluster(new.facts.run_id, report, output, detach=detach, quiet=quiet)
    state = StateDir(default_state_dir(os.environ))
    watch = Watching(quiet=quiet, verbose=verbose, metrics_file=metrics_file, kept=(*inputs, report))
    run_ids: list[str] = []

    def started(run_id: str) -> None:
        run_ids.append(run_id)
        watch.begin(state, run_id, heed_window=not now)
        if logs_json():
            log("info", "run_started", {"devices": campaign.devices, "steps": len(campaign.steps), "base_url": url})
        elif not quiet:
            devices = counted(campaign.devices, "device")
            say(f"run {run_id}: {devices}, {counted(len(campaign.steps), 'step')}, {printable(url)}")

    with watch:
        try:
            result = campaigns.run(
                campaign,
                connection,
                state,
                consent=consent,
                alongside=alongside,
                heed_window=not now,
                plan=prediction,
                watch=watch.show,
                started=started,
                tell=watch.tell,
            )
        except HostError:
            watch.end_badly()
            _save_report(state, run_ids, report)
            raise
        watch.end(result)
    return _finish(state, result, report, output)


def resume(
    run_id: RunArgument,
    options: dict[str, Any],
    report: ReportOption = _RESULTS,
    base_url: BaseUrlOption = None,
    token_file: TokenFileOption = None,
    ca_bundle: CaOption = None,
    alongside: AlongsideOption = False,
    now: NowOption = False,
    detach: DetachOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    log_format: LogFormatOption = LogFormat.TEXT,
    metrics_file: MetricsOption = None,
    output: FormatOption = Format.TEXT,
) -> ExitCode:
    """Go on with a run that was stopped, or that lost its process; what was answered is never sent again."""
    from fleetops import campaigns
    from fleetops.control import parse_base_url, read_token
    from fleetops.journal.views import RunView

    log_as(log_format, run_id=run_id)
    state = state_dir()
    with RunView.open(state, run_id) as view:
        inputs = (Path(view.facts.manifest), token_file)
    _check_report_place(report, output, inputs=inputs)
    watch = Watching(quiet=quiet, verbose=verbose, metrics_file=metrics_file, kept=(*inputs, report))
    done = campaigns.finished(run_id, state)
    if done is not None:
        say(f"run {run_id} has nothing left to do")
        return _finish(state, done, report, output)
    cluster = shared(state, run_id)
    if cluster is not None:
        from fleetops.workers import resume_on_workers

        refuse_here(metrics_file)
        resume_on_workers(
            cluster.url,
            run_id,
            base_url=parse_base_url(base_url) if base_url else None,
            options=options,
            alongside=alongside,
            heed_window=not now,
        )
        log("info", "run_resumed", {})
        return _end_on_cluster(run_id, report, output, detach=detach, quiet=quiet)
    token = read_token(os.environ, token_file)
    held: list[str] = []

    def started(run_id: str) -> None:
        held.append(run_id)
        watch.begin(state, run_id, heed_window=not now)
        log("info", "run_resumed", {})

    with watch:
        try:
            result = campaigns.resume(
                run_id,
                state,
                token=token,
                base_url=parse_base_url(base_url) if base_url else None,
                ca_bundle=ca_bundle,
                options=options,
                alongside=alongside,
                heed_window=not now,
                watch=watch.show,
                started=started,
                tell=watch.tell,
            )
        except HostError:
            watch.end_badly()
            _save_report(state, held, report)
            raise
        watch.end(result)
    return _finish(state, result, report, output)


def _planned(
    plan: str, policy: Path | None, options: dict[str, Any], base_url: str | None, *, heed_window: bool, quiet: bool
) -> tuple[Campaign, str, str]:
    """The campaign of a plan that still holds, its base URL, and what was predicted."""
    from fleetops.control import parse_base_url
    from fleetops.plan import Forecast

    given = base_url or os.environ.get("FLEETOPS_BASE_URL")
    made, campaign = campaign_of_plan(
        plan,
        policy_file=policy,
        options=options,
        base_url=parse_base_url(given) if given else None,
        heed_window=heed_window,
    )
    if not quiet and not logs_json():
        say(f"{printable(plan)} holds, digest {made.digest}")
    return campaign, made.base_url, Forecast.of(made).model_dump_json()


def _say_now(campaign: Campaign, *, now: bool) -> None:
    if now and campaign.policy.window:
        warn("--now ignores the maintenance windows of this campaign")


def _connection(url: str, token_file: Path | None, ca_bundle: Path | None, *, needed: bool) -> Connection | None:
    """How the control plane is reached; None where only workers do, and the token is theirs."""
    if not needed:
        return None
    from fleetops.campaigns import Connection
    from fleetops.control import read_token

    return Connection(base_url=url, token=read_token(os.environ, token_file), ca_bundle=ca_bundle)


def _end_on_cluster(run_id: str, report: Path, output: Format, *, detach: bool, quiet: bool) -> ExitCode:
    """Look on until the workers are done with a run, and write the report; or leave it to them."""
    from fleetops import campaigns

    if detach:
        return left(run_id, output)
    if not look_on(run_id, quiet=quiet):
        return ExitCode.INCOMPLETE
    state = state_dir()
    return _finish(state, campaigns.ended(run_id, state), report, output)


def _say_warnings(campaign: Campaign, strict: bool) -> None:
    from fleetops.errors import InvalidInputError

    if not campaign.warnings.listed:
        return
    if strict:
        raise InvalidInputError("there are warnings, and --strict makes them errors", problems=campaign.warnings)
    say_problems(campaign.warnings)


def _dry_run(
    campaign: Campaign,
    url: str,
    policy_file: Path | None,
    options: dict[str, Any],
    *,
    heed_window: bool,
    alongside: bool,
    output: Format,
) -> ExitCode:
    """The plan of what would be done, once all that a run checks without a connection has been checked."""
    from fleetops.plan import render_text

    made = planned(campaign, url, policy_file, options, assumed(url, None), heed_window=heed_window)
    typer.echo(made.to_json() if output is Format.JSON else render_text(made), nl=False)
    if resets := campaign.destructive_devices():
        say(f"a run resets {counted(resets, 'device')} to factory settings, and asks for consent")
    say("nothing was sent")
    for risk in made.risks:
        if risk.code == "shared-devices" or (risk.code == "live-run" and not alongside):
            say(f"a run would be refused: {printable(risk.message)}")
    return ExitCode.OK


def _say_what_refuses(token_file: Path | None, report: Path, output: Format, inputs: Iterable[Path | None]) -> None:
    """What else a run looks at before it opens a connection, and would be refused for."""
    from fleetops.control import read_token
    from fleetops.errors import FleetopsError

    for check in (
        lambda: read_token(os.environ, token_file),
        lambda: _check_report_place(report, output, inputs=inputs),
    ):
        try:
            check()
        except FleetopsError as error:
            say(f"a run would be refused: {printable(error.message)}")


def _consent(campaign: Campaign, yes: bool, *, from_stdin: bool) -> bool:
    """Whether it is agreed that devices lose data, asked for on a terminal."""
    devices = campaign.destructive_devices()
    if not devices or yes:
        return True
    question = f"this campaign resets {counted(devices, 'device')} to factory settings"
    if from_stdin or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(question, hint="say --yes where nobody can be asked")
    typed = typer.prompt(f"{question}; type the number of devices to go on", err=True, default="", show_default=False)
    if typed.replace(",", "").strip() != str(devices):
        raise UsageError(
            "that is not the number of devices; nothing was sent", hint="type the number that the question names"
        )
    return True


def _check_report_place(report: Path, output: Format, *, inputs: Iterable[Path | None]) -> None:
    """Refuse before anything is sent what would only fail, or destroy an input, once all is done."""
    if str(report) == STDOUT:
        if output is Format.JSON:
            raise UsageError("the report and --format json cannot both go to stdout", hint="name a file with --report")
        return
    folder = report.absolute().parent
    if report.is_dir():
        what = "is a directory"
    elif not folder.is_dir():
        what = "is in a directory that does not exist"
    elif (report.is_file() or not report.exists()) and not os.access(folder, os.W_OK | os.X_OK):
        what = "is in a directory that cannot be written to"
    elif any(one is not None and one.exists() and report.exists() and one.samefile(report) for one in inputs):
        what = "would replace a file that the run is made from"
    else:
        return
    raise UsageError(f"the report {printable(str(report))} {what}", hint="name another file with --report")


def _save_report(state: StateDir, run_ids: list[str], report: Path) -> None:
    """Save what there is to report of a run that this host has let down, if that can be done."""
    from fleetops.errors import FleetopsError
    from fleetops.journal.views import RunView
    from fleetops.report.formats import Format as ReportFormat
    from fleetops.report.output import write_report

    for run_id in run_ids:
        try:
            with RunView.open(state, run_id) as view:
                write_report(view, ReportFormat.CSV, file_or_stdout(report))
            say(f"the report so far: {printable(str(report))}; go on with `fleetops resume {run_id}`")
        except FleetopsError as error:
            say(f"no report could be written: {printable(error.message)}")


def _finish(state: StateDir, result: RunResult, report: Path, output: Format) -> ExitCode:
    from fleetops.journal.views import RunView
    from fleetops.report.formats import Format as ReportFormat
    from fleetops.report.output import write_report
    from fleetops.report.summary import summarise

    compared = None
    with RunView.open(state, result.run_id) as view, working("writing the report"):
        with reader_may_go():
            write_report(view, ReportFormat.CSV, file_or_stdout(report))
        state_word = view.state
        text = summary_text(summarise(view))
        if view.facts.plan:
            from fleetops.plan import compare_with_run

            compared = compare_with_run(view)
    outcomes = {outcome.value: count for outcome, count in result.outcomes.items()}
    facts: dict[str, Any] = {
        "run_id": result.run_id,
        "state": state_word,
        "reason": result.reason,
        "detail": result.detail,
    }
    facts |= {"exit_code": int(result.exit_code), "outcomes": outcomes, "report": str(report)}
    if logs_json():
        log("error" if result.exit_code else "info", "run_ended", facts)
    else:
        say(text)
        if compared is not None:
            say("\n".join(compared.lines()) + "\n")
        say(f"report: {printable(str(report))}")
    if output is Format.JSON:
        put(json.dumps(facts))
    return result.exit_code
