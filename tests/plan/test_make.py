from __future__ import annotations

import pytest

from fleetops.errors import InvalidInputError, UsageError
from fleetops.plan import Assumptions, make_plan, what_if
from fleetops.plan import make as making
from tests.plan.conftest import MONDAY_NS, MakeCampaign, MakePlan, rows_of

STEADY = Assumptions(latency_s=(0.1,), host_s=0)


def test_a_rate_bound_campaign_takes_as_long_as_its_rate_says(plan_of: MakePlan) -> None:
    said = plan_of(rows_of(200, "sync"), {"rate": "10/s"}).predictions
    assert said.makespan_s == pytest.approx(20.05, rel=0.01)
    assert said.range_s[0] < said.makespan_s < said.range_s[1]
    assert said.bounds[0].name == "rate"
    assert said.ended == "complete"
    assert said.outcomes == {"accepted": 200}
    assert said.remedies[0].setting == "rate: 20/s"
    assert said.remedies[0].makespan_s < 0.6 * said.makespan_s


def test_a_plan_counts_what_there_is_to_do(plan_of: MakePlan) -> None:
    work = plan_of([*rows_of(3, "factory", "sync", groups=2), ("OTHER1", "device_factory")]).work
    assert (work.devices, work.steps, work.destructive, work.groups) == (4, 7, 4, 2)
    assert work.operations == {"factory": 3, "device_factory": 1, "sync": 3}


def test_every_step_is_drawn_somewhere(plan_of: MakePlan) -> None:
    said = plan_of(rows_of(40, "factory", "sync"), {"rate": "5/s"}).predictions
    assert {name: sum(counts) for name, counts in said.series.answered.items()} == {"factory": 40, "sync": 40}
    assert max(said.series.disturbed) == said.peak_disturbed == 40
    assert len(said.series.disturbed) <= 480


def test_the_window_decides_when_it_starts_and_what_is_left_over(plan_of: MakePlan) -> None:
    policy = {"window": "02:00-03:00 UTC", "rate": "1/m", "settle": {"sync": "1m"}}
    said = plan_of(rows_of(100, "sync"), policy).predictions
    assert said.first_send_s == 7200
    assert said.ended == "window_closed"
    assert [use.start_at for use in said.windows] == ["2026-02-02T02:00:00Z", "2026-02-03T02:00:00Z"]
    assert said.windows[0].left_steps == 100 - said.sends == said.outcomes["not_started"]
    assert said.windows[1].left_steps == 0
    assert said.complete_at is not None
    assert said.complete_at.startswith("2026-02-03T02:")


def test_what_would_have_a_run_complete_before_its_window_closes_is_told(plan_of: MakePlan) -> None:
    policy = {"window": "23:50-00:10 UTC", "rate": "10/m", "settle": {"sync": "1m"}}
    said = plan_of(rows_of(120, "sync"), policy).predictions
    assert said.ended == "window_closed"
    assert {remedy.setting for remedy in said.remedies} == {"rate: 20/m", "window: 23:50-00:30 UTC"}


def test_what_would_take_fewer_windows_is_told(plan_of: MakePlan) -> None:
    policy = {"window": "02:00-02:30 UTC", "rate": "10/m", "settle": {"sync": "1m"}, "at_end": "wait"}
    said = plan_of(rows_of(400, "sync"), policy).predictions
    assert (said.ended, len(said.windows)) == ("complete", 2)
    assert [remedy.setting for remedy in said.remedies] == ["rate: 20/m", "window: 02:00-03:00 UTC"]
    assert all(remedy.makespan_s < 4 * 3600 for remedy in said.remedies)


def test_a_run_that_waits_goes_through_as_many_windows_as_it_takes(plan_of: MakePlan) -> None:
    policy = {"window": "02:00-03:00 UTC", "rate": "1/m", "at_end": "wait"}
    said = plan_of(rows_of(150, "sync"), policy).predictions
    assert said.ended == "complete"
    assert len(said.windows) == 3
    assert said.bounds[0].name == "window"
    assert said.complete_at is None


def test_windows_do_not_count_where_they_are_ignored(plan_of: MakePlan) -> None:
    plan = plan_of(rows_of(3, "sync"), {"window": "02:00-03:00 UTC"}, heed_window=False)
    assert plan.predictions.windows == ()
    assert plan.predictions.first_send_s == 0


def test_waves_start_one_after_another_with_their_soak_between(plan_of: MakePlan) -> None:
    policy = {"waves": "2,50%,100%", "gate": "failed<=5%, soak 1m", "rate": "50/s"}
    said = plan_of(rows_of(40, "reboot"), policy).predictions
    assert [use.devices for use in said.waves] == [2, 18, 20]
    starts = [use.start_s or 0 for use in said.waves]
    ends = [use.end_s or 0 for use in said.waves]
    assert all(later >= earlier + 60 for earlier, later in zip(ends, starts[1:], strict=False))
    assert any(one.event == "wave_started" for one in said.happenings)


def test_a_group_is_never_disturbed_beyond_its_cap(plan_of: MakePlan) -> None:
    said = plan_of(rows_of(40, "reboot", "sync", groups=4), {"group_cap": 3, "rate": "50/s"}).predictions
    assert [(use.group, use.peak, use.cap) for use in said.groups] == [(f"olt{at}", 3, 3) for at in range(4)]
    assert said.peak_disturbed == 12
    assert said.bounds[0].name == "group_cap"
    assert any(remedy.setting == "group_cap: 6" for remedy in said.remedies)


