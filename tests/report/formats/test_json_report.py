from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from fleetops.journal.views import RunView
from fleetops.model import Outcome
from fleetops.policy import Policy
from fleetops.report.formats.json_report import write_json
from fleetops.report.frame import COLUMNS
from fleetops.scheduler import StopReason
from tests.report.journals import RUN_ID, T0, Made, S, make_journal, rows

if TYPE_CHECKING:
    from pathlib import Path


def written(made: Made, outcomes: list[Outcome] | None = None) -> Any:
    out = io.StringIO()
    with RunView.open(made.state, made.run_id) as view:
        write_json(view, out, outcomes)
    return json.loads(out.getvalue())


def test_the_run_and_its_steps_are_there_under_a_versioned_schema(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(2), campaign="batch 14")
    made.process(ended_ns=T0 + 60 * S, reason=StopReason.COMPLETE)
    made.attempt(0, "accepted", http_status=200, operation_id="77", at_ns=T0 + S)
    made.result(0, Outcome.ACCEPTED, at_ns=T0 + 2 * S)
    made.result(1, Outcome.SKIPPED, "offline", at_ns=T0)
    report = written(made)
    assert list(report) == ["schema", "run", "steps"]
    assert report["schema"] == "fleetops-report/1"
    assert report["run"] == {
        "run_id": RUN_ID,
        "campaign": "batch 14",
        "manifest": "routers.csv",
        "manifest_sha256": "0" * 64,
        "base_url": "http://127.0.0.1:1/api/v1",
        "created_at": "2026-01-02T03:00:00.000Z",
        "state": "complete",
        "exit_code": 0,
        "started_at": "2026-01-02T03:00:00.000Z",
        "finished_at": "2026-01-02T03:01:00.000Z",
        "outcomes": {"accepted": 1, "confirmed": 0, "failed": 0, "unknown": 0, "skipped": 1, "not_started": 0},
        "policy": json.loads(Policy().to_json()),
        "plan": None,
    }
    first, second = report["steps"]
    assert list(first) == [*(name for name in COLUMNS if name != "run_id"), "note", "carried"]
    assert (first["http_status"], first["operation_id"], first["duration_s"]) == (200, "77", 1.0)
    assert (first["reason"], first["group"], first["note"], first["carried"]) == (None, None, None, {})
    assert (second["http_status"], second["first_sent_at"], second["attempts"]) == (None, None, 0)


def test_carried_columns_keep_their_names_and_none_is_lost(tmp_path: Path) -> None:
    made = make_journal(
        tmp_path,
        rows(1),
        carried_columns=("row", "", ""),
        carried=[["=1", "é\u2028", ""]],
    )
    (step,) = written(made)["steps"]
    assert step["row"] == 1
    assert step["carried"] == {"row": "=1", "": "é\u2028", "manifest_": ""}


def test_a_report_without_a_step_is_still_json(tmp_path: Path) -> None:
    report = written(make_journal(tmp_path, rows(2)), [Outcome.FAILED])
    assert report["steps"] == []
    assert report["run"]["outcomes"]["not_started"] == 2
