from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.errors import InvalidInputError
from fleetops.journal import StateDir
from fleetops.journal.views import RunView
from fleetops.plan import Forecast, check_plan, compare_with_run, diff_plans, require_unchanged
from tests.plan.conftest import MakeCampaign, MakePlan, rows_of
from tests.plan.journals import leave_run

if TYPE_CHECKING:
    from pathlib import Path

ROWS = rows_of(10, "reboot")


def test_a_plan_holds_while_nothing_changes(plan_of: MakePlan, campaign_of: MakeCampaign) -> None:
    plan = plan_of(ROWS, {"rate": "3/s"}, base_url="https://control.example/api/v1")
    campaign = campaign_of(ROWS, {"rate": "3/s"})
    assert check_plan(plan, campaign.manifest, campaign.policy) == []
    require_unchanged(plan, campaign.manifest, campaign.policy, base_url="https://control.example/api/v1")


def test_a_device_more_is_named_with_the_place(plan_of: MakePlan, campaign_of: MakeCampaign) -> None:
    plan = plan_of(ROWS)
    campaign = campaign_of([*ROWS[:4], ("NEW1", "reboot"), *ROWS[4:]])
    found = [str(difference) for difference in check_plan(plan, campaign.manifest, campaign.policy)]
    assert found[:4] == [
        "devices: 10 -> 11",
        "steps: 10 -> 11",
        "steps.reboot: 10 -> 11",
        "first difference in the steps: row 5 -> other steps or settle times there",
    ]
    assert found[4].startswith("manifest: ")


def test_another_device_in_a_row_is_seen_where_no_number_changes(plan_of: MakePlan, campaign_of: MakeCampaign) -> None:
    plan = plan_of(ROWS)
    campaign = campaign_of([*ROWS[:9], ("OTHER1", "reboot")])
    found = [difference.what for difference in check_plan(plan, campaign.manifest, campaign.policy)]
    assert found == ["first difference in the steps", "manifest"]


def test_a_changed_settle_time_is_refused_with_what_it_was(plan_of: MakePlan, campaign_of: MakeCampaign) -> None:
    plan = plan_of(ROWS)
    campaign = campaign_of(ROWS, {"settle": {"reboot": "10s"}})
    with pytest.raises(InvalidInputError, match=r"night-plan.json no longer holds: policy.settle.reboot: 3m -> 10s"):
        require_unchanged(plan, campaign.manifest, campaign.policy, source="night-plan.json")


def test_another_service_scheduler_or_window_rule_is_a_difference(plan_of: MakePlan, campaign_of: MakeCampaign) -> None:
    plan = plan_of(ROWS, base_url="https://control.example/api/v1").model_copy(
        update={"scheduler_version": 0, "wave_seed": "another"}
    )
    campaign = campaign_of(ROWS)
    found = check_plan(
        plan, campaign.manifest, campaign.policy, base_url="https://other.example/api/v1", heed_window=False
    )
    assert [difference.what for difference in found] == [
        "scheduler (plan again with this version)",
        "base_url",
        "maintenance windows",
        "wave_seed",
    ]


def test_a_long_list_of_differences_is_cut(plan_of: MakePlan, campaign_of: MakeCampaign) -> None:
    plan = plan_of(ROWS)
    plan = plan.model_copy(update={"policy": {f"setting{at}": at for at in range(40)}})
    campaign = campaign_of(ROWS)
    with pytest.raises(InvalidInputError, match=r"and \d+ more$"):
        require_unchanged(plan, campaign.manifest, campaign.policy)


def test_two_plans_of_the_same_campaign_do_not_differ(plan_of: MakePlan) -> None:
    assert diff_plans(plan_of(ROWS), plan_of(ROWS)) == []


def test_two_plans_differ_in_what_is_done_how_and_what_comes_of_it(plan_of: MakePlan) -> None:
    old = plan_of(ROWS)
    new = plan_of([*ROWS, ("NEW1", "factory")], {"rate": "1/s"}, name="later.csv")
    found = {difference.what: (difference.before, difference.after) for difference in diff_plans(old, new)}
    assert found["devices"] == ("10", "11")
    assert found["destructive"] == ("0", "1")
    assert found["steps.factory"] == ("nothing", "1")
    assert found["policy.rate"] == ("5/s", "1/s")
    assert found["risk.reset-without-sync"][0] == "nothing"
    assert "predicted.makespan" in found
    assert "predicted.outcomes.accepted" in found


def test_a_run_is_compared_with_its_plan(plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of(rows_of(20, "sync"), {"rate": "5/s"})
    forecast = Forecast.of(plan)
    state = StateDir(tmp_path / "state")
    sent = [(at / 5, at / 5 + 0.2, "accepted" if at else "maybe") for at in range(20)]
    leave_run(state, "20260102-030405-6f7a", sent, plan=forecast.model_dump_json(), took_s=4.1)
    with RunView.open(state, "20260102-030405-6f7a") as view:
        reckoning = compare_with_run(view)
    assert reckoning is not None
    assert reckoning.predicted == forecast
    assert reckoning.makespan_s == 4.1
    assert reckoning.in_range
    assert reckoning.deviation == pytest.approx(4.1 / forecast.makespan_s - 1)
    text = "\n".join(reckoning.lines())
    assert "took 4.1 s, predicted 3.9 s (+" in text
    assert "within the range" in text
    assert "200 ms to an answer, assumed 100 ms" in text
    assert "19 accepted, predicted 20" in text


def test_a_run_that_is_not_over_has_no_makespan_to_compare(plan_of: MakePlan, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    leave_run(state, "20260102-030405-6f7a", [], plan=Forecast.of(plan_of(ROWS)).model_dump_json())
    leave_run(state, "20260102-030405-6f7b", [])
    with RunView.open(state, "20260102-030405-6f7a") as view:
        reckoning = compare_with_run(view)
    assert reckoning is not None
    assert reckoning.makespan_s is None
    assert reckoning.latency_s is None
    assert reckoning.lines()[0] == "0 requests, predicted 10"
    with RunView.open(state, "20260102-030405-6f7b") as view:
        assert compare_with_run(view) is None
