from __future__ import annotations

import io
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from fleetops.journal.views import RunView
from fleetops.model import Operation, Outcome
from fleetops.report.formats.junit_report import write_junit
from fleetops.scheduler import StopReason
from tests.report.journals import T0, Made, S, make_journal

if TYPE_CHECKING:
    from pathlib import Path


def written(made: Made, outcomes: list[Outcome] | None = None) -> ET.Element:
    out = io.StringIO()
    with RunView.open(made.state, made.run_id) as view:
        write_junit(view, out, outcomes)
    return ET.fromstring(out.getvalue().encode())


def mixed(root: Path) -> Made:
    steps = [(f"SN{number}", Operation.FACTORY if number < 3 else Operation.SYNC) for number in range(6)]
    made = make_journal(root, steps, groups=["olt-1", "", "", "", "", ""])
    made.process(ended_ns=T0 + S, reason=StopReason.INTERRUPTED)
    made.attempt(0, "accepted", at_ns=T0)
    made.result(0, Outcome.ACCEPTED, at_ns=T0 + 1_500_000_000)
    made.attempt(1, "refused", "not_found", detail="no <such> & \x1b[31m device")
    made.result(1, Outcome.FAILED, "not_found")
    made.attempt(2, "maybe", "read_timeout", detail="gone")
    made.result(2, Outcome.UNKNOWN, "read_timeout")
    made.result(3, Outcome.SKIPPED, "offline")
    made.result(4, Outcome.CONFIRMED)
    return made


def test_each_operation_is_a_suite_and_each_step_a_case(tmp_path: Path) -> None:
    suites = written(mixed(tmp_path))
    assert suites.tag == "testsuites"
    assert [(suite.get("name"), suite.get("tests"), len(suite)) for suite in suites] == [
        ("factory", "3", 3),
        ("sync", "3", 3),
    ]
    assert {name: suites.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "6",
        "failures": "1",
        "errors": "1",
        "skipped": "2",
        "time": "3.500",
    }
    cases = [case.attrib for case in suites.iter("testcase")]
    assert cases[0] == {"classname": "factory.olt-1", "name": "SN0 (row 1)", "time": "1.500"}
    assert cases[5] == {"classname": "sync", "name": "SN5 (row 6)", "time": "0.000"}


def test_outcomes_are_told_in_the_elements_of_junit(tmp_path: Path) -> None:
    accepted, failed, unknown, skipped, confirmed, left = written(mixed(tmp_path)).iter("testcase")
    assert len(accepted) == len(confirmed) == 0
    (failure,) = failed
    assert (failure.tag, failure.attrib) == ("failure", {"message": "failed: not_found", "type": "not_found"})
    assert failure.text == "no <such> & \ufffd[31m device"
    (error,) = unknown
    assert (error.tag, error.get("type"), error.text) == ("error", "read_timeout", "gone")
    assert (skipped[0].tag, skipped[0].attrib) == ("skipped", {"message": "skipped: offline"})
    assert (left[0].tag, left[0].get("message")) == ("skipped", "not_started: interrupted")


def test_only_wanted_outcomes_are_there(tmp_path: Path) -> None:
    suites = written(mixed(tmp_path), [Outcome.FAILED])
    assert suites.get("tests") == "1"
    assert len(list(suites.iter("testcase"))) == 1


def test_a_run_that_never_began_has_no_time_stamp(tmp_path: Path) -> None:
    made = make_journal(tmp_path, [('\ufffe<&">', Operation.SYNC)])
    (suite,) = written(made)
    assert suite.get("timestamp") is None
    assert suite[0].get("name") == '\ufffd<&"> (row 1)'


def test_no_steps_make_no_suites(tmp_path: Path) -> None:
    assert len(written(mixed(tmp_path), [])) == 0


ALLOWED = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time", "timestamp"}, {"testcase"}),
    "testcase": ({"classname", "name", "time"}, {"failure", "error", "skipped"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message"}, set()),
}
"""The attributes and elements of the common JUnit format that the report keeps to."""


def test_nothing_is_written_that_ci_servers_do_not_know(tmp_path: Path) -> None:
    suites = written(mixed(tmp_path))
    for element in suites.iter():
        attributes, below = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {one.tag for one in element} <= below
    for suite in suites:
        assert int(suite.get("tests", "")) == len(suite)
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(name, "")) == len(suite.findall(f"testcase/{tag}"))
