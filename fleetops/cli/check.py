"""`validate` and `schema`: what can be done without a control plane."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from fleetops.cli.diagnostics import as_json, counted, printable, summary, unlisted
from fleetops.cli.errors import ends_well, say_problems
from fleetops.cli.options import Format, FormatOption, ManifestArgument, PolicyFileOption, takes_policy_options
from fleetops.cli.progress import reading
from fleetops.errors import ExitCode, InvalidInputError, Problems


class Schema(StrEnum):
    """What there is a schema of."""

    MANIFEST = "manifest"
    POLICY = "policy"
    PLAN = "plan"
    PLAN_DIFF = "plan-diff"
    REPORT = "report"
    RUNS = "runs"
    STATUS = "status"
    VALIDATE = "validate"
    WHAT_IF = "what-if"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: fleetops validate returned.csv --policy night.yaml. Exits with 3 where there are errors."
    )(ends_well(takes_policy_options(validate), needs=("validation",)))
    app.command(epilog="Example: fleetops schema manifest > manifest.schema.json")(ends_well(schema))


def validate(
    manifest: ManifestArgument,
    options: dict[str, Any],
    policy: PolicyFileOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    output: FormatOption = Format.TEXT,
) -> ExitCode:
    """Check a manifest and its policy; every problem is shown, and nothing is sent."""
    from fleetops.validation import validate as read_campaign

    counts: dict[str, Any] = {}
    try:
        with reading(manifest):
            campaign = read_campaign(manifest, policy_file=policy, options=options)
    except InvalidInputError as error:
        if not error.problems.listed:
            raise
        problems, valid = error.problems, False
    else:
        problems = campaign.warnings
        valid = not (strict and problems.warnings)
        by_operation = {operation.value: count for operation, count in campaign.steps_by_operation().items()}
        counts = {"devices": campaign.devices, "steps": len(campaign.steps), "operations": by_operation}
    if output is Format.JSON:
        more = [
            {"severity": severity, "code": code, "count": count}
            for (severity, code), count in unlisted(problems).items()
        ]
        found = {
            "errors": problems.errors,
            "warnings": problems.warnings,
            "problems": as_json(problems),
            "unlisted": more,
        }
        typer.echo(json.dumps({"valid": valid, **counts, **found}, indent=2))
    else:
        _print(manifest, problems, valid, counts)
    return ExitCode.OK if valid else ExitCode.INVALID


def _print(manifest: str, problems: Problems, valid: bool, counts: dict[str, Any]) -> None:
    if problems.listed:
        say_problems(problems)
    if counts:
        operations = ", ".join(f"{count:,} {operation}" for operation, count in counts["operations"].items())
        verdict = "valid" if valid else "not valid under --strict"
        size = f"{counted(counts['devices'], 'device')}, {counted(counts['steps'], 'step')}"
        typer.echo(f"{printable(manifest)}: {verdict}, {size} ({operations}), {summary(problems)}")
    else:
        typer.echo(f"{printable(manifest)}: not valid, {summary(problems)}")


def schema(
    of: Annotated[Schema, typer.Argument(metavar="NAME", help=f"One of {', '.join(Schema)}.")],
) -> None:
    """Print a JSON Schema; of manifests, policies, or what --format json prints."""
    from fleetops.schemas import schema_of

    typer.echo(json.dumps(schema_of(of), indent=2))
