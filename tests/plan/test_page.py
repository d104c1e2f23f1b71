from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from typing import TYPE_CHECKING

import pytest

from fleetops.plan import Plan, render_html
from tests.plan.conftest import MakePlan, rows_of

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NASTY = "<img src=x onerror=alert(1)>"

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")


@pytest.fixture
def plan(plan_of: MakePlan) -> Plan:
    policy = {"waves": "10%,100%", "gate": "failed<=5%, soak 1m", "group_cap": 2, "window": "00:30-05:00 UTC"}
    made = plan_of(rows_of(40, "factory", "sync", "reconf", groups=5), policy)
    said = made.predictions
    groups = (said.groups[0].model_copy(update={"group": NASTY}), *said.groups[1:])
    manifest = made.manifest.model_copy(update={"campaign": NASTY})
    return made.model_copy(update={"predictions": said.model_copy(update={"groups": groups}), "manifest": manifest})


def browse(folder: Path, html: str, *flags: str) -> str:
    """The page as chromium has it, once its scripts have run."""
    (folder / "plan.html").write_text(html)
    assert CHROMIUM is not None
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", profile]
    done = subprocess.run(
        [*command, *flags, (folder / "plan.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@in_a_browser
def test_the_charts_are_drawn_with_what_they_show(plan: Plan, tmp_path: Path) -> None:
    html = browse(
        tmp_path, render_html(plan), "--dump-dom", "--window-size=1100,900", "--blink-settings=preferredColorScheme=1"
    )
    assert re.search(r'<html[^>]*data-charts="4"', html)
    charts = re.findall(r'<div class="chart".*?<p class="keys"', html, re.DOTALL)
    assert len(charts) == 4
    assert all("<svg" in drawn and "<path" in drawn for drawn in charts)
    words = [set(map(unescape, re.findall(r"<text[^>]*>([^<]*)</text>", drawn))) for drawn in charts]
    assert "minutes from the start" in words[0]
    assert {"factory", "sync", "reconf"} <= words[1]
    assert {"wave 1", "wave 2", "window 1"} <= words[2]
    assert {"olt1", "disturbed at once", "cap", NASTY} <= words[3]
    assert "<title>Plan: &lt;img" in html, "nothing of the manifest was run"

    assert "#0b62b8" in _drawn(html)
    assert "#7ab8ff" not in _drawn(html)


@in_a_browser
def test_the_charts_fit_a_narrow_screen_and_follow_its_colours(plan: Plan, tmp_path: Path) -> None:
    dark = browse(
        tmp_path,
        render_html(plan),
        "--dump-dom",
        "--window-size=500,900",
        "--blink-settings=preferredColorScheme=0",
    )
    widths = [int(width) for width in re.findall(r'<svg[^>]* width="(\d+)', dark)]
    assert len(widths) == 4
    assert max(widths) <= 500
    assert "#7ab8ff" in _drawn(dark)


def _drawn(html: str) -> str:
    return "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))


@in_a_browser
def test_the_page_prints(plan: Plan, tmp_path: Path) -> None:
    pdf = tmp_path / "plan.pdf"
    browse(tmp_path, render_html(plan), f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert 2 <= pages <= 8


@in_a_browser
def test_the_arrow_keys_read_the_figures_out(plan: Plan, tmp_path: Path) -> None:
    html = render_html(plan)
    script = """<script>
      const press = (key) => {
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
        return document.activeElement.parentElement.querySelector("output").textContent;
      };
      document.getElementById("chart-3").focus();
      const said = ["ArrowRight", "ArrowRight", "End", "Home", "Tab", "ArrowLeft"].map(press);
      document.body.dataset.said = JSON.stringify(said);
    </script></body>"""
    allowed = re.sub(r"script-src [^;]*", "script-src 'unsafe-inline'", html, count=1)
    before, _, after = allowed.rpartition("</body>")
    browsed = browse(tmp_path, before + script + after, "--dump-dom")
    said = re.search(r'data-said="([^"]*)"', browsed)
    assert said is not None
    spoken = unescape(said[1])
    assert spoken.startswith('["group ' + NASTY)
    assert "group olt1, devices 8, steps 24, disturbed at once 2, cap 2" in spoken


def test_the_page_holds_the_figures_as_tables_too(plan: Plan) -> None:
    html = render_html(plan)
    for words in ("Devices disturbed over time", "Steps answered over time", "Waves", "Maintenance windows", "Risks"):
        assert f"<caption>{words}" in html or words == "Risks"
    assert plan.digest in html
    assert NASTY not in html
    assert "http://" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)


def test_a_plan_without_waves_groups_or_windows_has_two_charts(plan_of: MakePlan) -> None:
    html = render_html(plan_of(rows_of(3, "sync"), {"offline": "skip"}))
    assert html.count('<div class="chart"') == 2
    assert "Risks</h2>" not in html
