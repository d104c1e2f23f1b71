from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.crash.audit import (
    Arrival,
    Attempt,
    Findings,
    JournalCopy,
    Snapshot,
    Step,
    audit,
    busiest_second,
    transit_spread_s,
)

MS = 1_000_000
S = 1000 * MS
OPERATIONS = ("factory", "sync", "reconf")


@dataclass
class Records:
    """The three records of one device's campaign in which all went well, to be spoiled; step `n` is sent at `n` s."""

    arrivals: list[Arrival] = field(
        default_factory=lambda: [
            Arrival(number * S + MS, "A", operation, operation_id=number) for number, operation in enumerate(OPERATIONS)
        ]
    )
    attempts: list[Attempt] = field(
        default_factory=lambda: [
            Attempt(
                number,
                attempt=1,
                process=1,
                intent_ns=number * S - MS,
                sent_ns=number * S,
                answered_ns=number * S + 2 * MS,
                kind="accepted",
                operation_id=str(number),
            )
            for number in range(3)
        ]
    )
    outcomes: list[str] = field(default_factory=lambda: ["accepted"] * 3)
    steps: list[Step] = field(default_factory=lambda: [Step("A", operation, 900 * MS) for operation in OPERATIONS])
    rate_per_s: float = 2.0

    def lose_answer(self, step: int, reason: str = "read_timeout", **changes: int | str | None) -> None:
        """The step's only request met a fault."""
        self.arrivals[step] = replace(self.arrivals[step], status=None, fault="hang", processed=False)
        lost = {"kind": "maybe", "reason": reason, "operation_id": None} | changes
        self.attempts[step] = replace(self.attempts[step], **lost)  # type: ignore[arg-type]  # whatever a test wants

    def audit(self, *snapshots: Snapshot) -> Findings:
        report = [
            {"row": str(number + 1), "serial_number": step.serial, "operation": step.operation, "outcome": outcome}
            for number, (step, outcome) in enumerate(zip(self.steps, self.outcomes, strict=False))
        ]
        journal = JournalCopy(self.steps, self.attempts, dict(enumerate(self.outcomes)), self.rate_per_s)
        return audit(self.arrivals, journal, report, snapshots)


def test_a_campaign_in_which_all_went_well_has_no_breach() -> None:
    assert Records().audit(Snapshot(1, frozenset({0})), Snapshot(3, frozenset({0, 1, 2}))) == Findings()


def test_an_arrival_after_a_crash_of_a_step_whose_answer_the_journal_had_is_a_duplicate() -> None:
    found = Records().audit(Snapshot(1, frozenset({0, 1})))
    assert found.resent == 1
    assert "step 1 was sent again after a crash" in found.breaches[0]


def test_an_arrival_after_the_one_that_was_accepted_is_a_duplicate() -> None:
    records = Records()
    records.arrivals.append(replace(records.arrivals[2], at_ns=4 * S, operation_id=9))
    assert "step 2 arrived again after operation 2 was accepted" in records.audit().breaches


def test_an_intent_after_a_final_answer_is_a_duplicate() -> None:
    records = Records()
    records.attempts.append(replace(records.attempts[2], attempt=2, intent_ns=4 * S, kind="maybe"))
    assert records.audit().resent == 1


def test_an_arrival_without_an_intent_is_lost() -> None:
    records = Records()
    del records.attempts[2]
    found = records.audit()
    assert found.lost == 1
    assert "step 2 arrived 1 times, with 0 intents that can have left" in found.breaches


def test_an_intent_that_did_not_reach_the_service_does_not_account_for_an_arrival() -> None:
    records = Records()
    records.attempts[2] = replace(records.attempts[2], kind="not_reached")
    assert records.audit().lost == 1


def test_an_arrival_for_a_device_that_the_manifest_does_not_have_is_lost() -> None:
    records = Records()
    records.arrivals.append(Arrival(9 * S, "B", "reboot"))
    assert "reboot arrived for B, which the manifest does not have" in records.audit().breaches


def test_a_row_that_the_report_does_not_have_is_lost() -> None:
    records = Records()
    records.outcomes.pop()
    assert records.audit().lost == 1


def test_a_step_that_was_accepted_twice_is_a_breach() -> None:
    records = Records()
    records.attempts.append(replace(records.attempts[2], attempt=2, intent_ns=4 * S))
    assert "step 2 was accepted 2 times" in records.audit().breaches


def test_a_factory_reset_that_is_sent_again_after_a_lost_answer_is_a_breach() -> None:
    records = Records()
    records.arrivals.insert(0, replace(records.arrivals[0], at_ns=-S, status=None, fault="hang", operation_id=None))
    records.attempts.insert(0, replace(records.attempts[0], intent_ns=-S, sent_ns=-S, answered_ns=-S, kind="maybe"))
    records.attempts[1] = replace(records.attempts[1], attempt=2)
    assert records.audit().breaches == ["step 0 (factory) was sent again after it may have run (hang)"]


