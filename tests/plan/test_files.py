from __future__ import annotations

from pathlib import Path

import pytest

from fleetops.errors import InvalidInputError, UsageError
from fleetops.plan import frozen_for, manifest_path, policy_path, read_plan
from tests.plan.conftest import MakePlan, rows_of


def test_paths_are_relative_to_the_plan(plan_of: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_of(rows_of(1, "sync"), policy_file="policies/night.yaml")
    plan = plan.model_copy(update={"manifest": plan.manifest.model_copy(update={"path": "night.csv"})})
    (tmp_path / "plans").mkdir()
    out = Path("plans/night-plan.json")
    frozen = frozen_for(plan, out)
    assert (frozen.manifest.path, frozen.policy_file) == ("../night.csv", "../policies/night.yaml")
    out.write_text(frozen.to_json())
    again = read_plan(out)
    assert again == frozen
    assert Path(manifest_path(again, out)).read_text().startswith("serial_number")
    assert policy_path(again, out) == "plans/../policies/night.yaml"


def test_absolute_paths_stay(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of(rows_of(1, "sync"))
    frozen = frozen_for(plan, tmp_path / "plan.json")
    assert manifest_path(frozen, tmp_path / "plan.json") == str(tmp_path / "night.csv")
    assert policy_path(frozen, tmp_path / "plan.json") is None


def test_a_manifest_from_standard_input_cannot_be_frozen(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of(rows_of(1, "sync"))
    plan = plan.model_copy(update={"manifest": plan.manifest.model_copy(update={"path": "-"})})
    with pytest.raises(UsageError):
        frozen_for(plan, tmp_path / "plan.json")


def test_a_plan_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        read_plan(tmp_path / "missing.json")
