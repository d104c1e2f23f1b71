"""The report as JSON, for programs.

One object, `schema` first, so that a reader knows what it has before it reads on:

    {"schema": "fleetops-report/1",
     "run": {"run_id", "campaign", "manifest", "manifest_sha256", "base_url", "created_at", "state", "exit_code",
             "started_at", "finished_at", "outcomes": {outcome: count}, "policy": {the settings}},
     "steps": [{the columns of the CSV report but run_id, "note", "carried": {column: cell}}]}

Times are RFC 3339 in UTC. What is not known, or does not apply, is null. `run` is about the whole run, also where only
steps of some outcomes are listed. Further keys may be added under the same schema; none is removed or changed.
"""

from __future__ import annotations

import json
from itertools import repeat
from typing import TYPE_CHECKING, Final

from fleetops.journal.views import rfc3339
from fleetops.report.frame import COLUMNS, NOTE, report_slices, unique_names

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, TextIO

    from fleetops.journal.views import RunView
    from fleetops.model import Outcome

SCHEMA: Final = "fleetops-report/1"

_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
_STEP_KEYS: Final = (*(name for name in COLUMNS if name != "run_id"), NOTE)


def write_json(view: RunView, out: TextIO, outcomes: Collection[Outcome] | None) -> None:
    """Write the run, and the steps that have one of the outcomes; None for all.

    Raises:
        JournalError: The journal is damaged.
        OSError: The stream cannot be written.
    """
    names = unique_names(view.facts.carried_columns)
    out.write(f'{{"schema": {_encode(SCHEMA)},\n"run": {_encode(run_facts(view))},\n"steps": [')
    before = "\n"
    for rows in report_slices(view, outcomes, note=True):
        steps = zip(*(rows.columns[name] for name in _STEP_KEYS), strict=True)
        carried = zip(*rows.carried, strict=True) if names else repeat(())
        for cells, extra in zip(steps, carried, strict=False):
            step = {name: None if cell == "" else cell for name, cell in zip(_STEP_KEYS, cells, strict=True)}
            step["carried"] = dict(zip(names, extra, strict=True))
            out.write(before + _encode(step))
            before = ",\n"
    out.write("\n]}\n")


def run_facts(view: RunView) -> dict[str, Any]:
    """What the report says of the run as a whole."""
    facts = view.facts
    return {
        "run_id": facts.run_id,
        "campaign": facts.campaign,
        "manifest": facts.manifest,
        "manifest_sha256": facts.digest,
        "base_url": facts.base_url,
        "created_at": rfc3339(facts.created_ns),
        "state": view.state,
        "exit_code": view.exit_code(),
        "started_at": view.started_at,
        "finished_at": view.finished_at,
        "outcomes": view.outcomes,
        "policy": json.loads(view.policy.to_json()),
        "plan": _against_the_plan(view),
    }


def _against_the_plan(view: RunView) -> dict[str, Any] | None:
    """How the run compares with the plan that it was started from; None where there was none."""
    if not view.facts.plan:
        return None
    from fleetops.plan import compare_with_run  # noqa: PLC0415 - most reports need no planner, which takes a while to load

    found = compare_with_run(view)
    if found is None:
        return None
    said = found.predicted
    return {
        "digest": said.digest,
        "predicted_s": said.makespan_s,
        "range_s": list(said.range_s),
        "took_s": None if found.makespan_s is None else round(found.makespan_s, 3),
        "deviation": None if found.deviation is None else round(found.deviation, 4),
        "in_range": found.in_range,
        "predicted_sends": said.sends,
        "sends": found.sends,
    }
