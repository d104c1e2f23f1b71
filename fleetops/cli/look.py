"""`runs`, `status` and `report`: what is in the journals."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetops.cli.diagnostics import counted, printable
from fleetops.cli.drawing import drawing, plain_line
from fleetops.cli.errors import ends_well, say
from fleetops.cli.options import Format, FormatOption, RunArgument, file_or_stdout
from fleetops.cli.progress import terminal, working
from fleetops.errors import ExitCode, UsageError
from fleetops.places import shared, state_dir

if TYPE_CHECKING:
    from fleetops.journal import StateDir
    from fleetops.journal.views import RunSummary
    from fleetops.model import Outcome
    from fleetops.report.summary import Summary

_EVERY_S = 1.0
_LINE_EVERY_S = 5.0
_LEISURE = 9
"""By how much longer is waited than was read."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: fleetops runs --format json")(ends_well(runs))
    app.command(
        epilog="Examples: fleetops status 20260102-030405-6f7a --watch; "
        "fleetops status 20260102-030405-6f7a --serve 8090"
    )(ends_well(status))
    app.command(
        epilog="Example: fleetops report 20260102-030405-6f7a --format manifest --outcome failed,unknown,not_started "
        "--output again.csv"
    )(ends_well(report))


def runs(output: FormatOption = Format.TEXT) -> None:
    """List the runs on this host, newest first."""
    found = _all_runs()
    if output is Format.JSON:
        typer.echo(
            json.dumps(
                [
                    {
                        "run_id": one.run_id,
                        "state": one.state,
                        "manifest": one.manifest,
                        "campaign": one.campaign,
                        "started_at": one.started_at,
                        "finished_at": one.finished_at,
                        "outcomes": dict(one.outcomes or {}),
                        "trouble": one.trouble,
                    }
                    for one in found
                ],
                indent=2,
            )
        )
        return
    if not found:
        say("there are no runs on this host")
    for one in found:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in (one.outcomes or {}).items() if count)
        line = f"{one.run_id}  {one.state:<13} {one.started_at or '-':<24}  {one.manifest}"
        typer.echo(printable(f"{line}  {one.trouble or counts}"))


def _all_runs() -> list[RunSummary]:
    """The runs on this host and in the database, newest first."""
    from fleetops.journal import StateDir
    from fleetops.journal.views import summaries

    state = state_dir()
    if type(state) is StateDir:
        return summaries(state)
    from fleetops.cluster.state import ClusterState

    assert isinstance(state, ClusterState), "there are two kinds"  # noqa: S101 - an invariant of `state_dir`
    here = summaries(StateDir(state.root))
    return sorted([*here, *state.summaries()], key=lambda one: one.run_id, reverse=True)


def status(
    run_id: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it until the run ends.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve its report as a page that follows it, for browsers on this host.")
    ] = False,
    port: Annotated[
        int | None, typer.Argument(metavar="PORT", min=0, max=65535, help="Where to serve it; else any free port.")
    ] = None,
    output: FormatOption = Format.TEXT,
) -> None:
    """Show how a run stands, also while it runs."""
    if port is not None and not serve:
        raise UsageError(f"{port} is a port, and there is nothing to serve", hint="add --serve to serve the page")
    if serve:
        _serve(run_id, port or 0)
    else:
        _show(run_id, watch=watch, output=output)


def _serve(run_id: str, port: int) -> None:
    from fleetops.live import serve_live

    serve_live(
        state_dir(), run_id, port, ready=lambda address: say(f"the page is at {address}; ctrl-C stops serving it")
    )


def _show(run_id: str, *, watch: bool, output: Format) -> None:
    from fleetops.journal.views import RunView
    from fleetops.report.summary import summarise

    state = state_dir()
    if watch and output is Format.TEXT:
        _watch(state, run_id)
    shown = ""
    while True:
        with RunView.open(state, run_id) as view:
            summary = summarise(view)
            live = view.live
        cluster = shared(state, run_id)
        workers = None if cluster is None else cluster.workers(run_id)
        if output is Format.JSON:
            text = json.dumps(_facts(summary) | ({} if workers is None else {"workers": workers}))
        else:
            text = summary_text(summary)
            if cluster is not None and workers is not None:
                text += _workers_text(cluster.chunks(run_id), workers, live=live)
        if text != shown:
            typer.echo(text)
            sys.stdout.flush()
            shown = text
        if not (watch and live):
            return
        time.sleep(_EVERY_S)


