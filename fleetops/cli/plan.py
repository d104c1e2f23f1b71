"""`plan`: what a campaign will do and how long it takes, and what changed since it was planned."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fleetops.cli.diagnostics import printable
from fleetops.cli.errors import ends_well, say, say_problems
from fleetops.cli.options import (
    BaseUrlOption,
    Format,
    FormatOption,
    NowOption,
    PolicyFileOption,
    base_url_or_default,
    takes_policy_options,
)
from fleetops.cli.progress import reading, working
from fleetops.errors import ExitCode, HostError, UsageError
from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetops.plan import Assumptions, Plan
    from fleetops.simulation import Trace
    from fleetops.validation import Campaign

_PLAN_SUFFIX: Final = ".json"
_LATEST_S: Final = 4_102_444_800
"""The year 2100."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: fleetops plan night.csv --policy night.yaml --out night-plan.json --html night-plan.html"
    )(ends_well(takes_policy_options(plan), needs=("validation", "plan")))


def plan(
    manifest: Annotated[
        list[str], typer.Argument(metavar="MANIFEST", help="A manifest; with --diff an old plan and a new one.")
    ],
    options: dict[str, Any],
    policy: PolicyFileOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PLAN.json", help="Freeze the plan there, for `fleetops run`.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page with charts, in one file.")
    ] = None,
    what_if: Annotated[
        str | None,
        typer.Option("--what-if", metavar="rate=10/s,20/s", help="Compare the values of a setting instead."),
    ] = None,
    assume: Annotated[
        str | None,
        typer.Option("--assume", metavar="latency=200ms,...", help="Instead of what earlier runs measured."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="When it starts, such as 2026-01-31T02:00+01:00.")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Say what changed from one plan to another.")] = False,
    base_url: BaseUrlOption = None,
    now: NowOption = False,
    output: FormatOption = Format.TEXT,
) -> ExitCode:
    """Say what a campaign will do and how long it takes; nothing is sent, and no connection is opened."""
    from fleetops.plan import frozen_for, render_text
    from fleetops.validation import validate

    if diff:
        return _diff(manifest, output)
    if len(manifest) != 1:
        raise UsageError("name one manifest", hint="two plans are compared with --diff OLD.json NEW.json")
    with reading(manifest[0]):
        campaign = validate(manifest[0], policy_file=policy, options=options)
    if campaign.warnings.listed:
        say_problems(campaign.warnings)
    url = base_url_or_default(base_url)
    start_ns = _moment_ns(start)
    assumptions = assumed(url, assume)
    if what_if is not None:
        return _what_if(campaign, assumptions, what_if, start_ns, heed_window=not now, output=output)
    made = planned(campaign, url, policy, options, assumptions, start_ns=start_ns, heed_window=not now)
    if out is not None:
        made = frozen_for(made, out)
    _write(made, out, html)
    typer.echo(made.to_json() if output is Format.JSON else render_text(made), nl=False)
    return ExitCode.OK


def planned(
    campaign: Campaign,
    url: str,
    policy_file: Path | None,
    options: Mapping[str, Any],
    assumptions: Assumptions,
    *,
    start_ns: int | None = None,
    heed_window: bool = True,
) -> Plan:
    """The plan of a campaign, with what live runs on this host mean for it."""
    from fleetops.journal import StateDir, default_state_dir
    from fleetops.plan import make_plan, risks_of_live_runs

    live = risks_of_live_runs(StateDir(default_state_dir(os.environ)), url, campaign.steps.serials)
    passes = Passes()
    with working("simulating the campaign", passes.how_far):
        return make_plan(
            campaign,
            assumptions,
            start_ns=time.time_ns() if start_ns is None else start_ns,
            base_url=url,
            policy_file=None if policy_file is None else str(policy_file),
            options=options,
            heed_window=heed_window,
            live=live,
            watch=passes.begun,
        )


class Passes:
    """How far a simulation is, for people: which pass it is, and how much of that is done."""

    def __init__(self) -> None:
        self._number = 0
        self._trace: Trace | None = None

    def begun(self, trace: Trace) -> None:
        """Another pass begins."""
        self._number += 1
        self._trace = trace

    def how_far(self) -> str:
        """Such as `pass 2, 40%`."""
        if self._trace is None:
            return ""
        outcomes = self._trace.outcomes
        share = 1 - outcomes.count(0) / max(1, len(outcomes))
        return f"pass {self._number}, {share:.0%}" if self._number > 1 else f"{share:.0%}"


