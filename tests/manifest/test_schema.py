from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleetops.manifest import manifest_schema
from fleetops.manifest.yaml_file import SEQUENCE_KEYS, TOP_KEYS
from fleetops.policy import policy_schema

if TYPE_CHECKING:
    from collections.abc import Iterator


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from references(part)


def test_every_reference_leads_somewhere() -> None:
    schema = manifest_schema(policy_schema())
    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def test_it_knows_the_keys_that_the_reader_knows() -> None:
    schema = manifest_schema(policy_schema())
    assert set(schema["properties"]) == set(TOP_KEYS)
    assert set(schema["properties"]["sequences"]["items"]["properties"]) == set(SEQUENCE_KEYS)
    assert json.loads(json.dumps(schema)) == schema