def _watch(state: StateDir, run_id: str) -> None:
    """Show how a run gets on while a process drives it: drawn anew on a terminal, a line now and then elsewhere."""
    from fleetops.journal.views import RunView
    from fleetops.report.progress import standing_of

    screen, told, due_s = terminal(sys.stdout), "", 0.0
    while True:
        begun_s = time.monotonic()
        with RunView.open(state, run_id) as view:
            now = standing_of(view) if view.live else None
        if now is None:
            break
        if screen is not None:
            screen.draw(*drawing(now, screen.width))
        elif time.monotonic() >= due_s and (line := plain_line(now)) != told:
            typer.echo(line)
            sys.stdout.flush()
            told, due_s = line, time.monotonic() + _LINE_EVERY_S
        # A large journal takes a while to read, and the run wants the processor as well.
        time.sleep(max(_EVERY_S, _LEISURE * (time.monotonic() - begun_s)))
    if screen is not None:
        screen.clear()


def _workers_text(chunks: tuple[int, int, int], workers: list[dict[str, Any]], *, live: bool) -> str:
    """The workers of a run, a line each."""
    done, of, held = chunks
    lines = ["", f"  chunks      {done:,} of {of:,} done, {held:,} being run"]
    for one in workers:
        state = "draining" if one["draining"] else "alive" if one["alive"] else "gone"
        where = printable(f"{one['host']} (process {one['pid']})")
        lines.append(
            f"  worker {one['worker']:<4} {state}, {counted(one['chunks'], 'chunk')}, "
            f"queue {printable(one['queue'])}, {where}"
        )
    if live and not any(one["alive"] for one in workers):
        lines.append("  no worker is there: start one with `fleetops worker`")
    return "\n".join(lines) + "\n"


def summary_text(summary: Summary) -> str:
    """A summary for a terminal: what manifests and the service say in it cannot control one."""
    return replace(
        summary,
        campaign=printable(summary.campaign),
        manifest=printable(summary.manifest),
        ended=printable(summary.ended),
        now=tuple(map(printable, summary.now)),
    ).text()


def _facts(summary: Summary) -> dict[str, Any]:
    """A summary as values for JSON."""
    facts = asdict(summary)
    facts["reasons"] = [
        {"outcome": outcome, "reason": reason, "steps": count} for (outcome, reason), count in summary.reasons.items()
    ]
    return facts


def report(
    run_id: RunArgument,
    form: Annotated[
        str, typer.Option("--format", metavar="csv|json|junit|html|manifest", help="What to write.")
    ] = "csv",
    outcome: Annotated[
        str | None, typer.Option("--outcome", metavar="failed,unknown", help="Only rows with one of these outcomes.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file instead of stdout.")
    ] = None,
) -> ExitCode:
    """Write the report of a run, at any time."""
    from fleetops.journal.views import RunView
    from fleetops.report.formats import Format as ReportFormat
    from fleetops.report.output import write_report

    if form not in set(ReportFormat):
        raise UsageError(f"there is no report format {printable(form)!r}", hint=f"known: {', '.join(ReportFormat)}")
    with RunView.open(state_dir(), run_id) as view, working("writing the report"):
        write_report(view, ReportFormat(form), file_or_stdout(output), _outcomes(outcome))
    return ExitCode.OK


def _outcomes(text: str | None) -> set[Outcome] | None:
    from fleetops.model import Outcome

    if text is None:
        return None
    known = {outcome.value: outcome for outcome in Outcome}
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"there is no outcome {printable(word)!r}", hint=f"known: {', '.join(known)}")
    return {known[word] for word in words}