def assumed(url: str, text: str | None) -> Assumptions:
    """What to reckon with: what an earlier run measured of the service, and what is said about it.

    Raises:
        UsageError: What is said cannot be read.
    """
    from fleetops.journal import StateDir, default_state_dir
    from fleetops.plan import Assumptions, learned, parse_assumptions

    found = learned(StateDir(default_state_dir(os.environ)), url) or Assumptions()
    return found if text is None else parse_assumptions(text, found)


def is_plan(name: str) -> bool:
    """Whether what is to be run is a plan and not a manifest."""
    return Path(name).suffix.lower() == _PLAN_SUFFIX


def campaign_of_plan(
    name: str,
    *,
    policy_file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    base_url: str | None = None,
    heed_window: bool = True,
) -> tuple[Plan, Campaign]:
    """The plan in a file, and its campaign as it is now: manifest and policy are read again, and must not have changed.

    Args:
        name: The plan.
        policy_file: The policy file that is to count instead of the plan's own.
        options: Settings that are to count on top of the plan's.
        base_url: The control plane that is to be used; None for the plan's.
        heed_window: Whether the maintenance windows are to count.

    Raises:
        InvalidInputError: The plan was changed, or no longer holds.
    """
    from fleetops.plan import manifest_path, policy_path, read_plan, require_unchanged
    from fleetops.policy import merged
    from fleetops.validation import validate

    made = read_plan(name)
    file = policy_file or policy_path(made, Path(name))
    layer = merged(made.options, options or {})
    source = manifest_path(made, Path(name))
    with reading(source):
        campaign = validate(source, policy_file=file, options=layer)
    require_unchanged(
        made, campaign.manifest, campaign.policy, base_url=base_url, heed_window=heed_window, source=printable(name)
    )
    return made, campaign


def _diff(names: list[str], output: Format) -> ExitCode:
    from fleetops.plan import diff_plans, read_plan, render_differences

    if len(names) != 2:  # noqa: PLR2004 - an old one and a new one
        raise UsageError("--diff takes two plans", hint="fleetops plan --diff OLD.json NEW.json")
    found = diff_plans(*map(read_plan, names))
    if output is Format.JSON:
        typer.echo(json.dumps([asdict(difference) for difference in found], indent=2, ensure_ascii=False))
    else:
        typer.echo(render_differences(found), nl=False)
    return ExitCode.OK


def _what_if(
    campaign: Campaign, assumptions: Assumptions, text: str, start_ns: int, *, heed_window: bool, output: Format
) -> ExitCode:
    from fleetops.plan import render_what_if, what_if

    passes = Passes()
    with working("simulating the campaigns", passes.how_far):
        rows = what_if(campaign, assumptions, text, start_ns=start_ns, heed_window=heed_window, watch=passes.begun)
    if output is Format.JSON:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        typer.echo(render_what_if(rows), nl=False)
    return ExitCode.OK


def _write(made: Plan, out: Path | None, html: Path | None) -> None:
    from fleetops.plan import render_html

    if out is not None:
        _save(out, made.to_json())
        say(f"plan: {printable(str(out))}, digest {made.digest}")
    if html is not None:
        _save(html, render_html(made))
        say(f"page: {printable(str(html))}")


def _save(path: Path, text: str) -> None:
    from fleetops.report.output import opened

    try:
        with opened(path) as file:
            file.write(text)
    except OSError as error:
        raise HostError(
            f"cannot write {path}: {error.strerror or error}", hint="name a file in a directory that you can write"
        ) from None


def _moment_ns(text: str | None) -> int:
    """A moment with its zone, in nanoseconds since the epoch; now where none is named.

    Raises:
        UsageError: It is not one.
    """
    if text is None:
        return time.time_ns()
    try:
        moment = datetime.fromisoformat(text.strip())
        since_s = -1.0 if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        since_s = -1.0
    if not 0 <= since_s < _LATEST_S:
        hint = "write it with its zone: 2026-01-31T02:00+01:00, or 2026-01-31T01:00Z"
        raise UsageError(f"{text[:40]!r} is not a moment", hint=hint)
    return round(since_s * NS_PER_S)
