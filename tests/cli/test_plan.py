from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from fleetops.cli import plan
from fleetops.cli.plan import Passes, campaign_of_plan, is_plan
from fleetops.errors import InvalidInputError
from fleetops.plan import Assumptions, make_plan
from fleetops.validation import validate

if TYPE_CHECKING:
    from pathlib import Path

    from fleetops.simulation import Trace

Fleetops = Callable[..., Result]


@pytest.fixture
def fleetops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleetops:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETOPS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("FLEETOPS_BASE_URL", raising=False)
    (tmp_path / "night.csv").write_text("serial_number,operation\nCPE1,factory\nCPE1,sync\nCPE2,reboot\n")
    app = typer.Typer()
    app.callback()(lambda: None)
    plan.register(app)
    return lambda *arguments: CliRunner().invoke(app, ["plan", *arguments])


def test_a_plan_is_printed_for_people_and_for_programs(fleetops: Fleetops) -> None:
    done = fleetops("night.csv", "--start", "2026-02-02T02:00Z")
    assert done.exit_code == 0, done.output
    assert "steps        3, 1 of them destructive" in done.stdout
    assert "end          2026-02-02T02:05:01Z (complete)" in done.stdout
    content = json.loads(fleetops("night.csv", "--format", "json").stdout)
    assert content["schema"] == "fleetops-plan/1"
    assert content["work"]["devices"] == 2


def test_a_plan_is_frozen_and_holds_until_something_changes(fleetops: Fleetops, tmp_path: Path) -> None:
    assert fleetops("night.csv", "--rate", "2/s", "--out", "night-plan.json").exit_code == 0
    made, campaign = campaign_of_plan("night-plan.json")
    assert made.options == {"rate": "2/s"}
    assert campaign.policy.rate.per_s == 2
    with pytest.raises(InvalidInputError, match=r"policy\.settle\.reboot: 3m -> 1s"):
        campaign_of_plan("night-plan.json", options={"settle": {"reboot": "1s"}})
    with (tmp_path / "night.csv").open("a") as file:
        file.write("CPE3,reboot\n")
    with pytest.raises(InvalidInputError, match="devices: 2 -> 3"):
        campaign_of_plan("night-plan.json")


def test_a_policy_file_that_changed_is_seen(fleetops: Fleetops, tmp_path: Path) -> None:
    (tmp_path / "night.yaml").write_text("rate: 2/s\n")
    (tmp_path / "plans").mkdir()
    assert fleetops("night.csv", "--policy", "night.yaml", "--out", "plans/night-plan.json").exit_code == 0
    campaign_of_plan("plans/night-plan.json")
    (tmp_path / "night.yaml").write_text("rate: 3/s\n")
    with pytest.raises(InvalidInputError, match=r"policy\.rate: 2/s -> 3/s"):
        campaign_of_plan("plans/night-plan.json")


def test_the_page_is_one_file(fleetops: Fleetops, tmp_path: Path) -> None:
    done = fleetops("night.csv", "--html", "night-plan.html")
    assert done.exit_code == 0
    assert (tmp_path / "night-plan.html").read_text().startswith("<!doctype html>")
    assert "page: night-plan.html" in done.stderr


def test_settings_are_compared(fleetops: Fleetops) -> None:
    done = fleetops("night.csv", "--what-if", "settle=1m,2m")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["setting", "settle=1m", "settle=2m"]
    rows = json.loads(fleetops("night.csv", "--what-if", "settle=1m,2m", "--format", "json").stdout)
    assert rows[0]["makespan_s"] < rows[1]["makespan_s"]
    assert fleetops("night.csv", "--what-if", "nothing=1").exit_code == 2


def test_two_plans_are_compared(fleetops: Fleetops) -> None:
    fleetops("night.csv", "--out", "old.json")
    fleetops("night.csv", "--rate", "1/s", "--out", "new.json")
    assert "policy.rate: 5/s -> 1/s\n" in fleetops("--diff", "old.json", "new.json").stdout
    rows = json.loads(fleetops("--diff", "old.json", "new.json", "--format", "json").stdout)
    assert {"what": "policy.rate", "before": "5/s", "after": "1/s"} in rows
    assert fleetops("--diff", "old.json").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("night.csv", "night.csv"), 2),
        (("missing.csv",), 3),
        (("night.csv", "--start", "soon"), 2),
        (("night.csv", "--start", "2026-02-02T02:00"), 2),
        (("night.csv", "--start", "1900-01-01T00:00Z"), 2),
        (("night.csv", "--start", "9999-12-31T23:59Z"), 2),
        (("night.csv", "--start", "2099-12-31T23:59Z", "--rate", "1/h", "--settle", "365h"), 0),
        (("night.csv", "--assume", "speed=1"), 2),
        (("night.csv", "--out", "nowhere/plan.json"), 7),
        (("--diff", "night.csv", "night.csv"), 3),
        (("night.csv", "--rate", "fast"), 2),
    ],
)
def test_mistakes_end_with_their_code_and_no_traceback(
    fleetops: Fleetops, arguments: tuple[str, ...], code: int
) -> None:
    done = fleetops(*arguments)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    assert "defect" not in done.output


def test_names_that_are_too_long_or_not_utf8_are_planned_all_the_same(fleetops: Fleetops, tmp_path: Path) -> None:
    row = f"{{serial_number: A1, operation: sync, group: {'g' * 9000}}}"
    (tmp_path / "long.yaml").write_text(f"campaign: {'c' * 9000}\nsteps: [{row}]\npolicy: {{group_cap: 1}}\n")
    assert fleetops("long.yaml", "--out", "long.json", "--html", "long.html").exit_code == 0
    assert fleetops("--diff", "long.json", "long.json").stdout == "nothing changed\n"
    name = os.fsdecode(b"night\xff.csv")
    (tmp_path / name).write_text("serial_number,operation\nA1,sync\n")
    assert fleetops(name).exit_code == 0
    done = fleetops(name, "--out", "plan.json")
    assert done.exit_code == 2
    assert "is not UTF-8" in done.stderr


def test_assumptions_can_be_given(fleetops: Fleetops) -> None:
    content = json.loads(fleetops("night.csv", "--assume", "latency=2s,failing=1%", "--format", "json").stdout)
    assert content["assumptions"]["latency_s"] == [2.0]
    assert content["assumptions"]["failing"] == 0.01


def test_a_plan_is_told_from_a_manifest_by_its_suffix() -> None:
    assert is_plan("night-plan.JSON")
    assert not is_plan("night.csv")
    assert not is_plan("-")


def test_how_far_a_simulation_is_can_be_told_at_any_time(fleetops: Fleetops) -> None:
    passes = Passes()
    assert passes.how_far() == ""
    told = []

    def begun(trace: Trace) -> None:
        passes.begun(trace)
        told.append(passes.how_far())

    assert fleetops("night.csv").exit_code == 0
    make_plan(validate("night.csv"), Assumptions(), start_ns=0, watch=begun)
    assert told[:3] == ["0%", "pass 2, 0%", "pass 3, 0%"]
    assert passes.how_far() == f"pass {len(told)}, 100%"
