from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import TOKEN

if TYPE_CHECKING:
    from tests.cli.conftest import Ended, Terminal


def lines(ended: Ended) -> list[dict[str, Any]]:
    """The log of a command; each of its lines has to be an object."""
    found = [json.loads(line) for line in ended.err.splitlines()]
    assert all({"time", "level", "event"} <= set(line) for line in found)
    return found


def test_every_line_of_a_run_is_an_object_for_programs(terminal: Terminal) -> None:
    terminal.sandbox.set_faults("not_found@ZQ000000002", "close_before@ZQ000000003:1x")
    ended = terminal("run", terminal.manifest(3, "sync"), "--rate", "100/s", "--log-format", "json")
    assert ended.code == 1
    assert ended.out == ""
    log = lines(ended)
    assert log[0]["event"] == "run_started"
    assert {line["run_id"] for line in log} == {terminal.run_id()}
    outcomes = {line["serial"]: line["outcome"] for line in log if line["event"] == "outcome"}
    assert outcomes == {"ZQ000000001": "accepted", "ZQ000000002": "failed", "ZQ000000003": "accepted"}
    assert log[-1]["event"] == "run_ended"
    assert log[-1]["exit_code"] == 1
    assert log[-1]["outcomes"]["accepted"] == 2
    assert [line["attempt"] for line in log if line["event"] == "retry"] == [1]
    assert TOKEN not in ended.err


def test_a_resume_is_logged_under_its_run(terminal: Terminal) -> None:
    terminal("run", terminal.manifest(1), "--rate", "100/s")
    ended = terminal("resume", terminal.run_id(), "--log-format", "json")
    assert ended.code == 0
    assert {line["run_id"] for line in lines(ended)} == {terminal.run_id()}


def test_problems_and_errors_are_logged_too(terminal: Terminal) -> None:
    broken = terminal.write("broken.csv", "serial_number,operation\nABC,rebot\n")
    ended = terminal("run", broken, "--log-format", "json")
    assert ended.code == 3
    assert [(line["level"], line["event"]) for line in lines(ended)] == [("error", "problem"), ("info", "message")]
    assert lines(ended)[0]["line"] == 2
    doubtful = terminal.write("doubtful.csv", "serial_number,operation\nABC,factory\n")
    ended = terminal("run", doubtful, "--log-format", "json", "--report", "none/at/all.csv", "--yes")
    assert ended.code == 2
    assert [line["event"] for line in lines(ended)][-1] == "error"
    assert "hint" in lines(ended)[-1]
    assert not terminal("run", broken).err.startswith("{"), "what one command asked for does not outlive it"


def test_a_metrics_file_is_there_once_a_run_has_ended(terminal: Terminal) -> None:
    path = terminal.folder / "fleetops.prom"
    ended = terminal("run", terminal.manifest(2), "--rate", "100/s", "--metrics-file", str(path))
    assert ended.code == 0
    found = {
        sample.name: sample
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
        if sample.labels.get("outcome", "accepted") == "accepted"
    }
    assert found["fleetops_run_steps"].value == 2
    assert found["fleetops_run_exit_code"].value == 0
    assert found["fleetops_run_info"].labels["run_id"] == terminal.run_id()
    assert b"ZQ" not in path.read_bytes()
    assert TOKEN not in path.read_text()


@pytest.mark.parametrize("where", ["none/m.prom", "manifest.csv", "results.csv", "."])
def test_metrics_that_cannot_be_written_are_refused_before_anything_is_sent(terminal: Terminal, where: str) -> None:
    ended = terminal("run", terminal.manifest(2), "--metrics-file", where)
    assert ended.code == 2
    assert "--metrics-file" in ended.err
    assert terminal.sandbox.requests == []


def test_a_name_that_no_exporter_reads_is_warned_of(terminal: Terminal) -> None:
    ended = terminal("run", terminal.manifest(1), "--rate", "100/s", "--metrics-file", "metrics.txt")
    assert ended.code == 0
    assert "only files that end in .prom" in ended.err
