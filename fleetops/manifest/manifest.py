"""A manifest, read and checked."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from fleetops.documents import LARGEST_YAML, Document, found, invalid, open_text, read_bytes, refusal
from fleetops.errors import InvalidInputError, Problem, Problems, Severity
from fleetops.manifest.table import LARGEST_CSV
from fleetops.model import SERIAL_PATTERN
from fleetops.policy.files import setting_problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetops.manifest.table import Cells, Rows, Table
    from fleetops.manifest.yaml_file import Devices

_STDIN: Final = "-"
_YAML_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_LOOKS_LIKE_YAML: Final = re.compile(rb"\s*(?:#[^\n\r]*\s+)*(?:---|%YAML|\{|[\w-]+[ ]*:(?:\s|$))")
_SNIFFED: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Manifest:
    """The steps of a campaign as they are written, without an error in them.

    Attributes:
        source: The file as the user named it; `-` for standard input.
        digest: SHA-256 in hexadecimal of the file as it is. Where it names further files, of its digest and theirs.
        campaign: The name it gives itself, else the file's without its suffixes.
        policy: The policy inside of it, not yet merged with others; None where there is none.
        rows: A row for each step.
        carried: The columns that are not ours by their names, as they are written.
        warnings: What does not stop the campaign.
    """

    source: str
    digest: str
    campaign: str
    policy: Document | None
    rows: Rows
    carried: Mapping[str, Cells]
    warnings: Problems


def read_manifest(source: str, *, serial_pattern: str | None = None, stdin: BinaryIO | None = None) -> Manifest:
    """Read and check a manifest: YAML by its suffix (standard input: by its looks), else CSV.

    Args:
        source: A path, or `-` for standard input.
        serial_pattern: What serial numbers have to match; None for the pattern of the policy inside of the manifest,
            or the usual one.
        stdin: What `-` reads; by default the process's standard input.

    Raises:
        InvalidInputError: With all the problems that were found.
    """
    return _Reading(source, stdin).manifest(serial_pattern)


@dataclass(slots=True)
class _Reading:
    """One manifest while it is read."""

    source: str
    stdin: BinaryIO | None
    problems: Problems = field(default_factory=Problems)
    digests: list[str] = field(default_factory=list)
    files: dict[str, Devices] = field(default_factory=dict)

    def manifest(self, serial_pattern: str | None) -> Manifest:
        from fleetops.manifest.checks import checked_rows  # noqa: PLC0415 - takes numpy
        from fleetops.manifest.serials import SerialRules  # noqa: PLC0415

        text = self._text(self.source)
        document = self._document(text)
        policy = self._policy(document) if document else None
        try:
            table = self._table(text, document)
        except InvalidInputError as error:
            self.problems.extend(error.problems)
            table = None
        if table is None:
            raise invalid(self.source, _in_order(self.problems, self.source))
        rules = SerialRules(serial_pattern or _pattern_of(policy))
        rows = checked_rows(table, rules, self.problems)
        problems = _in_order(self.problems, self.source)
        if problems.errors:
            raise invalid(self.source, problems)
        return Manifest(self.source, self._digest(), self._campaign(document), policy, rows, table.carried, problems)

    def _text(self, name: str) -> bytes:
        data = read_bytes(name, limit=LARGEST_CSV, stdin=self.stdin)
        self.digests.append(hashlib.sha256(data).hexdigest())
        return open_text(data, name, limit=LARGEST_CSV)

    def _digest(self) -> str:
        if len(self.digests) == 1:
            return self.digests[0]
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()

    def _document(self, text: bytes) -> Document | None:
        if self.source == _STDIN:
            is_yaml = _LOOKS_LIKE_YAML.match(text[:_SNIFFED]) is not None
        else:
            is_yaml = PurePath(self.source.removesuffix(".gz")).suffix.lower() in _YAML_SUFFIXES
        if not is_yaml:
            return None
        if len(text) > LARGEST_YAML:
            message = f"{found(self.source)} is larger than {LARGEST_YAML >> 20} MiB, the most for YAML"
            raise refusal("too-large", message, self.source, hint="give the steps as CSV")
        from fleetops.documents.yaml_file import parse_yaml  # noqa: PLC0415 - CSV needs none of it

        return parse_yaml(text, self.source, self.problems, typed_under={"policy"})

    def _table(self, text: bytes, document: Document | None) -> Table | None:
        if document is None:
            from fleetops.manifest import csv_file  # noqa: PLC0415 - takes numpy

            return csv_file.read_table(text, self.source, self.problems)
        from fleetops.manifest import yaml_file  # noqa: PLC0415

        return yaml_file.table_of(document, self.problems, self._devices)

    def _devices(self, name: str) -> Devices:
        from fleetops.manifest.device_list import read_devices  # noqa: PLC0415 - takes numpy

        path = name if self.source == _STDIN else str(PurePath(self.source).parent / name)
        if path == _STDIN:
            path = f"./{path}"  # a file of that name, not standard input
        if path not in self.files:
            self.files[path] = read_devices(self._text(path), path, self.problems)
        return self.files[path]

    def _policy(self, document: Document) -> Document | None:
        values = document.values.get("policy")
        if values is None:
            return None
        if not isinstance(values, dict):
            where = document.where(("policy",))
            message = f"the policy is {found(values)}, not a mapping"
            problem = Problem(Severity.ERROR, "wrong-type", message, self.source, *where, hint="write `{rate: 20/s}`")
            self.problems.add(problem)
            return None
        policy = document.part("policy")
        self.problems.extend(setting_problems(policy))
        return policy

    def _campaign(self, document: Document | None) -> str:
        name: Any = document.values.get("campaign") if document else None
        if isinstance(name, str) and name.strip():
            return name.strip()
        return "stdin" if self.source == _STDIN else PurePath(self.source).name.partition(".")[0]


def _pattern_of(policy: Document | None) -> str:
    pattern = policy.values.get("serial_pattern") if policy else None
    try:
        return re.compile(pattern).pattern if isinstance(pattern, str) else SERIAL_PATTERN
    except (re.error, RecursionError, OverflowError):
        return SERIAL_PATTERN


def _in_order(problems: Problems, source: str) -> Problems:
    """The same problems by where they stand, those of the manifest itself first."""

    def key(problem: Problem) -> tuple[bool, str, int, int]:
        return problem.file != source, problem.file, problem.line or 0, problem.column or 0

    return Problems(sorted(problems.listed, key=key), problems.counts)