def test_a_factory_reset_that_was_throttled_may_be_sent_again() -> None:
    records = Records()
    records.arrivals.insert(0, replace(records.arrivals[0], at_ns=-S, status=429, processed=False, operation_id=None))
    records.attempts.insert(0, replace(records.attempts[0], intent_ns=-S, sent_ns=-S, answered_ns=-S, kind="throttled"))
    records.attempts[1] = replace(records.attempts[1], attempt=2)
    assert records.audit().breaches == []


def test_a_factory_reset_whose_answer_was_lost_has_to_be_reported_unknown() -> None:
    records = Records()
    records.lose_answer(0)
    del records.arrivals[1:], records.attempts[1:]
    records.outcomes = ["unknown", "skipped", "skipped"]
    assert records.audit().breaches == []
    records.outcomes[0] = "failed"
    assert records.audit().breaches == ["step 0 is reported failed, and the answer to its last request was lost"]


def test_an_outcome_that_the_other_records_speak_against_is_a_breach() -> None:
    records = Records()
    records.outcomes = ["unknown", "failed", "skipped"]
    assert records.audit().breaches == [
        "step 0 is reported unknown, and is not",
        "step 1 is reported failed, and was started",
        "step 2 is reported skipped, and was sent",
    ]
    records = Records()
    records.arrivals[2] = replace(records.arrivals[2], status=400, processed=False, operation_id=None)
    assert records.audit().breaches == ["step 2 is reported accepted, and was not"]


def test_a_step_that_arrives_before_an_earlier_one_is_a_breach() -> None:
    records = Records()
    records.arrivals[1:] = reversed(records.arrivals[1:])
    assert "step 1 arrived after step 2 of the same device" in records.audit().breaches


def test_a_step_that_arrives_before_its_device_has_settled_is_a_breach() -> None:
    records = Records()
    records.steps = [replace(step, settle_ns=1500 * MS) for step in records.steps]
    assert "step 1 arrived 1000.0 ms after step 0, not 1500 ms" in records.audit().breaches


def test_two_attempts_on_a_device_at_once_are_a_breach() -> None:
    records = Records()
    records.attempts[0] = replace(records.attempts[0], answered_ns=S)
    assert records.audit().breaches == ["A had step 1 begun before step 0 was over"]


def test_an_attempt_that_a_crash_left_is_over_for_every_later_process() -> None:
    records = Records()
    records.lose_answer(1, "crashed", sent_ns=None, answered_ns=99 * S)
    records.arrivals.append(replace(records.arrivals[2], at_ns=4 * S, operation="reconf"))
    records.arrivals[2] = replace(records.arrivals[1], at_ns=3 * S, status=200, processed=True, operation_id=7)
    again = replace(records.attempts[0], step=1, attempt=2, process=2, intent_ns=3 * S, answered_ns=3 * S + MS)
    records.attempts[2] = replace(records.attempts[2], process=2, intent_ns=4 * S, sent_ns=4 * S, answered_ns=5 * S)
    records.attempts.insert(2, replace(again, operation_id="7", sent_ns=3 * S))
    assert records.audit().breaches == []
    records.attempts[2] = replace(records.attempts[2], process=1)
    assert records.audit().breaches == ["A had step 1 begun before step 1 was over"]


def test_more_sends_in_a_second_than_the_rate_are_a_breach() -> None:
    records = Records(rate_per_s=1)
    records.attempts[1] = replace(records.attempts[1], sent_ns=S - 1)
    assert "2 requests left in a second at a rate of 1/s" in records.audit().breaches


def test_more_arrivals_in_a_second_than_the_rate_and_the_scheduling_allow_are_a_breach() -> None:
    records = Records(rate_per_s=0.5)
    records.arrivals = [replace(arrival, at_ns=number) for number, arrival in enumerate(records.arrivals)]
    records.attempts = [replace(attempt, sent_ns=None) for attempt in records.attempts]
    assert "3 requests arrived in a second at a rate of 0.5/s" in records.audit().breaches


def test_a_sliding_second_does_not_hold_both_of_its_ends() -> None:
    assert busiest_second([]) == 0
    assert busiest_second([0, S - 1, S, 2 * S - 2]) == 3
    assert busiest_second([0, S, 2 * S]) == 1


def test_the_spread_of_the_transit_is_between_the_fastest_and_the_slowest_request() -> None:
    records = Records()
    records.arrivals[2] = replace(records.arrivals[2], at_ns=2 * S + 6 * MS)
    journal = JournalCopy(records.steps, records.attempts, {}, 1)
    assert transit_spread_s(records.arrivals, journal) == 0.005
    assert transit_spread_s([], journal) == 0
