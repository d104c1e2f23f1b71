"""Documents read from files, by what their names end in."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from fleetops.documents.reading import open_text, read_bytes
from fleetops.documents.toml_file import LARGEST_TOML, parse_toml
from fleetops.documents.wording import found, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.documents.document import Document


LARGEST_YAML: Final = 64 << 20
"""Bytes."""


def read_document(source: str | Path) -> Document:
    """Read a YAML or TOML file, by its suffix.

    Raises:
        InvalidInputError: With every problem that could be found.
    """
    name = str(source)
    match PurePath(name).suffix.lower():
        case ".yaml" | ".yml":
            from fleetops.documents.yaml_file import read_yaml  # noqa: PLC0415 - a CSV manifest without a policy needs none of it

            return read_yaml(open_text(read_bytes(name, limit=LARGEST_YAML), name, limit=LARGEST_YAML), name)
        case ".toml":
            return parse_toml(open_text(read_bytes(name, limit=LARGEST_TOML), name, limit=LARGEST_TOML), name)
        case suffix:
            raise refusal(
                "unknown-file-type",
                f"{found(name)} is neither YAML nor TOML by its name",
                name,
                hint=f"use .yaml, .yml or .toml instead of {found(suffix)}",
            )
