from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from fleetops.live import live_thread
from tests.live.browser import Browser, browsing, in_a_browser
from tests.live.conftest import MARKUP, TOKEN, Night

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = in_a_browser

ROWS_ACCEPTED = (
    """[...document.querySelectorAll("#rows tbody tr")].filter((row) => /accepted/.test(row.textContent)).length"""
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


def says(what: str) -> str:
    return f'document.body.innerText.includes("{what}")'


def test_a_page_follows_a_run_of_another_process_to_its_end(night: Night, browser: Browser) -> None:
    night.sandbox.set_faults("not_found@ZQ000000003")
    with night.run(60, "--rate", "20/s", note="") as run_id, live_thread(night.state, run_id) as address:
        browser.open(address)
        browser.js('void document.querySelector("#search").focus()')
        browser.wait_for(f"{says('running')} && {ROWS_ACCEPTED} > 0")
        seen = browser.js(ROWS_ACCEPTED)
        browser.wait_for(f"{ROWS_ACCEPTED} > {seen}")
        browser.wait_for(says("No process drives the run now"))
        assert "59 accepted, 1 failed of 60 steps" in browser.js('document.querySelector("#lead").textContent')
        assert browser.js("document.activeElement.id") == "search", "an update takes the focus away from nobody"
        drawn = browser.js('[...document.querySelectorAll(".chart")].map((one) => one.querySelectorAll("path").length)')
        assert len(drawn) >= 4
        assert all(drawn), "every chart is drawn"
        assert browser.js('document.querySelector("#part-4").parentElement.textContent.includes("not found")')


def test_a_page_finds_its_server_again_and_misses_nothing(night: Night, browser: Browser) -> None:
    with night.run(40, "--rate", "10/s") as run_id:
        with live_thread(night.state, run_id) as address:
            browser.open(address)
            browser.wait_for(f"{ROWS_ACCEPTED} > 0")
        browser.wait_for(says("is lost"))
        with live_thread(night.state, run_id, urlsplit(address).port or 0):
            browser.wait_for(says("This page follows the run"))
            browser.wait_for("document.querySelector('#lead').textContent.includes('40 accepted of 40')")


def test_a_page_asks_again_also_after_it_was_refused(night: Night, browser: Browser) -> None:
    run_id = night.finished(2, "--rate", "100/s")
    with live_thread(night.state, run_id) as address:
        browser.open(address)
        browser.wait_for(says("No process drives the run now"))
    port = urlsplit(address).port or 0
    with refusing(port) as asked:
        # A browser by itself gives up for good once a server has answered anything but 200.
        until_s = time.monotonic() + 20
        while not asked:
            assert time.monotonic() < until_s
            time.sleep(0.02)
        browser.wait_for(says("is lost"))
    with live_thread(night.state, run_id, port):
        browser.wait_for(says("No process drives the run now"))


@contextmanager
def refusing(port: int) -> Iterator[list[str]]:
    """A server that is there and cannot answer, as a proxy does: the paths that it was asked for."""
    asked: list[str] = []

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)
            asked.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Refusal) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            yield asked
        finally:
            server.shutdown()
            serving.join()


def test_a_finished_run_is_shown_as_it_ended_and_a_report_can_be_taken_from_it(night: Night, browser: Browser) -> None:
    run_id = night.finished(3, "--rate", "100/s")
    with live_thread(night.state, run_id) as address:
        browser.open(address)
        browser.wait_for(says("No process drives the run now"))
        browser.js('void document.querySelector("#download-csv").click()')
        assert browser.downloaded(f"{run_id}.csv").count("accepted") == 3


def test_text_of_a_manifest_or_of_the_service_never_becomes_markup_or_script(night: Night, browser: Browser) -> None:
    night.sandbox.set_faults("refuse@ZQ000000002")
    with night.run(20, "--rate", "10/s", note=MARKUP) as run_id, live_thread(night.state, run_id) as address:
        browser.open(address)
        browser.wait_for(f"{ROWS_ACCEPTED} > 3")
        browser.wait_for(says("20 steps"))
        browser.js('void document.querySelector("#rows tbody tr").click()')
        browser.wait_for(says("<img src=x onerror=alert(1)>"))
        assert browser.js("document.title") != "run"
        assert browser.js('document.querySelectorAll("img").length') == 0
        assert TOKEN not in browser.js("document.documentElement.outerHTML")


def test_the_policy_of_the_page_stops_scripts_and_requests_to_elsewhere(night: Night, browser: Browser) -> None:
    run_id = night.finished(1, "--rate", "100/s")
    with live_thread(night.state, run_id) as address:
        browser.open(address)
        browser.js(
            """(() => {
              const added = document.createElement("script");
              added.textContent = "document.title = 'run'";
              document.body.append(added);
              fetch("http://localhost:1/").catch(() => { document.documentElement.dataset.fetch = "refused"; });
            })()"""
        )
        browser.wait_for("document.documentElement.dataset.fetch === 'refused'")
        assert browser.js("document.title") != "run"
