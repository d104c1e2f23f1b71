"""The page of a report, as somebody uses it."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from fleetops.journal import StateDir
from fleetops.journal.views import RunView
from fleetops.model import OPERATIONS, Operation, Outcome
from fleetops.policy import Policy
from fleetops.report.formats import Format
from fleetops.report.output import write_report
from fleetops.validation import validate
from tests.live.browser import Browser, browsing, in_a_browser
from tests.report.journals import RUN_ID, T0, S, make_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = in_a_browser

MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
EVIL = f"A1{MARKUP}"
"""A serial number that a policy with a pattern of its own lets pass."""
DEVICES = 600
STEPS = 2 * DEVICES


def serial(device: int) -> str:
    return EVIL if device == DEVICES - 1 else f"ZQ{device:09}"


def written(folder: Path) -> Path:
    """The page of a run with a step of each outcome among many that went well."""
    made = make_journal(
        folder,
        [(serial(device), operation) for device in range(DEVICES) for operation in (Operation.REBOOT, Operation.SYNC)],
        groups=[f"node-{device % 30:02}" if device != DEVICES - 1 else MARKUP for device in range(DEVICES)],
        notes=[MARKUP if step == STEPS - 1 else "" for step in range(STEPS)],
        carried_columns=("site", MARKUP),
        carried=[(f"Calle Mayor {step // 2}", MARKUP if step == STEPS - 1 else "x, y") for step in range(STEPS)],
        policy=Policy.model_validate({"serial_pattern": ".+"}),
    )
    made.process(started_ns=T0, ended_ns=T0 + 900 * S, reason="complete")
    with made.writing():
        for step in range(STEPS):
            device, at_ns = step // 2, T0 + step * S // 2
            if device == 7:
                _not_found(made, step, at_ns)
            elif device == DEVICES - 1 and step % 2:
                made.attempt(step, "refused", "invalid", at_ns=at_ns, http_status=422, detail=MARKUP)
                made.result(step, Outcome.FAILED, "invalid", at_ns=at_ns + 2 * S)
            elif step == 100:
                made.attempt(step, "maybe", "connection_lost", at_ns=at_ns)
                made.result(step, Outcome.UNKNOWN, "connection_lost", at_ns=at_ns + 60 * S)
            elif step == 101:
                made.result(step, Outcome.SKIPPED, "earlier_step_unknown", at_ns=at_ns)
            else:
                made.attempt(step, "accepted", at_ns=at_ns, http_status=200, operation_id=str(step))
                made.result(step, Outcome.ACCEPTED, at_ns=at_ns + S)
    path = folder / "page.html"
    with RunView.open(made.state, RUN_ID) as view:
        write_report(view, Format.HTML, path)
    return path


def _not_found(made: Any, step: int, at_ns: int) -> None:
    if step % 2:
        made.result(step, Outcome.SKIPPED, "earlier_step_failed", at_ns=at_ns)
    else:
        made.attempt(step, "refused", "not_found", at_ns=at_ns, http_status=404, detail="Not found.")
        made.result(step, Outcome.FAILED, "not_found", at_ns=at_ns + S)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Browser:
    browser.command("Emulation.clearDeviceMetricsOverride")
    browser.open(address)
    browser.wait_for(f"document.documentElement.dataset.rows === '{STEPS}'")
    return browser


def shown(page: Browser) -> str:
    return str(page.js('document.querySelector("#shown").textContent'))


def column(page: Browser, name: str) -> list[str]:
    """The cells of a column that are drawn, from above."""
    return list(
        page.js(
            f"""((at) => [...document.querySelectorAll("#grid tbody tr")].map((row) => row.cells[at].textContent))(
              [...document.querySelectorAll("#grid thead th")].findIndex((one) => one.dataset.name === "{name}"))"""
        )
    )


def search(page: Browser, text: str) -> None:
    page.js(
        f"""void ((box) => {{ box.value = {text!r}; box.dispatchEvent(new Event("input")); }})(
          document.querySelector("#search"))"""
    )


def choose(page: Browser, name: str, value: str) -> None:
    page.js(
        f"""void ((one) => {{ one.value = "={value}"; one.dispatchEvent(new Event("change", {{ bubbles: true }})); }})(
          document.querySelector("#by-{name}"))"""
    )


def tick(page: Browser, outcome: Outcome) -> None:
    page.js(f"""void document.querySelector('#by-outcome [value="{outcome}"]').click()""")


def sort_by(page: Browser, name: str) -> None:
    page.js(f"""void document.querySelector('#grid th[data-name="{name}"] button').click()""")


def test_every_chart_is_drawn_and_the_rows_are_shown(page: Browser) -> None:
    drawn = page.js('[...document.querySelectorAll(".chart")].map((one) => one.querySelectorAll("path").length)')
    assert len(drawn) >= 5
    assert all(drawn)
    assert shown(page) == "1,200 rows"
    assert column(page, "row")[:3] == ["1", "2", "3"]
    assert len(column(page, "row")) < 100, "only what is in view is drawn"


def test_rows_are_searched_in_all_their_texts(page: Browser) -> None:
    search(page, "calle zq000000123")
    page.wait_for("document.querySelector('#shown').textContent === '2 of 1,200 rows'")
    search(page, "zq000000123 MAYOR sync")
    page.wait_for("document.querySelector('#shown').textContent === '1 of 1,200 rows'")
    assert (column(page, "serial_number"), column(page, "operation")) == (["ZQ000000123"], ["sync"])
    search(page, "not found.")
    page.wait_for("document.querySelector('#grid tbody').textContent.includes('ZQ000000007')")
    assert shown(page) == "1 of 1,200 rows"
    search(page, "nothing like it")
    page.wait_for("document.querySelector('#shown').textContent === '0 of 1,200 rows'")
    assert page.js("document.querySelector('#download-csv').disabled")


def test_rows_are_filtered_by_outcome_operation_reason_and_group(page: Browser) -> None:
    tick(page, Outcome.FAILED)
    tick(page, Outcome.UNKNOWN)
    assert shown(page) == "3 of 1,200 rows"
    assert column(page, "outcome") == ["failed", "unknown", "failed"]
    choose(page, "operation", "reboot")
    assert shown(page) == "2 of 1,200 rows"
    choose(page, "reason", "connection_lost")
    assert column(page, "row") == ["101"]
    choose(page, "group", "node-07")
    assert shown(page) == "0 of 1,200 rows"
    page.js("void document.querySelector('#filters [type=reset]').click()")
    page.wait_for("document.querySelector('#shown').textContent === '1,200 rows'")


def test_rows_are_sorted_up_and_down_by_any_column(page: Browser) -> None:
    sort_by(page, "duration_s")
    sort_by(page, "duration_s")
    assert column(page, "duration_s")[:2] == ["", ""], "what has none counts as longest"
    assert column(page, "duration_s")[2] == "60.0"
    sort_by(page, "serial_number")
    assert column(page, "serial_number")[0] == EVIL
    sort_by(page, "serial_number")
    assert column(page, "serial_number")[0] == f"ZQ{DEVICES - 2:09}"
    assert page.js('document.querySelector("#grid [aria-sort]").dataset.name') == "serial_number"
    sort_by(page, "row")
    assert column(page, "row")[:2] == ["1", "2"]


def test_the_keyboard_goes_through_the_rows_and_shows_a_device(page: Browser) -> None:
    page.js("void document.querySelector('#grid').focus()")
    page.press("End")
    page.wait_for(f"document.querySelector('#grid tr.active')?.cells[0].textContent === '{STEPS}'")
    page.press("Home", "ArrowDown", "ArrowDown")
    assert page.js("document.querySelector('#grid tr.active').cells[0].textContent") == "3"
    page.press("Enter")
    assert page.js("document.activeElement.id") == "device"
    assert page.js("document.querySelectorAll('#device tbody tr').length") == 2
    assert "ZQ000000001" in page.js("document.querySelector('#device h3').textContent")
    page.press("Escape")
    assert page.js("document.querySelector('#device').hidden")
    assert page.js("document.activeElement.id") == "grid"


def test_the_rows_that_are_shown_are_downloaded_and_what_is_to_be_tried_again_is_a_valid_manifest(
    page: Browser, tmp_path: Path
) -> None:
    tick(page, Outcome.UNKNOWN)
    tick(page, Outcome.SKIPPED)
    page.js("void document.querySelector('#download-csv').click()")
    rows = list(csv.DictReader(io.StringIO(page.downloaded(f"{RUN_ID}.csv"))))
    assert [(row["row"], row["outcome"], row["site"]) for row in rows] == [
        ("16", "skipped", "Calle Mayor 7"),
        ("101", "unknown", "Calle Mayor 50"),
        ("102", "skipped", "Calle Mayor 50"),
    ]
    page.js("void document.querySelector('#download-manifest').click()")
    again = tmp_path / "again.csv"
    again.write_text(page.downloaded(f"{RUN_ID}-again.csv"))
    steps = validate(again).steps
    found = [(steps.serial(step), OPERATIONS[steps.operation_of[step]]) for step in range(len(steps))]
    assert found == [
        ("ZQ000000007", Operation.SYNC),
        ("ZQ000000050", Operation.REBOOT),
        ("ZQ000000050", Operation.SYNC),
    ]


def test_the_report_in_csv_that_a_page_hands_out_is_that_of_the_command_line(page: Browser, tmp_path: Path) -> None:
    page.js("void document.querySelector('#download-csv').click()")
    downloaded = page.downloaded(f"{RUN_ID}.csv")
    made = tmp_path / "made"
    made.mkdir()
    written(made)
    with RunView.open(StateDir(made), RUN_ID) as view:
        write_report(view, Format.CSV, made / "results.csv")
    assert list(csv.reader(io.StringIO(downloaded))) == list(
        csv.reader(io.StringIO((made / "results.csv").read_bytes().decode()))
    )


def test_markup_in_serials_groups_notes_columns_and_details_stays_text(page: Browser) -> None:
    search(page, "onerror")
    page.wait_for("document.querySelector('#shown').textContent === '2 of 1,200 rows'")
    page.js("void document.querySelector('#grid tbody tr').click()")
    text = page.js("document.querySelector('#device').innerText")
    # The device in the heading, the name of a column, its cell, the note and the detail; the group beside the device.
    assert text.count(MARKUP) == 6
    assert page.js("document.title") != "run"
    assert page.js("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_sticks_out_of_the_screen_of_a_phone_or_of_a_desk(page: Browser, width: int) -> None:
    page.command("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500)
    page.wait_for(f"innerWidth === {width}")
    assert page.js("document.documentElement.scrollWidth") <= width
    seen = page.js(
        """[...document.querySelectorAll("#grid thead th")].filter((one) =>
             one.getBoundingClientRect().right <= innerWidth).map((one) => one.dataset.name)"""
    )
    assert {"serial_number", "outcome"} <= set(seen), "what became of a device is in view"


def test_on_paper_there_are_rows_and_no_controls(page: Browser) -> None:
    page.js("void dispatchEvent(new Event('beforeprint'))")
    page.command("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.js("document.querySelectorAll('#grid tbody tr').length") == 1000
        assert page.js("document.querySelector('#print-rest').textContent").startswith("and 200 more rows")
        assert page.js("getComputedStyle(document.querySelector('#filters')).display") == "none"
    finally:
        page.command("Emulation.setEmulatedMedia", media="")
