"""The pages, looked at by axe-core in a real browser: no serious finding, in light and in dark colours."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from html import unescape
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from fleetops.live import live_thread
from fleetops.model import Outcome
from fleetops.plan import Assumptions, make_plan, render_html
from fleetops.validation import validate
from tests.plan.conftest import MONDAY_NS
from tests.report.formats.test_html_report import page as report_page
from tests.report.journals import RUN_ID, make_journal, rows

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
NPM: Final = shutil.which("npm")
AXE: Final = "axe-core@4.11.0"
AXE_SHA256: Final = "39bed7d72308f6d620789c169d699bfd7e8da80f65b545821a6b2215c3e83107"
LOOK: Final = """
axe.run(document, {resultTypes: ["violations"]}).then(
  (found) => { document.body.dataset.found = JSON.stringify(found.violations.map(
    (one) => [one.impact, one.id, one.nodes.map((node) => node.html.slice(0, 200))])); },
  (error) => { document.body.dataset.found = JSON.stringify([["critical", String(error), []]]); });
"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or NPM is None, reason="axe-core needs chromium and npm: apt-get install chromium npm"
)


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core at the version that is pinned."""
    folder = tmp_path_factory.mktemp("axe")
    assert NPM is not None
    try:
        done = subprocess.run(
            [NPM, "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm does not answer: {AXE} cannot be fetched")
    if done.returncode:
        pytest.skip(f"{AXE} cannot be fetched: {done.stderr[-300:]}")
    (packed,) = folder.glob("*.tgz")
    assert hashlib.sha256(packed.read_bytes()).hexdigest() == AXE_SHA256
    with tarfile.open(packed) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


@pytest.fixture(scope="module", params=["plan", "report", "live"])
def html(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    if request.param == "report":
        return report_page(folder)
    if request.param == "live":
        made = make_journal(folder, rows(5), groups=["a", "b", "a", "b", "a"])
        made.process()
        made.attempt(0, "refused", "not_found", http_status=404)
        made.result(0, Outcome.FAILED, "not_found")
        with live_thread(made.state, RUN_ID) as address:
            return httpx.get(address, trust_env=False).text
    manifest = folder / "m.csv"
    text = "".join(f"ZQ{number:09},{what},g{number % 4}\n" for number in range(40) for what in ("factory", "sync"))
    manifest.write_text(f"serial_number,operation,group\n{text}")
    options = {"waves": "10%,100%", "group_cap": 2, "window": "00:30-05:00 UTC"}
    campaign = validate(str(manifest), options=options)
    reckoned = Assumptions(latency_s=(0.1,), host_s=0)
    return render_html(make_plan(campaign, reckoned, options=options, start_ns=MONDAY_NS))


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_page_has_no_serious_finding(html: str, axe: str, scheme: int, tmp_path: Path) -> None:
    assert [one for one in findings(html, axe, scheme, tmp_path) if one[0] in {"serious", "critical"}] == []


def test_a_fault_is_found(axe: str, tmp_path: Path) -> None:
    found = findings("<!doctype html><html><body><img src='data:,'></body></html>", axe, 1, tmp_path)
    assert {"image-alt", "html-has-lang"} <= {one[1] for one in found}


def findings(html: str, axe: str, scheme: int, folder: Path) -> list[Any]:
    """What axe-core has to say of a page: impact, rule and elements of each violation."""
    allowed = re.sub(r"script-src [^;\"]*", "script-src 'unsafe-inline' 'unsafe-eval'", html, count=1)
    before, _, after = allowed.rpartition("</body>")
    (folder / "page.html").write_text(f"{before}<script>{axe}</script><script>{LOOK}</script></body>{after}")
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [
            CHROMIUM,
            *flags,
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--user-data-dir={folder / 'profile'}",
            (folder / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = re.search(r'data-found="([^"]*)"', done.stdout)
    assert said is not None, "axe-core did not finish"
    return list(json.loads(unescape(said[1])))
