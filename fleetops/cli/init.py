"""`init`: files to start from."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fleetops.cli.diagnostics import printable
from fleetops.cli.errors import ends_well, say
from fleetops.errors import HostError, UsageError

_MANIFEST = """\
# yaml-language-server: $schema=./manifest.schema.json
campaign: returned routers

sequences:
  - devices: [ZQ000000001, ZQ000000002]
    operations: [factory, sync, reconf]
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: fleetops init campaigns")(ends_well(init))


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; it is made where it is not there.")],
) -> None:
    """Write files to start from; a commented policy, a sample manifest, schemas."""
    from fleetops.manifest import manifest_schema
    from fleetops.policy import policy_schema
    from fleetops.policy.template import commented_policy

    editor = {
        "yaml.schemas": {
            "./manifest.schema.json": ["manifest.yaml", "*.manifest.yaml"],
            "./policy.schema.json": ["policy.yaml", "*.policy.yaml"],
        }
    }
    files = {
        "policy.yaml": commented_policy(),
        "manifest.yaml": _MANIFEST,
        "policy.schema.json": json.dumps(policy_schema(), indent=2) + "\n",
        "manifest.schema.json": json.dumps(manifest_schema(policy_schema()), indent=2) + "\n",
        ".vscode/settings.json": json.dumps(editor, indent=2) + "\n",
    }
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise UsageError(f"{printable(str(folder / there[0]))} is there already", hint="choose another directory")
    try:
        (folder / ".vscode").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            say(printable(str(folder / name)))
        manifest, policy = (shlex.quote(str(folder / name)) for name in ("manifest.yaml", "policy.yaml"))
        say(f"next: fleetops validate {printable(manifest)} --policy {printable(policy)}")
    except OSError as error:
        raise HostError(
            f"cannot write to {printable(str(folder))}: {error.strerror}", hint="name a directory that you can write"
        ) from None
