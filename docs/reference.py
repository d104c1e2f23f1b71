"""Writes the reference pages from the code: settings, manifests, commands, exit codes, formats and the Python API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import typer

from fleetops import api
from fleetops.cli.app import app
from fleetops.cli.usage import HOME
from fleetops.errors import ExitCode
from fleetops.manifest import manifest_schema
from fleetops.policy import policy_schema
from fleetops.policy.settings import DEFAULTS
from fleetops.schemas import DOCUMENTS, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDTH: Final = 80


def write(folder: Path) -> None:
    """Write all pages; those that did not change are left alone, so that they are not built again."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = folder / f"{name}.md", "\n".join(page()) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def policy_page() -> Iterator[str]:
    """Every setting, with its default."""
    yield from ("# Policy reference", "", "Every setting of a policy, in YAML or TOML. An unknown key is an error.", "")
    schema = policy_schema()
    yield from _settings(schema, schema["$defs"], DEFAULTS.model_dump(mode="json", by_alias=True), "")


def _settings(schema: dict[str, Any], known: dict[str, Any], defaults: dict[str, Any], prefix: str) -> Iterator[str]:
    plain: list[tuple[str, ...]] = []
    below: list[tuple[str, dict[str, Any]]] = []
    for name, described in schema["properties"].items():
        target = _resolved(described, known)
        if "properties" in target:
            below.append((name, target))
        else:
            default = _code(json.dumps(defaults[name], ensure_ascii=False))
            words = described.get("description") or target.get("description", "")
            plain.append((_code(prefix + name), _kind(described, known), default, words))
    yield from _table(("setting", "value", "default", "what it does"), plain)
    for name, target in below:
        yield from (f"## `{prefix}{name}`", "", target.get("description", "").partition("\n\n")[0], "")
        yield from _settings(target, known, defaults[name], f"{prefix}{name}.")


def manifest_page() -> Iterator[str]:
    """What a YAML manifest and the columns of a CSV manifest hold."""
    schema = manifest_schema(policy_schema())
    known = schema["$defs"]
    steps, sequences = (schema["properties"][name]["items"] for name in ("steps", "sequences"))
    yield from ("# Manifest reference", "")
    yield "A CSV manifest has the keys of a step as its columns. A YAML manifest has either `steps` or `sequences`."
    yield ""
    for title, part in (("Top level (YAML)", schema), ("A step, or a row of a CSV", steps), ("A sequence", sequences)):
        yield from (f"## {title}", "", part.get("description", ""), "")
        rows = [
            (_code(name), _kind(one, known), _resolved(one, known).get("description", ""))
            for name, one in part["properties"].items()
        ]
        yield from _table(("key", "value", "what it is"), rows)


def commands_page() -> Iterator[str]:
    """What `--help` says of every command."""
    group = typer.main.get_command(app)
    yield from ("# Commands", "")
    context = group.make_context("fleetops", ["runs"], terminal_width=WIDTH, max_content_width=WIDTH)
    yield from ("```text", group.get_help(context), "```", "")
    for name in HOME:
        command = group.get_command(context, name)  # type: ignore[attr-defined]  # a group has commands
        below = type(context)(command, info_name=name, parent=context, terminal_width=WIDTH, max_content_width=WIDTH)
        yield from (f"## fleetops {name}", "", "```text", command.get_help(below), "```", "")


def exit_codes_page() -> Iterator[str]:
    """The exit codes."""
    yield from ("# Exit codes", "", "The most serious that applies, in the order 130, 7, 4, 5, 6, 1, 0.", "")
    yield from _table(("code", "name", "meaning"), [(str(int(one)), one.name.lower(), one.meaning) for one in ExitCode])


def schemas_page() -> Iterator[str]:
    """The JSON Schema of everything that is printed for programs."""
    yield from ("# JSON Schemas", "", "`fleetops schema NAME` prints these.", "")
    for name in DOCUMENTS:
        schema = schema_of(name)
        yield from (f"## {name}", "", schema.get("description", ""), "")
        yield from ("```json", json.dumps(schema, indent=2), "```", "")


def api_page() -> Iterator[str]:
    """What `fleetops.api` offers, the functions first."""
    yield from ("# Python API", "", "What the module `fleetops.api` offers; what is not here may change.", "")
    yield from ("```{eval-rst}", ".. py:module:: fleetops.api", "")
    functions = ("validate", "plan", "run", "resume", "report", "write_report")
    for name in (*functions, *(name for name in api.__all__ if name not in functions)):
        one = getattr(api, name)
        kind = "autofunction" if not isinstance(one, type) else "autoclass"
        yield from (f".. {kind}:: fleetops.api.{name}", "")
    yield "```"


PAGES: Final = {
    "policy": policy_page,
    "manifest": manifest_page,
    "commands": commands_page,
    "exit-codes": exit_codes_page,
    "schemas": schemas_page,
    "api": api_page,
}
"""What writes each page."""


def _resolved(described: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    reference = described.get("$ref") or next((one["$ref"] for one in described.get("allOf", []) if "$ref" in one), "")
    return {**known[reference.rpartition("/")[2]], **described} if reference else described


def _kind(described: dict[str, Any], known: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    target = _resolved(described, known)
    if "enum" in target:
        return ", ".join(_code(str(one)) for one in target["enum"])
    if "anyOf" in target:
        return " or ".join(dict.fromkeys(_kind(one, known) for one in target["anyOf"]))
    if "properties" in target:
        return "mapping"
    kind = target.get("type", "value")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    words = {"array": "list", "string": "text", "object": "mapping", "null": "none", "boolean": "true or false"}
    kind = " or ".join(words.get(one, one) for one in kind.split(" or "))
    limits = [f"{sign} {target[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in target]
    examples = [_code(str(one)) for one in target.get("examples", [])]
    return " ".join([kind, *limits]) + (f", such as {', '.join(examples)}" if examples else "")


def _code(text: str) -> str:
    return f"`{text}`"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield from (_row(heads), _row(("---",) * len(heads)), *map(_row, rows), "")


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
