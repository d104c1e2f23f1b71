"""The JSON Schema of YAML manifests, for editors."""

from __future__ import annotations

from typing import Any, Final

from fleetops.model import Operation

_DURATION: Final = {
    "anyOf": [{"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h)?\s*)+$"}, {"type": "number", "minimum": 0}],
    "description": "500ms, 90s, 2m, 1h, 1h30m, or a number of seconds; instead of the policy's settle time.",
}
_SERIAL: Final = {
    "type": ["string", "integer"],
    "description": "Kept as it is written, so leading zeros need no quotes.",
}
_TEXT: Final = {"type": ["string", "number", "boolean", "null"]}
_OPERATION: Final = {
    "enum": [operation.value for operation in Operation],
    "description": "What the device is told to do.",
}


def manifest_schema(policy_schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a YAML manifest.

    Args:
        policy_schema: The schema of a policy file; its `$defs` move to the top, where its references look for them.
    """
    policy = {key: value for key, value in policy_schema.items() if key not in {"$schema", "$defs"}}
    definitions = {**policy_schema.get("$defs", {}), "FleetopsPolicy": policy}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fleetops manifest",
        "description": "A campaign: which operations on which devices, in which order.",
        "type": "object",
        "properties": {
            "campaign": {"type": "string", "description": "What the campaign is called in reports."},
            "policy": {"$ref": "#/$defs/FleetopsPolicy"},
            "steps": {"type": "array", "minItems": 1, "items": _step()},
            "sequences": {"type": "array", "minItems": 1, "items": _sequence()},
        },
        "additionalProperties": False,
        "oneOf": [{"required": ["steps"]}, {"required": ["sequences"]}],
        "$defs": definitions,
    }


def _step() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "One operation on one device; further keys are carried through to the report.",
        "properties": {
            "serial_number": _SERIAL,
            "serial": _SERIAL,
            "operation": _OPERATION,
            "op": _OPERATION,
            "group": {**_TEXT, "description": "The failure domain of the device."},
            "settle": _DURATION,
            "note": {**_TEXT, "description": "For people."},
        },
        "allOf": [
            {"oneOf": [{"required": ["serial_number"]}, {"required": ["serial"]}]},
            {"oneOf": [{"required": ["operation"]}, {"required": ["op"]}]},
        ],
        "additionalProperties": _TEXT,
    }


def _sequence() -> dict[str, Any]:
    with_options = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            operation.value: {
                "type": ["object", "null"],
                "properties": {"settle": _DURATION},
                "additionalProperties": False,
            }
            for operation in Operation
        },
        "additionalProperties": False,
    }
    operation = {"anyOf": [_OPERATION, with_options]}
    return {
        "type": "object",
        "description": "Devices that all get the same operations, in this order.",
        "properties": {
            "devices": {"anyOf": [_SERIAL, {"type": "array", "minItems": 1, "items": _SERIAL}]},
            "devices_from": {
                "type": "string",
                "description": "A CSV file with a column of serial numbers, or one of a serial number in each line; "
                "relative to the manifest.",
            },
            "operations": {"anyOf": [_OPERATION, {"type": "array", "minItems": 1, "items": operation}]},
            "group": {**_TEXT, "description": "The failure domain of the devices."},
            "settle": {**_DURATION, "description": "For each operation that does not say its own."},
            "note": {**_TEXT, "description": "For people."},
        },
        "required": ["operations"],
        "oneOf": [{"required": ["devices"]}, {"required": ["devices_from"]}],
        "additionalProperties": False,
    }
