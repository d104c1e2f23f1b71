from __future__ import annotations

import pytest

from fleetops.plan import Assumptions, diff_plans, render_differences, render_text, render_what_if, what_if
from fleetops.plan.wording import counted, moment, span
from tests.plan.conftest import MONDAY_NS, MakeCampaign, MakePlan, rows_of


def test_a_plan_says_what_an_operator_asks(plan_of: MakePlan) -> None:
    policy = {"waves": "10%,100%", "group_cap": 2, "window": "01:00-05:00 UTC", "rate": "10/s"}
    plan = plan_of(rows_of(30, "factory", "sync", groups=15), policy, base_url="https://control.example/api/v1")
    text = render_text(plan)
    for words in (
        "devices      30 in 15 groups",
        "steps        60, 30 of them destructive",
        "first send after 1h 00m",
        "Bounded by the maintenance window",
        "the longest sequence",
        "Windows\n",
        "Waves\n",
        "Groups\n",
        "  and 3 more\n",
        "https://control.example/api/v1",
        f"digest       {plan.digest}",
    ):
        assert words in text
    assert text.endswith("\n")


def test_a_plan_says_what_would_shorten_it(plan_of: MakePlan) -> None:
    lines = render_text(plan_of(rows_of(100, "sync"))).splitlines()
    assert lines[lines.index("What would shorten it") + 2].split()[:2] == ["rate:", "10/s"]


def test_a_plan_that_is_cut_short_says_what_would_have_it_complete(plan_of: MakePlan) -> None:
    policy = {"window": "00:00-00:20 UTC", "rate": "10/m"}
    lines = render_text(plan_of(rows_of(200, "sync"), policy)).splitlines()
    assert lines[lines.index("What would have it complete") + 2].split()[:2] == ["rate:", "20/m"]


def test_a_plan_that_sends_nothing_says_so(plan_of: MakePlan) -> None:
    text = render_text(plan_of(rows_of(1, "factory"), {"window": "01:00-01:01 UTC"}))
    assert "nothing is sent" in text
    assert "the window closes with 1 step left over" in text


def test_a_plan_that_needs_further_windows_says_when_it_is_complete(plan_of: MakePlan) -> None:
    policy = {"window": "00:00-01:00 UTC", "rate": "1/m"}
    text = render_text(plan_of(rows_of(70, "sync"), policy))
    assert "complete     2026-02-03T00:" in text


def test_waves_that_never_start_are_told(plan_of: MakePlan) -> None:
    policy = {"waves": "50%,100%", "gate": "unknown<=1%"}
    text = render_text(plan_of(rows_of(40, "reboot"), policy, Assumptions(failing=0.5)))
    assert "never" in text
    assert "gate failed" in text


def test_control_characters_do_not_reach_the_terminal(plan_of: MakePlan) -> None:
    plan = plan_of(rows_of(1, "sync"))
    manifest = plan.manifest.model_copy(update={"campaign": "night\x1b]0;owned\x07\u202e"})
    text = render_text(plan.model_copy(update={"manifest": manifest}))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_what_if_is_a_table(campaign_of: MakeCampaign) -> None:
    rows = what_if(campaign_of(rows_of(100, "sync")), Assumptions(), "rate=10/s,100/s", start_ns=MONDAY_NS)
    header, first, second = render_what_if(rows).splitlines()
    assert header.split() == ["setting", "takes", "ends", "at", "disturbed", "at", "once", "ends", "as"]
    assert first.split()[0] == "rate=10/s"
    assert second.split()[0] == "rate=100/s"


def test_differences_are_a_line_each(plan_of: MakePlan) -> None:
    old, new = plan_of(rows_of(1, "sync")), plan_of(rows_of(1, "sync"), {"rate": "1/s"})
    assert "policy.rate: 5/s -> 1/s\n" in render_differences(diff_plans(old, new))
    assert render_differences([]) == "nothing changed\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (59.97, "1m 00s"),
        (245, "4m 05s"),
        (3599.6, "1h 00m"),
        (8100, "2h 15m"),
        (86_400 * 3 + 4 * 3600, "3d 4h"),
    ],
)
def test_spans_of_time_are_written_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_moments_and_counts_are_written_for_people() -> None:
    assert moment(MONDAY_NS) == "2026-02-02T00:00:00Z"
    assert (counted(1, "device"), counted(1200, "device")) == ("1 device", "1,200 devices")
