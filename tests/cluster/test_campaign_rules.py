"""What holds for a run as a whole holds on workers too."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest

from fleetops.cluster.commands import ask, resume
from fleetops.cluster.follow import offer
from fleetops.errors import RunBusyError, UsageError
from fleetops.journal import Action, Heard
from fleetops.model import Operation
from fleetops.policy import Policy
from fleetops.sandbox import SandboxConfig, parse_fault, sandbox_thread
from tests.cluster.kept import do
from tests.cluster.within import MS, Fleet, devices
from tests.journal.runs import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = 900
"""The sandbox has no devices from this number on."""


@pytest.fixture
def fleet(database: str) -> Iterator[Fleet]:
    with sandbox_thread(SandboxConfig(devices=200)) as (base_url, _):
        yield Fleet(database, base_url)


def test_a_failure_budget_counts_the_steps_of_all_chunks(fleet: Fleet) -> None:
    fleet.submit(devices(60, first=MISSING), rate="10/s", abort_when=["failed>4"])
    fleet.work()
    reason, detail = fleet.ended_as()
    assert reason == "budget_spent"
    assert detail.startswith("failed>4: ")
    assert 5 <= fleet.outcomes()["failed"] <= 20


def test_a_refused_token_stops_the_run_and_another_worker_goes_on_with_it(fleet: Fleet) -> None:
    fleet.submit(devices(30), rate="40/s")
    fleet.token = "wrong"
    fleet.work()
    assert fleet.ended_as()[0] == "token_refused"
    assert fleet.outcomes() == {}
    sent = fleet.value("SELECT count(*) FROM attempt")
    assert 1 <= sent < 30
    resume(fleet.url, RUN_ID)
    offer(fleet.url, RUN_ID)
    fleet.token = "sandbox-token"
    fleet.work()
    assert fleet.ended_as() == ("complete", "")
    assert fleet.outcomes() == {"accepted": 30}
    assert "resumed" in fleet.events()


def test_a_wave_is_let_in_once_the_one_before_has_passed_its_gate(fleet: Fleet) -> None:
    fleet.submit(devices(40), waves="10%,50%,100%", gate="failed<=10%, soak 300ms")
    fleet.work()
    assert fleet.outcomes() == {"accepted": 40}
    assert fleet.events() == ["gate_passed", "wave_started", "gate_passed", "wave_started"]
    with psycopg.connect(fleet.url) as connection:
        waves = connection.execute(
            "SELECT wave, min(sent_ns), max(answered_ns) FROM attempt JOIN chunk USING (run_id, chunk) "
            "GROUP BY wave ORDER BY wave"
        ).fetchall()
    assert [wave for wave, *_ in waves] == [0, 1, 2]
    for (_, _, ended_ns), (_, began_ns, _) in itertools.pairwise(waves):
        assert began_ns > ended_ns + 300 * MS


def test_a_wave_that_fails_its_gate_stops_the_run_and_whoever_resumes_lets_the_next_in(fleet: Fleet) -> None:
    fleet.submit(devices(20, first=MISSING), waves="5,100%", gate="failed<=10%")
    fleet.work()
    assert fleet.ended_as()[0] == "gate_failed"
    assert fleet.outcomes() == {"failed": 5}
    resume(fleet.url, RUN_ID)
    offer(fleet.url, RUN_ID)
    fleet.work()
    assert fleet.ended_as()[0] == "complete"
    assert fleet.outcomes() == {"failed": 20}


def test_a_run_that_a_gate_paused_goes_on_when_it_is_told_to(fleet: Fleet) -> None:
    fleet.submit(devices(20, first=MISSING), waves="5,100%", gate="failed<=10%", on_gate_failed="pause")

    def go_on() -> None:
        fleet.wait_for("SELECT gate_failed FROM run")
        ask(fleet.url, RUN_ID, Action.CONTINUE)

    fleet.work(go_on)
    assert fleet.outcomes() == {"failed": 20}
    assert fleet.events() == ["gate_failed", "paused", "continued", "wave_started"]


def test_the_cap_on_a_group_holds_across_chunks_and_waves(fleet: Fleet) -> None:
    groups = ["A", "B"] * 12
    fleet.submit(devices(24, settle_ms=150), groups=groups, group_cap=2, waves="50%,100%", gate="failed<=10%", chunk=2)
    fleet.work()
    assert fleet.outcomes() == {"accepted": 24}
    with psycopg.connect(fleet.url) as connection:
        disturbed = connection.execute(
            "SELECT grp, sent_ns, answered_ns + settle_ns FROM attempt JOIN step USING (run_id, chunk, step) "
            "JOIN device USING (run_id, chunk, device)"
        ).fetchall()
    for group, from_ns, _ in disturbed:
        at_once = sum(one == group and began <= from_ns < until for one, began, until in disturbed)
        assert at_once <= 2


def test_devices_are_confirmed_in_the_inventory(database: str) -> None:
    config = SandboxConfig(devices=50, duration_s=dict.fromkeys(Operation, 0.2))
    with sandbox_thread(config) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(devices(6, Operation.REBOOT), confirm={"every": "100ms", "limit": "10s", "enabled": True})
        fleet.work()
    assert fleet.outcomes() == {"confirmed": 6}
    assert fleet.value("SELECT sum(steps) FROM tally WHERE outcome = 'accepted'") == 0


def test_a_service_that_throttles_holds_every_chunk_and_lowers_the_rate(database: str) -> None:
    with sandbox_thread(SandboxConfig(devices=200, throttle_per_s=40)) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(devices(60), rate="200/s", throttling={"longest_hold": "1s"})
        fleet.work()
    assert fleet.outcomes() == {"accepted": 60}
    assert fleet.value("SELECT count(*) FROM attempt WHERE kind = 'throttled'") >= 1
    assert fleet.value("SELECT hold_ns FROM gate") > 0
    assert fleet.value("SELECT cut_ns FROM gate") > 0
    assert fleet.value("SELECT throttled_since_ns IS NULL FROM pace"), "the last answer was no 429"


def test_a_run_gives_up_on_a_service_that_throttles_whichever_chunks_were_told(database: str) -> None:
    faults = (parse_fault("throttle=100%:1s"),)
    with sandbox_thread(SandboxConfig(devices=200, faults=faults)) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(devices(20), chunk=1, throttling={"give_up": "1h"})
        fleet.work(lambda: _an_hour_passes(fleet))
    assert fleet.ended_as()[0] == "throttled"
    assert fleet.outcomes() == {}
    resume(fleet.url, RUN_ID)
    assert fleet.value("SELECT throttled_since_ns IS NULL FROM pace")


def _an_hour_passes(fleet: Fleet) -> None:
    fleet.wait_for("SELECT throttled_since_ns IS NOT NULL FROM pace")
    do(fleet.url, "UPDATE pace SET throttled_since_ns = throttled_since_ns - 3600000000000")


def test_an_outage_is_the_services_and_costs_no_step_its_retries(database: str) -> None:
    faults = (parse_fault("unavailable=70%"),)
    with sandbox_thread(SandboxConfig(devices=200, faults=faults)) as (base_url, _):
        fleet = Fleet(database, base_url)
        fleet.submit(
            devices(15),
            breaker={"failures": 3, "hold": "20ms", "longest_hold": "40ms"},
            retries={"attempts": 60, "initial": "10ms", "cap": "20ms"},
        )
        fleet.work()
    assert fleet.outcomes() == {"accepted": 15}
    events = fleet.events()
    assert events.count("outage") >= 1
    assert events.count("outage_over") in {events.count("outage"), events.count("outage") - 1}
    assert fleet.value("SELECT outage_since_ns IS NULL FROM pace")


def test_an_operator_pauses_slows_and_ends_a_run_from_anywhere(fleet: Fleet) -> None:
    fleet.submit(devices(200), rate="40/s")
    sent: list[int] = []

    def operate() -> None:
        fleet.wait_for("SELECT count(*) > 10 FROM attempt")
        ask(fleet.url, RUN_ID, Action.PAUSE)
        fleet.wait_for("SELECT count(*) = 0 FROM attempt WHERE answered_ns IS NULL")
        sent.append(fleet.value("SELECT count(*) FROM attempt"))
        fleet.value("SELECT pg_sleep(0.5)")
        sent.append(fleet.value("SELECT count(*) FROM attempt"))
        ask(fleet.url, RUN_ID, Action.CONTINUE)
        ask(fleet.url, RUN_ID, Action.RATE, "100/s")
        fleet.wait_for("SELECT count(*) > 60 FROM attempt")
        ask(fleet.url, RUN_ID, Action.ABORT)

    fleet.work(operate)
    assert sent[1] - sent[0] <= 20, "what had a slot may still leave"
    assert fleet.ended_as() == ("aborted", "by the operator")
    assert fleet.outcomes()["accepted"] < 200
    assert fleet.events() == ["paused", "continued", "rate"]
    with pytest.raises(UsageError, match="is not live"):
        ask(fleet.url, RUN_ID, Action.PAUSE)


def test_a_run_whose_window_is_closed_waits_in_the_database_and_not_on_workers(fleet: Fleet) -> None:
    closed = "02:00-02:01 Pacific/Kiritimati"
    fleet.submit(devices(5), window=[closed])
    assert fleet.value("SELECT starts_ns > now_ns() FROM run")
    assert fleet.value("SELECT count(*) FROM procrastinate_jobs") == 0
    do(fleet.url, "UPDATE run SET starts_ns = 0, heed_window = false")
    fleet.work()
    assert fleet.outcomes() == {"accepted": 5}


def test_a_run_that_waits_for_its_window_can_be_called_off(fleet: Fleet) -> None:
    fleet.submit(devices(5), window=["02:00-02:01 Pacific/Kiritimati"])
    assert ask(fleet.url, RUN_ID, Action.ABORT) is Heard.DONE
    assert fleet.ended_as() == ("aborted", "by the operator")


def test_a_client_that_fails_stops_the_run_instead_of_going_from_worker_to_worker(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("with a token in it")

    monkeypatch.setattr("fleetops.control.HttpControlPlane.execute", broken)
    fleet.submit(devices(10), rate="50/s")
    fleet.work()
    reason, detail = fleet.ended_as()
    assert reason == "host_failed"
    assert detail == "the control plane's client failed: ValueError"


def test_a_live_run_is_not_resumed_and_keeps_its_waves(fleet: Fleet) -> None:
    fleet.submit(devices(5))
    with pytest.raises(RunBusyError, match="driven by workers"):
        resume(fleet.url, RUN_ID)
    do(fleet.url, "UPDATE run SET ended_ns = 1")
    with pytest.raises(UsageError, match="keeps its waves"):
        resume(fleet.url, RUN_ID, change_policy=lambda _: Policy.model_validate({"waves": "1,100%"}))
    with pytest.raises(UsageError, match="there is no run"):
        resume(fleet.url, "20260102-030405-0000")


def test_devices_that_a_resume_leaves_out_are_sent_nothing_more_and_what_may_have_run_is_unknown(fleet: Fleet) -> None:
    fleet.submit(devices(6), chunk=2)
    do(
        fleet.url,
        "INSERT INTO attempt (run_id, chunk, step, attempt, drive, worker, epoch, intent_ns, answered_ns, kind, "
        "reason) VALUES (%s, 0, 0, 1, 1, 1, 1, 5, NULL, NULL, NULL), (%s, 0, 1, 1, 1, 1, 1, 5, 6, 'maybe', "
        "'read_timeout'), (%s, 1, 2, 1, 1, 1, 1, 5, 6, 'not_reached', 'unreachable')",
        *[RUN_ID] * 3,
    )
    do(fleet.url, "UPDATE run SET ended_ns = 1")
    do(fleet.url, "UPDATE drive SET end_reason = 'interrupted'")
    resume(
        fleet.url,
        RUN_ID,
        change_policy=lambda policy: policy.model_copy(update={"deny": ("ZQ00000000[1-4]",), "abort_when": ()}),
    )
    offer(fleet.url, RUN_ID)
    fleet.work()
    found = fleet.value("SELECT json_agg(json_build_array(outcome, reason) ORDER BY step) FROM result")
    assert found == [
        ["unknown", "crashed"],
        ["unknown", "read_timeout"],
        ["skipped", "excluded"],
        ["skipped", "excluded"],
        ["accepted", None],
        ["accepted", None],
    ]
    assert fleet.value("SELECT max(attempt) FROM attempt") == 1
    assert fleet.value(
        "SELECT json_object_agg(outcome, n) FROM (SELECT outcome, sum(steps) AS n FROM tally GROUP BY 1) t"
    ) == {
        "unknown": 2,
        "skipped": 2,
        "accepted": 2,
    }


def test_a_resumed_run_takes_its_new_settle_times_and_rate(fleet: Fleet) -> None:
    fleet.submit(devices(5), settle={"sync": "50ms"})
    do(fleet.url, "UPDATE run SET ended_ns = 1")
    do(fleet.url, "UPDATE drive SET end_reason = 'interrupted'")
    resume(
        fleet.url,
        RUN_ID,
        change_policy=lambda policy: policy.model_copy(
            update={
                "settle": Policy.model_validate({"settle": {"sync": "70ms"}}).settle,
                "rate": Policy.model_validate({"rate": "7/s"}).rate,
            }
        ),
    )
    assert fleet.value("SELECT DISTINCT settle_ns FROM step") == 70 * MS
    assert fleet.value("SELECT asked_per_s FROM pace") == 7
