from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.journal import StateDir
from fleetops.plan import risks_of_live_runs
from tests.plan.conftest import MakePlan, rows_of
from tests.plan.journals import BASE_URL, leave_run

if TYPE_CHECKING:
    from pathlib import Path


def codes(plan_of: MakePlan, *arguments: object, **more: object) -> dict[str, str]:
    return {risk.code: risk.message for risk in plan_of(*arguments, **more).risks}


def test_a_reset_that_nothing_follows_is_a_risk(plan_of: MakePlan) -> None:
    rows = [*rows_of(2, "factory", "sync"), ("BARE1", "sync"), ("BARE1", "factory"), ("BARE2", "device_factory")]
    assert "2 devices left without sync or reconf after a factory reset: BARE1, BARE2" in codes(plan_of, rows).values()
    assert "reset-without-sync" not in codes(plan_of, rows_of(2, "factory", "reconf"))


def test_resending_what_is_not_harmless_is_a_risk(plan_of: MakePlan) -> None:
    assert "resend" not in codes(plan_of, rows_of(2, "reboot"))
    found = codes(plan_of, rows_of(2, "reboot", "sync"), {"resend": {"reboot": True}})
    assert found["resend"].startswith("a reboot whose reply is lost is sent again")


def test_offline_devices_are_a_risk_unless_they_are_looked_up(plan_of: MakePlan) -> None:
    assert "offline-devices" in codes(plan_of, rows_of(1, "sync"))
    assert "offline-devices" not in codes(plan_of, rows_of(1, "sync"), {"offline": "skip"})


def test_many_devices_without_a_brake_are_a_risk(plan_of: MakePlan) -> None:
    assert "no-brake" in codes(plan_of, rows_of(101, "sync"))
    assert "no-brake" not in codes(plan_of, rows_of(101, "sync"), {"abort_when": "failed>5"})
    assert "no-brake" not in codes(plan_of, rows_of(100, "sync"))


def test_a_group_that_is_disturbed_as_a_whole_is_a_risk(plan_of: MakePlan) -> None:
    assert codes(plan_of, rows_of(20, "reboot", groups=2))["whole-group"].endswith("olt0, olt1")
    assert "whole-group" not in codes(plan_of, rows_of(20, "reboot", groups=2), {"group_cap": 3})


def test_a_window_that_is_too_short_says_how_much_is_left(plan_of: MakePlan) -> None:
    policy = {"window": "02:00-03:00 UTC", "rate": "1/m", "settle": {"sync": "30m"}}
    assert "steps left over" in codes(plan_of, rows_of(100, "sync"), policy)["window-too-short"]
    never = {"window": "02:00-02:01 UTC"}
    assert "3 steps left over" in codes(plan_of, rows_of(3, "factory"), never)["window-too-short"]


def test_live_runs_on_the_same_service_are_a_risk(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    serials = ["CPE1", "CPE2", "CPE3", "CPE4"]
    leave_run(state, "20260102-030405-0001", [], serials=["CPE9"])
    leave_run(state, "20260102-030405-0002", [], serials=serials)
    leave_run(state, "20260102-030405-0003", [], serials=serials, base_url="https://other.example/api/v1")
    leave_run(state, "20260102-030405-0004", [], serials=serials)
    locks = [state.lock_run(f"20260102-030405-000{number}") for number in (1, 2, 3, 5)]
    state.journal_path("20260102-030405-0005").write_bytes(b"damaged")
    try:
        found = risks_of_live_runs(state, BASE_URL, serials)
    finally:
        for lock in locks:
            lock.release()
    assert [risk.code for risk in found] == ["unreadable-run", "shared-devices", "live-run"]
    assert "run 20260102-030405-0002 is live on the same control plane and holds 4 devices" in found[1].message
    assert found[1].message.endswith("CPE1, CPE2, CPE3, ...")
