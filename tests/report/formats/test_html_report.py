from __future__ import annotations

import json
import re
from io import StringIO
from typing import TYPE_CHECKING

from fleetops.campaigns import Connection, run
from fleetops.control import read_token
from fleetops.journal import StateDir
from fleetops.journal.views import RunView
from fleetops.report.formats import Format
from fleetops.report.output import write_report
from fleetops.sandbox import SandboxConfig, parse_fault, sandbox_thread
from fleetops.validation import validate

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "t0ken-that-must-not-be-seen"
MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def page(tmp_path: Path) -> str:
    """The page of a run whose manifest holds markup and in which one step failed."""
    manifest = tmp_path / "m.csv"
    rows = "".join(f"ZQ{number:09},sync,{MARKUP}\n" for number in range(1, 6))
    manifest.write_text(f"serial_number,operation,note\n{rows}")
    state = StateDir(tmp_path / "state")
    config = SandboxConfig(devices=9, token=TOKEN, faults=(parse_fault("not_found@ZQ000000002"),))
    with sandbox_thread(config) as (base_url, _):
        connection = Connection(base_url=base_url, token=read_token({"FLEETOPS_TOKEN": TOKEN}))
        done = run(validate(str(manifest), options={"rate": "200/s"}), connection, state)
    out = StringIO()
    with RunView.open(state, done.run_id) as view:
        write_report(view, Format.HTML, out)
    return out.getvalue()


def test_a_page_holds_every_row_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert text.startswith("<!doctype html>")
    assert all(f"ZQ{number:09}" in text or f"{number:09}" in text for number in range(1, 6))
    assert "default-src 'none'" in text
    assert re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?https?:", text) is None
    assert TOKEN not in text


def test_text_of_a_manifest_cannot_become_markup(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert MARKUP not in text
    assert "<img src=x" not in text
    for embedded in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL):
        assert json.loads(embedded) is not None