def test_a_gate_that_fails_under_the_assumptions_is_predicted(plan_of: MakePlan) -> None:
    policy = {"waves": "50%,100%", "gate": "unknown<=1%"}
    plan = plan_of(rows_of(40, "reboot"), policy, Assumptions(failing=0.5))
    assert plan.predictions.ended == "gate_failed"
    assert plan.predictions.outcomes["not_started"] == 20
    assert [use.start_s for use in plan.predictions.waves][1] is None
    assert "ends-early" in {risk.code for risk in plan.risks}


def test_a_gate_that_would_pause_does_not_hold_the_simulation_up(plan_of: MakePlan) -> None:
    policy = {"waves": "50%,100%", "gate": "unknown<=1%", "on_gate_failed": "pause"}
    said = plan_of(rows_of(40, "reboot"), policy, Assumptions(failing=0.5)).predictions
    assert said.ended == "complete"
    assert any(one.event == "paused" for one in said.happenings)


def test_excluded_devices_are_not_sent_to(plan_of: MakePlan) -> None:
    said = plan_of(rows_of(10, "sync", groups=2), {"deny": ["CPE00000[0-4]"], "group_cap": 1}).predictions
    assert said.sends == 5
    assert said.outcomes == {"accepted": 5, "skipped": 5}
    assert all(bound.at_least_s <= said.makespan_s for bound in said.bounds)


def test_a_limit_of_the_service_is_reckoned_with(plan_of: MakePlan) -> None:
    plan = plan_of(rows_of(200, "sync"), {"rate": "20/s"}, Assumptions(limit_per_s=10))
    assert plan.predictions.sends > 200
    assert plan.predictions.makespan_s > 19
    assert "rate-above-limit" in {risk.code for risk in plan.risks}
    assert "throttling" in {bound.name for bound in plan.predictions.bounds}


def test_a_rate_that_the_service_takes_is_told_to_be_faster(plan_of: MakePlan) -> None:
    said = plan_of(rows_of(200, "sync"), {"rate": "20/s"}, Assumptions(latency_s=(0.1,), limit_per_s=8)).predictions
    assert said.bounds[0].name == "throttling"
    assert said.remedies[0].setting == "rate: 8/s"
    assert said.remedies[0].makespan_s < 0.9 * said.makespan_s


def test_the_range_of_a_large_campaign_is_made_of_bounds(plan_of: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "MOST_STEPS_IN_PASSES", 10)
    said = plan_of(rows_of(50, "sync"), {"concurrency": 1, "rate": "100/s"}).predictions
    assert said.range_method.startswith("the expected time, scaled")
    assert said.range_s[0] < 0.6 * said.makespan_s
    assert said.range_s[1] > 1.9 * said.makespan_s
    assert said.remedies == ()


def test_a_campaign_of_centuries_cannot_be_planned(plan_of: MakePlan) -> None:
    with pytest.raises(InvalidInputError, match="within this century"):
        plan_of(rows_of(1, "sync", "reboot"), {"settle": {"sync": "8784h"}}, start_ns=4_600_000_000_000_000_000)


def test_a_confirmed_campaign_is_planned_too(plan_of: MakePlan) -> None:
    said = plan_of(rows_of(5, "reboot"), {"confirm": True}).predictions
    assert said.outcomes == {"confirmed": 5}


def test_what_if_gives_a_row_for_each_value(campaign_of: MakeCampaign) -> None:
    campaign = campaign_of(rows_of(100, "sync", "reboot"))
    rates = what_if(campaign, STEADY, "rate=10/s,20/s,40/s", start_ns=MONDAY_NS)
    assert [row.setting for row in rates] == ["rate=10/s", "rate=20/s", "rate=40/s"]
    assert rates[0].makespan_s > rates[1].makespan_s > rates[2].makespan_s
    settles = what_if(campaign, STEADY, "settle=10s,2m", start_ns=MONDAY_NS)
    assert settles[1].makespan_s - settles[0].makespan_s == pytest.approx(110, abs=20)
    windows = what_if(campaign, STEADY, "window=02:00-05:00 UTC;sat,sun 03:00-05:00 UTC", start_ns=MONDAY_NS)
    assert [row.end_at[:10] for row in windows] == ["2026-02-02", "2026-02-07"]


@pytest.mark.parametrize(
    "text", ["", "rate", "rate=", "rate=10/s,,", "rate=fast", "unknown=1", "rate=" + "1/s," * 30 + "1/s"]
)
def test_what_cannot_be_compared_is_refused(campaign_of: MakeCampaign, text: str) -> None:
    with pytest.raises(UsageError):
        what_if(campaign_of(rows_of(2, "sync")), STEADY, text, start_ns=MONDAY_NS)


def test_the_same_campaign_is_planned_alike_each_time(campaign_of: MakeCampaign) -> None:
    campaign = campaign_of(rows_of(30, "factory", "sync", groups=3), {"waves": "10%,100%", "group_cap": 2})
    assumed = Assumptions(latency_s=(0.1, 0.5), failing=0.05)
    one, other = (make_plan(campaign, assumed, start_ns=MONDAY_NS) for _ in range(2))
    assert one.digest == other.digest
