"""The report as JUnit XML, for CI servers: a test suite per operation, a test case per step.

A step that failed is a failure, one that may have run an error; skipped steps and those that were not started are
skipped. Attributes and elements are those that both Jenkins and GitLab read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast
from xml.sax.saxutils import XMLGenerator

from fleetops.model import OPERATIONS, Outcome
from fleetops.report.frame import report_frame

if TYPE_CHECKING:
    from collections.abc import Collection
    from io import TextIOBase
    from typing import TextIO

    import pandas as pd

    from fleetops.journal.views import RunView

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold, escaped or not (XML 1.0, section 2.2)."""

_ELEMENTS: Final = {
    Outcome.FAILED: "failure",
    Outcome.UNKNOWN: "error",
    Outcome.SKIPPED: "skipped",
    Outcome.NOT_STARTED: "skipped",
}


def write_junit(view: RunView, out: TextIO, outcomes: Collection[Outcome] | None) -> None:
    """Write the steps that have one of the outcomes; None for all.

    Raises:
        JournalError: The journal is damaged.
        OSError: The stream cannot be written.
    """
    frame = report_frame(view, outcomes)
    xml = XMLGenerator(cast("TextIOBase", out), "UTF-8", short_empty_elements=True)
    xml.startDocument()
    _start(xml, "testsuites", {"name": f"fleetops {view.facts.run_id}", **_counts(frame)})
    for operation in OPERATIONS:
        steps = frame[frame["operation"] == operation.value]
        if len(steps):
            _write_suite(xml, operation, steps, view)
    _end(xml, "testsuites")
    out.write("\n")


def _write_suite(xml: XMLGenerator, operation: str, steps: pd.DataFrame, view: RunView) -> None:
    started = {} if view.started_at is None else {"timestamp": view.started_at.removesuffix("Z")}
    _start(xml, "testsuite", {"name": operation, **_counts(steps), **started})
    columns = ("row", "serial_number", "group", "outcome", "reason", "duration_s", "detail")
    for row, serial, group, outcome, reason, duration_s, detail in zip(*(steps[name] for name in columns), strict=True):
        case = {
            "classname": f"{operation}.{group}" if group else operation,
            "name": f"{serial} (row {row})",
            "time": _seconds(duration_s),
        }
        _start(xml, "testcase", case)
        element = _ELEMENTS.get(Outcome(outcome))
        if element is not None:
            message = f"{outcome}: {reason}" if reason else outcome
            _start(xml, element, {"message": message} if element == "skipped" else {"message": message, "type": reason})
            xml.characters(_xml_text(detail))
            xml.endElement(element)
        xml.endElement("testcase")
    _end(xml, "testsuite")


def _start(xml: XMLGenerator, element: str, attributes: dict[str, str]) -> None:
    xml.ignorableWhitespace("\n")
    xml.startElement(element, {name: _xml_text(value) for name, value in attributes.items()})  # type: ignore[arg-type]  # a mapping will do


def _end(xml: XMLGenerator, element: str) -> None:
    xml.ignorableWhitespace("\n")
    xml.endElement(element)


def _counts(steps: pd.DataFrame) -> dict[str, str]:
    elements = steps["outcome"].map(lambda outcome: _ELEMENTS.get(Outcome(outcome), ""))
    return {
        "tests": str(len(steps)),
        "failures": str(int((elements == "failure").sum())),
        "errors": str(int((elements == "error").sum())),
        "skipped": str(int((elements == "skipped").sum())),
        "time": _seconds(steps["duration_s"].sum()),
    }


def _seconds(duration_s: Any) -> str:
    return f"{duration_s:.3f}" if duration_s == duration_s else "0.000"  # noqa: PLR0124 - NaN is not itself


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
