"""A policy file to start from: every setting with its default and what it does, made from the schema."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from fleetops.policy.settings import DEFAULTS, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_WIDTH: Final = 100
_HEAD: Final = """\
# yaml-language-server: $schema=./policy.schema.json
# How campaigns are run: every setting with its default. Take the mark off a line to change it.
"""
_SET: Final = "rate"


def commented_policy() -> str:
    """The YAML text of a policy file in which every setting is there, described, and commented out but for the rate."""
    values = json.loads(DEFAULTS.to_json())
    return _HEAD + "".join(f"{line}\n" for line in _section(Policy, values, depth=0))


def _section(model: type[BaseModel], values: dict[str, Any], depth: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        value = values[key]
        below = field.annotation
        if depth == 0:
            yield ""
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from _comment((below.__doc__ or "").partition("\n")[0], depth)
            yield f"# {key}:"
            yield from _section(below, value, depth + 1)
        else:
            yield from _comment(_described(field), depth)
            # A file of comments alone would be refused as one that was not saved, so one setting is there.
            mark = "" if key == _SET else "# "
            yield f"{mark}{'  ' * depth}{key}: {_written(value)}"


def _described(field: FieldInfo) -> str:
    return field.description or ""


def _comment(text: str, depth: int) -> Iterator[str]:
    # Two marks: what is taken off to change a setting must not make a sentence a setting.
    for line in textwrap.wrap(text, _WIDTH - 2 * depth):
        yield f"## {'  ' * depth}{line}"


def _written(value: Any) -> str:
    """A default as YAML; what is set by being there, such as a window, is empty."""
    if value is None:
        return "null"
    return value if isinstance(value, str) and value.replace("/", "").isalnum() else json.dumps(value)
