"""What the commands print for programs is what their schemas say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from fleetops.schemas import DOCUMENTS, schema_of

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal


def check(name: str, document: Any) -> None:
    validator = jsonschema.Draft202012Validator(schema_of(name))
    assert [error.message for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_is_a_schema_that_the_command_prints(name: str, terminal: Terminal) -> None:
    ended = terminal("schema", name)
    assert ended.code == 0
    assert json.loads(ended.out) == schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema_of(name))


def test_a_run_is_told_as_the_schemas_say(terminal: Terminal) -> None:
    manifest = terminal.write(
        "some.csv",
        "serial_number,operation,note,site\nZQ000000001,reboot,soon,Calle 1\nNOT-THERE,sync,,\nZQ000000002,sync,,x\n",
    )
    assert terminal("run", manifest, "--rate", "100/s", "--quiet").code == 1
    for name, words in {
        "report": ["report", terminal.run_id()],
        "status": ["status", terminal.run_id()],
        "runs": ["runs"],
        "validate": ["validate", manifest],
        "plan": ["plan", manifest, "--waves", "50%,100%", "--window", "02:00-05:00 UTC"],
        "what-if": ["plan", manifest, "--what-if", "rate=1/s,2/s"],
    }.items():
        ended = terminal(*words, "--format", "json")
        assert ended.code == 0, ended.err
        check(name, json.loads(ended.out))


def test_what_changed_between_two_plans_is_told_as_the_schema_says(terminal: Terminal) -> None:
    for rate in ("1/s", "2/s"):
        assert terminal("plan", terminal.manifest(), "--rate", rate, "--out", f"{rate[0]}.json").code == 0
    found = json.loads(terminal("plan", "--diff", "1.json", "2.json", "--format", "json").out)
    check("plan-diff", found)
    assert {"what": "policy.rate", "before": "1/s", "after": "2/s"} in found


def test_a_run_that_cannot_be_read_is_listed_as_the_schema_says(terminal: Terminal) -> None:
    terminal("run", terminal.manifest(1), "--quiet")
    next((terminal.folder / "state/runs").glob("*.db")).write_bytes(b"not a journal")
    listed = json.loads(terminal("runs", "--format", "json").out)
    assert listed[0]["state"] == "damaged"
    check("runs", listed)


def test_problems_are_told_as_the_schema_says(terminal: Terminal) -> None:
    rows = "".join(f"ZQ{number:09},rebot\n" for number in range(1, 61))
    broken = terminal.write("broken.csv", f"serial_number,operation\n{rows},reboot\n")
    ended = terminal("validate", broken, "--format", "json")
    assert ended.code == 3
    told = json.loads(ended.out)
    check("validate", told)
    assert (told["errors"], len(told["problems"])) == (61, 51)
    assert told["unlisted"] == [{"severity": "error", "code": "unknown-operation", "count": 10}]


def test_a_document_that_lacks_a_key_is_not_what_the_schema_says() -> None:
    with pytest.raises(jsonschema.ValidationError, match="'run' is a required property"):
        jsonschema.validate({"schema": "fleetops-report/1", "steps": []}, schema_of("report"))
