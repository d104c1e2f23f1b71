from __future__ import annotations

from datetime import date, timedelta
from itertools import combinations
from typing import Any

import pytest

from fleetops.model import NS_PER_S, OPERATIONS, OUTCOMES, Operation, Outcome, Reason, Reply, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.policy.adaptive import Throttled
from fleetops.scheduler import (
    Done,
    Effect,
    Event,
    Finish,
    Hold,
    Instruction,
    Look,
    Progress,
    Retry,
    Scheduler,
    Send,
    Skip,
    Stop,
    StopReason,
    Trouble,
    Wait,
    WaitFor,
)

SECOND = NS_PER_S
ACCEPTED = Reply(ReplyKind.ACCEPTED, http_status=200)
NOT_REACHED = Reply(ReplyKind.NOT_REACHED, Reason.UNREACHABLE)
BAD_REPLY = Reply(ReplyKind.BAD_REPLY, Reason.BAD_REPLY)
LOST = Reply(ReplyKind.MAYBE, Reason.READ_TIMEOUT)
THROTTLED = Reply(ReplyKind.THROTTLED, Reason.THROTTLED, http_status=429)
REFUSED = Reply(ReplyKind.REFUSED, Reason.INVALID, http_status=422)
REVOKED = Reply(ReplyKind.TOKEN_REFUSED, Reason.TOKEN_REFUSED, http_status=401, detail="expired")
NOT_FOUND = Reply(ReplyKind.REFUSED, Reason.NOT_FOUND, http_status=404)
CODE = {outcome: code for code, outcome in enumerate(OUTCOMES, start=1)}


def rows(*words: str, settle_s: int = 60) -> list[tuple[str, Operation, int]]:
    """Steps written as `A sync`."""
    pairs = (word.split() for word in words)
    return [(serial, Operation(operation), settle_s * SECOND) for serial, operation in pairs]


def scheduler(
    *words: str, settle_s: int = 60, progress: Progress | None = None, throttled: Throttled | None = None, **policy: Any
) -> Scheduler:
    settings = {"retries": {"jitter": 0}, "breaker": {"failures": 0}, **policy}
    groups = settings.pop("groups", ())
    steps = Steps.of(rows(*words, settle_s=settle_s), groups)
    return Scheduler(steps, Policy.model_validate(settings), b"run", progress, throttled=throttled)


def fleet(devices: int) -> list[str]:
    return [f"S{device} reboot" for device in range(devices)]


def drain(machine: Scheduler, now_ns: int) -> tuple[list[int], Instruction]:
    """What can be sent at once, and what is said then."""
    sent = []
    while isinstance(instruction := machine.next(now_ns), Send):
        sent.append(instruction.step)
    return sent, instruction


def events(machine: Scheduler) -> list[Event]:
    return [notice.event for notice in machine.take_notices()]


RETRY = Retry(0, 1 * SECOND)
UNKNOWN: list[Effect] = [Finish(0, Outcome.UNKNOWN, Reason.READ_TIMEOUT), Skip((1,), Reason.EARLIER_STEP_UNKNOWN)]
MEANINGS: dict[ReplyKind, list[Effect]] = {
    ReplyKind.ACCEPTED: [Finish(0, Outcome.ACCEPTED)],
    ReplyKind.NOT_REACHED: [RETRY],
    ReplyKind.THROTTLED: [Hold(30 * SECOND)],
    ReplyKind.MAYBE: UNKNOWN,
    ReplyKind.BAD_REPLY: UNKNOWN,
    ReplyKind.REFUSED: [Finish(0, Outcome.FAILED, Reason.READ_TIMEOUT), Skip((1,), Reason.EARLIER_STEP_FAILED)],
    ReplyKind.TOKEN_REFUSED: [Stop(StopReason.TOKEN_REFUSED, "in its own words")],
    ReplyKind.MISDIRECTED: [Stop(StopReason.MISDIRECTED, "in its own words")],
}


@pytest.mark.parametrize("resend", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", list(ReplyKind))
def test_what_an_answer_means(kind: ReplyKind, operation: Operation, *, resend: bool) -> None:
    machine = scheduler(f"A {operation}", "A reboot", resend={operation.value: resend, "destructive": True})
    assert machine.next(0) == Send(0, 1)
    # One reason for all of them: what is looked at here is the kind.
    effects = machine.answer(0, Reply(kind, Reason.READ_TIMEOUT, detail="in its own words"), 0)
    told = [Skip(tuple(effect.steps), effect.reason) if isinstance(effect, Skip) else effect for effect in effects]
    assert told == ([RETRY] if kind is ReplyKind.MAYBE and resend else MEANINGS[kind])


def test_a_campaign_is_sent_answered_and_done() -> None:
    machine = scheduler("A reboot", "B reboot")
    assert machine.ready == 2
    assert drain(machine, 0) == ([0, 1], Wait(None, WaitFor.ANSWERS))
    assert machine.in_flight == 2
    machine.answer(0, ACCEPTED, 5)
    machine.answer(1, REFUSED, 5)
    assert machine.next(5) == Done(StopReason.COMPLETE)
    assert machine.counts[Outcome.ACCEPTED] == machine.counts[Outcome.FAILED] == 1


def test_a_device_settles_before_its_next_step() -> None:
    machine = scheduler("A reboot", "A sync")
    machine.next(0)
    machine.answer(0, ACCEPTED, 7)
    assert machine.waiting == 1
    due_ns = 7 + 60 * SECOND
    assert machine.next(due_ns - 1) == Wait(due_ns, WaitFor.DEVICES)
    assert machine.next(due_ns) == Send(1, 1)


def test_after_a_refusal_there_is_nothing_to_settle_from() -> None:
    machine = scheduler("A reboot", "A sync", on_failure="continue")
    machine.next(0)
    machine.answer(0, REFUSED, 7)
    assert machine.next(7) == Send(1, 1)


def test_after_what_may_have_run_the_device_settles_even_though_the_step_is_not_resent() -> None:
    machine = scheduler("A reboot", "A sync", on_failure="continue")
    machine.next(0)
    assert machine.answer(0, LOST, 7) == [Finish(0, Outcome.UNKNOWN, Reason.READ_TIMEOUT)]
    assert machine.next(7) == Wait(7 + 60 * SECOND, WaitFor.DEVICES)


def test_no_more_are_in_flight_than_the_policy_says() -> None:
    machine = scheduler(*fleet(3), concurrency=2)
    assert drain(machine, 0) == ([0, 1], Wait(None, WaitFor.CONCURRENCY))
    machine.answer(0, ACCEPTED, 1)
    assert machine.next(1) == Send(2, 1)


def test_a_withdrawn_send_is_sent_later_as_the_same_attempt() -> None:
    machine = scheduler("A reboot")
    machine.next(0)
    machine.withdraw(0)
    assert machine.in_flight == 0
    assert machine.next(1) == Send(0, 1)


def test_retries_back_off_and_are_counted() -> None:
    machine = scheduler("A sync", retries={"attempts": 3, "jitter": 0, "initial": 1})
    assert machine.next(0) == Send(0, 1)
    assert machine.answer(0, NOT_REACHED, 0) == [Retry(0, 1 * SECOND)]
    assert machine.next(0) == Wait(1 * SECOND, WaitFor.DEVICES)
    assert machine.next(1 * SECOND) == Send(0, 2)
    assert machine.answer(0, NOT_REACHED, 1 * SECOND) == [Retry(0, 3 * SECOND)]
    assert machine.next(3 * SECOND) == Send(0, 3)
    assert machine.answer(0, NOT_REACHED, 3 * SECOND) == [Finish(0, Outcome.FAILED, Reason.UNREACHABLE)]


def test_once_it_may_have_run_a_step_that_fails_is_unknown() -> None:
    machine = scheduler("A sync", retries={"attempts": 2, "jitter": 0})
    machine.next(0)
    machine.answer(0, LOST, 0)
    machine.next(SECOND)
    assert machine.answer(0, NOT_REACHED, SECOND) == [Finish(0, Outcome.UNKNOWN, Reason.READ_TIMEOUT)]


def test_a_device_that_does_not_exist_has_run_nothing() -> None:
    machine = scheduler("A sync")
    machine.next(0)
    machine.answer(0, LOST, 0)
    machine.next(SECOND)
    assert machine.answer(0, NOT_FOUND, SECOND) == [Finish(0, Outcome.FAILED, Reason.NOT_FOUND)]


@pytest.mark.parametrize(
    ("retry_after_s", "hold_s"), [(None, 30), (0.0, 1), (12.5, 12.5), (1e12, 600), (float("inf"), 600)]
)
def test_a_429_holds_the_whole_run(retry_after_s: float | None, hold_s: float) -> None:
    machine = scheduler("A sync", "B sync")
    machine.next(0)
    until_ns = round(hold_s * SECOND)
    reply = Reply(ReplyKind.THROTTLED, Reason.THROTTLED, retry_after_s=retry_after_s)
    assert machine.answer(0, reply, 0) == [Hold(until_ns)]
    assert machine.per_s < machine.asked_per_s
    if hold_s:
        assert machine.next(0) == Wait(until_ns, WaitFor.HOLD)
        assert not machine.may_send(1, until_ns - 1)
    assert machine.may_send(1, until_ns)
    assert drain(machine, until_ns)[0] == [0, 1]


@pytest.mark.parametrize(
    ("operation", "outcome"),
    [("sync", Retry(0, 100 * SECOND)), ("reboot", Finish(0, Outcome.UNKNOWN, Reason.UNAVAILABLE))],
)
def test_a_503_that_says_when_to_come_back_holds_the_whole_run(operation: str, outcome: Effect) -> None:
    machine = scheduler(f"A {operation}", "B reboot", retries={"initial": 100, "total": 10, "cap": 100, "jitter": 0})
    machine.next(0)
    reply = Reply(ReplyKind.MAYBE, Reason.UNAVAILABLE, http_status=503, retry_after_s=120.0)
    assert machine.answer(0, reply, 0) == [outcome, Hold(120 * SECOND)]
    assert machine.next(0) == Wait(120 * SECOND, WaitFor.HOLD)
    assert not machine.may_send(1, 120 * SECOND - 1)
    assert drain(machine, 120 * SECOND)[0] == ([0, 1] if operation == "sync" else [1])
    assert machine.per_s == machine.asked_per_s


def test_a_hold_is_never_shortened() -> None:
    machine = scheduler("A sync", "B sync")
    drain(machine, 0)
    machine.answer(0, Reply(ReplyKind.THROTTLED, retry_after_s=100.0), 0)
    assert machine.answer(1, Reply(ReplyKind.THROTTLED, retry_after_s=1.0), 0) == [Hold(100 * SECOND)]


def test_429s_cost_no_retries() -> None:
    machine = scheduler("A sync", retries={"attempts": 1, "total": 10}, throttling={"hold": 100})
    for attempt in range(1, 6):
        now_ns = (attempt - 1) * 100 * SECOND
        assert machine.next(now_ns) == Send(0, attempt)
        machine.answer(0, THROTTLED, now_ns)
    machine.next(500 * SECOND)
    assert machine.answer(0, NOT_REACHED, 500 * SECOND) == [Finish(0, Outcome.FAILED, Reason.UNREACHABLE)]


def test_nothing_but_429s_for_too_long_stops_the_run() -> None:
    machine = scheduler("A sync", throttling={"hold": 60, "give_up": 100})
    effects = []
    for now_s in (0, 60, 120):
        machine.next(now_s * SECOND)
        effects = machine.answer(0, THROTTLED, now_s * SECOND)
    assert effects == [Hold(180 * SECOND), Stop(StopReason.THROTTLED)]
    assert machine.next(180 * SECOND) == Done(StopReason.THROTTLED)


def test_any_other_answer_ends_a_streak_of_429s() -> None:
    machine = scheduler("A sync", "B sync", throttling={"hold": 60, "give_up": 100})
    drain(machine, 0)
    machine.answer(0, THROTTLED, 0)
    machine.answer(1, ACCEPTED, 1)
    machine.next(60 * SECOND)
    machine.answer(0, THROTTLED, 60 * SECOND)
    machine.next(120 * SECOND)
    assert machine.answer(0, THROTTLED, 120 * SECOND) == [Hold(180 * SECOND)]


def test_schedulers_of_one_run_count_their_429s_together() -> None:
    shared = Throttled()
    one = scheduler("A sync", throttling={"hold": 60, "give_up": 100}, throttled=shared)
    other = scheduler("B sync", throttling={"hold": 60, "give_up": 100}, throttled=shared)
    one.next(0)
    one.answer(0, THROTTLED, 0)
    other.next(100 * SECOND)
    assert Stop(StopReason.THROTTLED) in other.answer(0, THROTTLED, 100 * SECOND)
    one.next(100 * SECOND)
    one.answer(0, ACCEPTED, 100 * SECOND)
    assert shared.since_ns is None


def test_a_refused_token_stops_new_sends_and_waits_for_those_in_flight() -> None:
    machine = scheduler(*fleet(4), concurrency=2)
    drain(machine, 0)
    assert machine.answer(0, REVOKED, 1) == [Stop(StopReason.TOKEN_REFUSED, "expired")]
    assert machine.stopping is StopReason.TOKEN_REFUSED
    assert machine.detail == "expired"
    assert not machine.may_send(2, 1)
    assert machine.next(1) == Wait(None, WaitFor.ANSWERS)
    machine.answer(1, ACCEPTED, 2)
    assert machine.next(2) == Done(StopReason.TOKEN_REFUSED)
    assert machine.counts[Outcome.FAILED] == 0


def test_the_first_reason_to_stop_stands() -> None:
    machine = scheduler("A sync")
    machine.stop(StopReason.INTERRUPTED, "ctrl-C")
    machine.stop(StopReason.ABORTED, "later")
    assert machine.next(0) == Done(StopReason.INTERRUPTED)
    assert machine.detail == "ctrl-C"


def test_a_pause_keeps_everything_back_until_the_operator_goes_on() -> None:
    machine = scheduler("A sync", "B sync")
    machine.next(0)
    machine.pause(1, "lunch")
    machine.pause(2, "again")
    assert machine.paused
    assert machine.detail == "lunch"
    assert not machine.may_send(1, 1)
    assert machine.next(1) == Wait(None, WaitFor.CONTINUE)
    machine.go_on(3)
    machine.go_on(4)
    assert machine.next(3) == Send(1, 1)
    assert events(machine) == [Event.PAUSED, Event.CONTINUED]
    assert events(machine) == []


def test_a_paused_run_of_which_nothing_is_left_is_done() -> None:
    machine = scheduler("A sync")
    machine.next(0)
    machine.pause(1)
    machine.answer(0, ACCEPTED, 2)
    assert machine.next(2) == Done(StopReason.COMPLETE)


def test_another_rate_is_in_force_at_once() -> None:
    machine = scheduler("A sync", rate="5/s")
    machine.set_rate(2.0, 9)
    assert (machine.per_s, machine.asked_per_s) == (2.0, 2.0)
    (notice,) = machine.take_notices()
    assert (notice.at_ns, notice.event, notice.detail) == (9, Event.RATE, "2/s")


def test_a_failure_budget_stops_the_run_once() -> None:
    machine = scheduler(*fleet(5), abort_when="failed>1")
    drain(machine, 0)
    assert machine.answer(0, REFUSED, 1) == [Finish(0, Outcome.FAILED, Reason.INVALID)]
    _, stop = machine.answer(1, REFUSED, 1)
    assert isinstance(stop, Stop)
    assert stop.reason is StopReason.BUDGET_SPENT
    assert stop.detail.startswith("failed>1: 2 of 2 finished steps failed")
    assert machine.answer(2, REFUSED, 1) == [Finish(2, Outcome.FAILED, Reason.INVALID)]


def opened_breaker(*words: str, **policy: Any) -> Scheduler:
    machine = scheduler(*words, breaker={"failures": 2, "hold": 5, "give_up": 60}, concurrency=3, **policy)
    drain(machine, 0)
    machine.answer(0, ACCEPTED, 1)
    assert machine.answer(1, NOT_REACHED, 1) == [Retry(1, 1 + SECOND)]
    assert machine.answer(2, NOT_REACHED, 1) == [Retry(2, 1 + 5 * SECOND)]
    return machine


def test_failures_in_a_row_are_the_services_and_one_request_at_a_time_tries_it() -> None:
    machine = opened_breaker(*(f"S{device} sync" for device in range(5)), retries={"attempts": 2, "jitter": 0})
    assert events(machine) == [Event.OUTAGE]
    assert not machine.may_send(1, 1 + SECOND)
    assert machine.next(1 + SECOND) == Wait(1 + 5 * SECOND, WaitFor.OUTAGE)
    probe = machine.next(1 + 5 * SECOND)
    assert isinstance(probe, Send)
    assert machine.next(1 + 5 * SECOND) == Wait(None, WaitFor.OUTAGE)
    # It costs no step its retries: each is tried as often as it takes.
    assert machine.answer(probe.step, NOT_REACHED, 1 + 6 * SECOND) == [Retry(probe.step, 1 + 16 * SECOND)]
    again = machine.next(1 + 16 * SECOND)
    assert isinstance(again, Send)
    machine.answer(again.step, ACCEPTED, 1 + 17 * SECOND)
    assert events(machine) == [Event.OUTAGE_OVER]
    assert len(drain(machine, 1 + 17 * SECOND)[0]) == 3


def test_a_late_answer_ends_an_outage_and_its_hold() -> None:
    machine = scheduler(*(f"S{device} sync" for device in range(5)), breaker={"failures": 2}, concurrency=4)
    drain(machine, 0)
    machine.answer(0, ACCEPTED, 1)
    machine.answer(1, NOT_REACHED, 2)
    machine.answer(2, NOT_REACHED, 2)
    # The request that was under way when it opened is answered while it holds.
    machine.answer(3, ACCEPTED, SECOND)
    assert events(machine) == [Event.OUTAGE, Event.OUTAGE_OVER]
    sent = machine.next(SECOND)
    assert isinstance(sent, Send)
    assert machine.may_send(sent.step, SECOND)


def test_the_time_of_an_outage_is_given_back_to_the_steps() -> None:
    machine = opened_breaker(*(f"S{device} sync" for device in range(3)), retries={"total": 30, "jitter": 0})
    for now_s in (6, 17, 38):
        probe = machine.next(now_s * SECOND)
        assert isinstance(probe, Send)
        machine.answer(probe.step, ACCEPTED if now_s == 38 else NOT_REACHED, now_s * SECOND)
    (left,) = drain(machine, 38 * SECOND)[0]
    assert isinstance(machine.answer(left, NOT_REACHED, 39 * SECOND)[0], Retry)


@pytest.mark.parametrize("operation", ["sync", "reboot"])
def test_an_outage_that_lasts_too_long_stops_the_run(operation: str) -> None:
    machine = opened_breaker("A sync", "B sync", "C sync", *(f"S{number} {operation}" for number in range(20)))
    now_ns, effects = 1, []
    while machine.stopping is None:
        instruction = machine.next(now_ns)
        if isinstance(instruction, Send):
            effects = machine.answer(instruction.step, LOST, now_ns)
        else:
            assert isinstance(instruction, Wait)
            assert instruction.until_ns is not None
            now_ns = instruction.until_ns
    assert effects[-1] == Stop(StopReason.OUTAGE)
    assert 60 * SECOND <= now_ns < 120 * SECOND


def test_failures_that_the_breaker_takes_over_are_given_back_only_to_steps_that_are_open() -> None:
    machine = scheduler("A reboot", "B reboot", "C sync", breaker={"failures": 3})
    drain(machine, 0)
    machine.answer(2, THROTTLED, 1)
    machine.answer(0, LOST, 2)
    machine.answer(1, LOST, 2)
    machine.next(60 * SECOND)
    machine.answer(2, NOT_REACHED, 60 * SECOND)
    assert events(machine) == [Event.OUTAGE]


def test_a_reply_that_is_not_understood_is_no_sign_that_the_service_is_back() -> None:
    machine = opened_breaker(*(f"S{device} sync" for device in range(4)))
    probe = machine.next(1 + 5 * SECOND)
    assert isinstance(probe, Send)
    effects = machine.answer(probe.step, BAD_REPLY, 6 * SECOND)
    assert effects == [Finish(probe.step, Outcome.UNKNOWN, Reason.BAD_REPLY)]
    assert machine.next(6 * SECOND) == Wait(16 * SECOND, WaitFor.OUTAGE)


def test_replies_in_a_row_that_are_not_understood_hold_the_run() -> None:
    machine = scheduler(*(f"S{device} reboot" for device in range(9)), breaker={"failures": 3, "hold": 5})
    drain(machine, 0)
    machine.answer(0, ACCEPTED, 1)
    for step in (1, 2, 3):
        assert machine.answer(step, BAD_REPLY, 1) == [Finish(step, Outcome.UNKNOWN, Reason.BAD_REPLY)]
    assert events(machine) == [Event.OUTAGE]


WINDOW: dict[str, Any] = {"window": "02:00-05:00 UTC", "timeouts": {"connect": 10, "read": 50}}
OPENS_NS, CLOSES_NS, DAY_NS = 2 * 3600 * SECOND, 5 * 3600 * SECOND, 86_400 * SECOND


def test_nothing_is_sent_before_the_window_opens() -> None:
    machine = scheduler("A sync", **WINDOW)
    assert machine.next(0) == Wait(OPENS_NS, WaitFor.WINDOW)
    assert not machine.may_send(0, OPENS_NS - 1)
    assert machine.next(OPENS_NS) == Send(0, 1)
    assert machine.may_send(0, OPENS_NS)
    assert events(machine) == [Event.WINDOW_OPEN]


@pytest.mark.parametrize(("at_end", "then"), [("wait", Wait(DAY_NS + OPENS_NS, WaitFor.WINDOW)), ("stop", None)])
def test_what_does_not_fit_before_the_window_closes_is_left(at_end: str, then: Instruction | None) -> None:
    machine = scheduler("A sync", "B sync", **WINDOW, at_end=at_end)
    last_ns = CLOSES_NS - 120 * SECOND
    assert machine.next(last_ns) == Send(0, 1)
    instruction = machine.next(last_ns + 1)
    assert instruction == Wait(None, WaitFor.ANSWERS)
    machine.answer(0, ACCEPTED, last_ns + 2)
    assert machine.next(last_ns + 3) == (then or Done(StopReason.WINDOW_CLOSED))
    if then is not None:
        assert machine.next(DAY_NS + OPENS_NS) == Send(1, 1)


def test_devices_that_are_shut_out_are_served_in_the_same_order_when_the_next_window_opens() -> None:
    words = ["A reboot", "B reboot", "C sync", "C reconf", "D reboot"]
    machine = scheduler(*words, settle_s=600, **WINDOW, at_end="wait")
    sent, wait = drain(machine, CLOSES_NS - 100 * SECOND)
    assert (sent, wait) == ([], Wait(DAY_NS + OPENS_NS, WaitFor.WINDOW))
    assert machine.ready == 4
    sent, _ = drain(machine, DAY_NS + OPENS_NS)
    assert sent == [2, 0, 1, 4]


def test_a_retry_that_would_not_fit_is_left_for_the_next_window() -> None:
    machine = scheduler("A sync", **WINDOW, at_end="wait", retries={"initial": 600, "cap": 600, "jitter": 0})
    sent_ns = CLOSES_NS - 600 * SECOND
    machine.next(sent_ns)
    machine.answer(0, NOT_REACHED, sent_ns)
    assert machine.next(sent_ns) == Wait(DAY_NS + OPENS_NS, WaitFor.WINDOW)
    assert machine.ready == 1


def test_a_window_that_closes_while_requests_are_in_flight_waits_for_them() -> None:
    machine = scheduler("A sync", "B sync", **WINDOW)
    machine.next(CLOSES_NS - 120 * SECOND)
    assert machine.next(CLOSES_NS) == Wait(None, WaitFor.ANSWERS)
    assert machine.stopping is StopReason.WINDOW_CLOSED
    machine.answer(0, ACCEPTED, CLOSES_NS + 1)
    assert machine.next(CLOSES_NS + 1) == Done(StopReason.WINDOW_CLOSED)


@pytest.mark.parametrize("at_end", ["wait", "stop"])
def test_a_run_of_which_nothing_fits_into_any_window_ends(at_end: str) -> None:
    machine = scheduler("A sync", settle_s=4 * 3600, **WINDOW, at_end=at_end)
    assert machine.next(0) == Done(StopReason.WINDOW_CLOSED)


def test_a_run_whose_window_does_not_open_for_a_year_ends() -> None:
    closed = [(date(1970, 1, 1) + timedelta(days=day)).isoformat() for day in range(402)]
    machine = scheduler("A sync", **WINDOW, blackout=closed)
    assert machine.next(0) == Done(StopReason.WINDOW_CLOSED)


def test_what_is_taken_up_once_the_opening_that_it_was_for_is_over_waits_for_no_other() -> None:
    missed = Progress(opened_ns=OPENS_NS)
    machine = scheduler("A sync", progress=missed, **WINDOW)
    assert machine.next(CLOSES_NS) == Done(StopReason.WINDOW_CLOSED)
    machine = scheduler("A sync", progress=missed, **WINDOW)
    assert machine.next(DAY_NS + OPENS_NS) == Send(0, 1), "another one has opened by itself"


def test_windows_may_be_left_out_of_account() -> None:
    steps = Steps.of(rows("A sync"))
    machine = Scheduler(steps, Policy.model_validate(WINDOW), b"run", heed_window=False)
    assert machine.next(0) == Send(0, 1)


def test_a_group_lets_in_as_many_as_its_cap() -> None:
    machine = scheduler(*fleet(3), group_cap=1, groups=["olt", "olt", ""])
    sent, instruction = drain(machine, 0)
    assert sent == [0, 2]
    assert instruction == Wait(None, WaitFor.ANSWERS)
    assert machine.ready == 1
    machine.answer(0, ACCEPTED, 5)
    machine.answer(2, ACCEPTED, 5)
    assert machine.next(5) == Wait(5 + 60 * SECOND, WaitFor.DEVICES)
    assert machine.next(5 + 60 * SECOND) == Send(1, 1)


def test_a_device_that_may_have_been_disturbed_keeps_its_place_in_its_group() -> None:
    progress = Progress(troubles={0: Trouble(sends=1, failures=1)}, disturbed_until_ns={0: 40 * SECOND})
    machine = scheduler("A sync", "B sync", group_cap=1, groups=["olt", "olt"], progress=progress)
    assert machine.next(0) == Send(0, 2)
    assert machine.next(0) == Wait(40 * SECOND, WaitFor.DEVICES)


def waved(gate: str, **policy: Any) -> Scheduler:
    return scheduler(*fleet(3), waves="1,100%", gate=gate, **policy)


def test_the_next_wave_waits_for_the_one_before_and_its_gate() -> None:
    machine = waved("failed<=0%, soak 10s")
    assert machine.wave == (1, 2)
    (first,), instruction = drain(machine, 0)
    assert instruction == Wait(None, WaitFor.ANSWERS)
    machine.answer(first, ACCEPTED, 5)
    assert machine.next(5) == Wait(5 + 10 * SECOND, WaitFor.SOAK)
    assert len(drain(machine, 5 + 10 * SECOND)[0]) == 2
    assert machine.wave == (2, 2)
    assert events(machine) == [Event.GATE_PASSED, Event.WAVE_STARTED]


def test_a_wave_that_fails_its_gate_aborts_the_run() -> None:
    machine = waved("failed<=0%")
    (first,), _ = drain(machine, 0)
    machine.answer(first, REFUSED, 5)
    assert machine.next(5) == Done(StopReason.GATE_FAILED)
    assert machine.detail.startswith("wave 1 of 2: ")
    assert events(machine) == [Event.GATE_FAILED]


def test_a_wave_that_fails_its_gate_may_pause_the_run_for_the_operator_to_decide() -> None:
    machine = waved("failed<=0%", on_gate_failed="pause")
    (first,), _ = drain(machine, 0)
    machine.answer(first, REFUSED, 5)
    assert machine.next(5) == Wait(None, WaitFor.CONTINUE)
    assert machine.next(6) == Wait(None, WaitFor.CONTINUE)
    machine.go_on(9)
    assert len(drain(machine, 9)[0]) == 2
    assert events(machine) == [Event.GATE_FAILED, Event.PAUSED, Event.CONTINUED, Event.WAVE_STARTED]


def test_the_operators_own_pause_waives_no_gate() -> None:
    machine = waved("failed<=0%, soak 10s")
    (first,), _ = drain(machine, 0)
    machine.answer(first, REFUSED, 5)
    machine.pause(6)
    assert machine.next(60 * SECOND) == Wait(None, WaitFor.CONTINUE)
    machine.go_on(60 * SECOND)
    assert machine.next(60 * SECOND) == Done(StopReason.GATE_FAILED)


def test_no_wave_means_one() -> None:
    assert scheduler("A sync").wave == (1, 1)


def test_a_device_whose_sequence_ends_early_is_done_with_its_wave() -> None:
    words = [f"S{device} {operation}" for device in range(2) for operation in ("reboot", "sync")]
    machine = scheduler(*words, waves="1,100%", gate="failed<=100%", settle_s=0)
    (first,), _ = drain(machine, 0)
    machine.answer(first, REFUSED, 1)
    (other,), _ = drain(machine, 1)
    assert other // 2 != first // 2


CONFIRM: dict[str, Any] = {"confirm": {"enabled": True, "limit": 100, "every": 10, "operations": ["reboot"]}}


def looked_for(*words: str, **policy: Any) -> tuple[Scheduler, Look]:
    machine = scheduler(*words, **{**CONFIRM, **policy})
    drain(machine, 0)
    assert machine.answer(0, ACCEPTED, 5) == [Finish(0, Outcome.ACCEPTED)]
    assert machine.next_look_ns == 5 + 60 * SECOND
    assert machine.looks(5 + 60 * SECOND - 1) == []
    (look,) = machine.looks(5 + 60 * SECOND)
    assert look == Look(0, 0, 0)
    return machine, look


def test_a_device_that_came_back_is_confirmed_and_goes_on() -> None:
    machine, look = looked_for("A reboot", "A sync")
    assert machine.waiting == 1
    assert machine.next(61 * SECOND) == Wait(None, WaitFor.DEVICES)
    effects = machine.seen(look, up=True, changed_ns=30 * SECOND, now_ns=66 * SECOND)
    assert effects == [Finish(0, Outcome.CONFIRMED)]
    assert machine.counts[Outcome.CONFIRMED] == 1
    assert machine.counts[Outcome.ACCEPTED] == 0
    assert machine.next(66 * SECOND) == Send(1, 1)


def test_a_device_that_is_not_back_yet_is_looked_for_again() -> None:
    machine, look = looked_for("A reboot")
    assert machine.seen(look, up=False, changed_ns=1, now_ns=66 * SECOND) == []
    assert machine.next_look_ns == 76 * SECOND
    machine.stop(StopReason.INTERRUPTED)
    assert machine.next_look_ns is None


@pytest.mark.parametrize("on_failure", ["skip_rest", "continue"])
def test_a_device_that_does_not_come_back_stays_accepted(on_failure: str) -> None:
    machine, look = looked_for("A reboot", "A sync", on_failure=on_failure)
    effects = machine.seen(look, up=False, changed_ns=1, now_ns=500 * SECOND)
    assert effects[0] == Finish(0, Outcome.ACCEPTED, Reason.NOT_CONFIRMED)
    if on_failure == "continue":
        assert machine.next(500 * SECOND) == Send(1, 1)
    else:
        assert isinstance(effects[1], Skip)
        assert effects[1].reason is Reason.NOT_CONFIRMED
        assert machine.next(500 * SECOND) == Done(StopReason.COMPLETE)


def test_to_a_gate_it_is_unknown_how_a_device_is_that_did_not_come_back() -> None:
    machine = waved("unknown<=0%", **CONFIRM)
    (first,), _ = drain(machine, 0)
    machine.answer(first, ACCEPTED, 5)
    (look,) = machine.looks(100 * SECOND)
    machine.seen(look, up=False, changed_ns=None, now_ns=500 * SECOND)
    assert machine.next(500 * SECOND) == Done(StopReason.GATE_FAILED)


def test_devices_that_do_not_come_back_use_up_the_budget_of_the_unknown() -> None:
    machine, look = looked_for("A reboot", "B reboot", abort_when="unknown>0")
    effects = machine.seen(look, up=False, changed_ns=1, now_ns=500 * SECOND)
    assert effects[-1] == Stop(StopReason.BUDGET_SPENT, "unknown>0: 1 of 1 finished steps unknown or not confirmed")
    assert machine.stopping is StopReason.BUDGET_SPENT


def test_a_budget_knows_the_steps_that_a_resume_watches() -> None:
    outcomes = bytes([CODE[Outcome.ACCEPTED]] * 4)
    progress = Progress(outcomes=outcomes, unconfirmed=dict.fromkeys(range(4), 3))
    machine = scheduler(*fleet(4), **CONFIRM, abort_when="unknown>25%", progress=progress)
    first, second, *_ = machine.looks(SECOND)
    machine.seen(first, up=False, changed_ns=1, now_ns=500 * SECOND)
    assert machine.stopping is None
    machine.seen(second, up=False, changed_ns=1, now_ns=500 * SECOND)
    assert machine.stopping is StopReason.BUDGET_SPENT


def test_operations_that_are_not_to_be_confirmed_are_not() -> None:
    machine = scheduler("A sync", **CONFIRM)
    machine.next(0)
    machine.answer(0, ACCEPTED, 5)
    assert machine.next_look_ns is None
    assert machine.next(5) == Done(StopReason.COMPLETE)


def test_a_run_is_taken_up_where_it_was_left() -> None:
    outcomes = bytes([CODE[Outcome.ACCEPTED], CODE[Outcome.FAILED], 0, CODE[Outcome.SKIPPED], 0])
    progress = Progress(
        outcomes=outcomes,
        troubles={4: Trouble(sends=3, failures=2)},
        not_before_ns={0: 50 * SECOND},
        hold_until_ns=20 * SECOND,
    )
    machine = scheduler("A reboot", "B reboot", "A sync", "B sync", "C sync", progress=progress)
    assert machine.counts[Outcome.SKIPPED] == 1
    assert machine.next(0) == Wait(20 * SECOND, WaitFor.HOLD)
    assert machine.next(20 * SECOND) == Send(4, 4)
    assert machine.next(20 * SECOND) == Wait(50 * SECOND, WaitFor.DEVICES)
    assert machine.next(50 * SECOND) == Send(2, 1)


def test_lost_attempts_are_in_flight_until_they_are_accounted_for() -> None:
    progress = Progress(troubles={0: Trouble(), 1: Trouble()}, lost=[0, 1])
    machine = scheduler("A reboot", "B sync", progress=progress)
    assert machine.in_flight == 2
    crashed = Reply(ReplyKind.MAYBE, Reason.CRASHED)
    assert machine.answer(0, crashed, 0) == [Finish(0, Outcome.UNKNOWN, Reason.CRASHED)]
    assert machine.answer(1, crashed, 0) == [Retry(1, SECOND)]
    assert machine.next(SECOND) == Send(1, 2)


def test_attempts_that_a_crash_left_say_nothing_of_the_service() -> None:
    names = [f"{number}" for number in range(12)]
    progress = Progress(
        outcomes=bytes([0] * 12 + [CODE[Outcome.ACCEPTED], 0]),
        troubles={step: Trouble() for step in range(12)},
        lost=range(12),
    )
    machine = scheduler(*(f"{name} reboot" for name in (*names, "A", "B")), progress=progress)
    for step in range(12):
        machine.answer(step, Reply(ReplyKind.MAYBE, Reason.CRASHED), 0)
    assert machine.take_notices() == []
    assert machine.next(0) == Send(13, 1)


@pytest.mark.parametrize("on_failure", ["skip_rest", "continue"])
def test_a_lost_step_waits_until_its_device_has_settled_from_another_run(on_failure: str) -> None:
    progress = Progress(troubles={0: Trouble(), 1: Trouble()}, lost=[0, 1], not_before_ns=dict.fromkeys((0, 1), 10**12))
    machine = scheduler("A sync", "B reboot", "B sync", on_failure=on_failure, progress=progress)
    for step in (0, 1):
        machine.answer(step, Reply(ReplyKind.MAYBE, Reason.CRASHED), 0)
    assert machine.next(61 * SECOND) == Wait(10**12, WaitFor.DEVICES)


def test_devices_that_were_watched_are_watched_again() -> None:
    progress = Progress(outcomes=bytes([CODE[Outcome.ACCEPTED], 0]), unconfirmed={0: 3}, not_before_ns={0: 40 * SECOND})
    machine = scheduler("A reboot", "A sync", **CONFIRM, progress=progress)
    assert machine.next(0) == Wait(None, WaitFor.DEVICES)
    assert machine.next_look_ns == 40 * SECOND
    (look,) = machine.looks(40 * SECOND)
    machine.seen(look, up=True, changed_ns=9, now_ns=40 * SECOND)
    assert machine.next(40 * SECOND) == Send(1, 1)


def test_waves_are_taken_up_where_they_were_left() -> None:
    done = waved("failed<=0%")
    (first,), _ = drain(done, 0)
    outcomes = bytes(CODE[Outcome.FAILED] if step == first else 0 for step in range(3))
    assert waved("failed<=0%", progress=Progress(outcomes=outcomes)).next(0) == Done(StopReason.GATE_FAILED)
    waived = waved("failed<=0%", progress=Progress(outcomes=outcomes, gate_waived=True))
    assert len(drain(waived, 0)[0]) == 2


def test_a_group_keeps_places_for_what_was_lost() -> None:
    progress = Progress(troubles={0: Trouble()}, lost=[0])
    machine = scheduler("A sync", "B sync", group_cap=1, groups=["olt", "olt"], progress=progress)
    assert machine.next(0) == Wait(None, WaitFor.ANSWERS)


@pytest.mark.parametrize("reason", list(StopReason))
def test_some_reasons_to_stop_say_that_going_on_would_do_harm(reason: StopReason) -> None:
    goes_on = {
        StopReason.COMPLETE,
        StopReason.INTERRUPTED,
        StopReason.WINDOW_CLOSED,
        StopReason.HOST_FAILED,
    }
    assert reason.aborts == (reason not in goes_on)


@pytest.mark.parametrize("size", ["1", "2", "40%"])
def test_devices_that_are_left_out_are_in_no_wave(size: str) -> None:
    for left_out in combinations(range(5), 2):
        outcomes = bytes(CODE[Outcome.SKIPPED] * (device in left_out) for device in range(5))
        progress = Progress(outcomes=outcomes)
        machine = scheduler(*fleet(5), waves=f"{size},100%", gate="failed<=0%", progress=progress)
        canary, _ = drain(machine, 0)
        assert len(canary) == (1 if size == "1" else 2)
        for step in canary:
            machine.answer(step, REFUSED, 1)
        assert machine.next(2) == Done(StopReason.GATE_FAILED)
        # A resume without a waiver finds the same canary, and lets nothing else in.
        after = bytes(CODE[Outcome.FAILED] if step in canary else code for step, code in enumerate(outcomes))
        again = scheduler(*fleet(5), waves=f"{size},100%", gate="failed<=0%", progress=Progress(outcomes=after))
        assert again.next(3) == Done(StopReason.GATE_FAILED)


def test_a_run_of_which_every_device_is_left_out_is_done() -> None:
    progress = Progress(outcomes=bytes([CODE[Outcome.SKIPPED]] * 3))
    assert scheduler(*fleet(3), waves="1,100%", progress=progress).next(0) == Done(StopReason.COMPLETE)


def test_that_devices_came_back_is_found_out_also_when_the_window_has_closed() -> None:
    machine = scheduler("A reboot", "B reboot", **WINDOW, **CONFIRM, concurrency=1)
    machine.next(CLOSES_NS - 120 * SECOND)
    machine.answer(0, ACCEPTED, CLOSES_NS - 90 * SECOND)
    assert machine.next(CLOSES_NS + SECOND) == Wait(None, WaitFor.DEVICES)
    (look,) = machine.looks(CLOSES_NS + SECOND)
    effects = machine.seen(look, up=True, changed_ns=CLOSES_NS - 80 * SECOND, now_ns=CLOSES_NS + SECOND)
    assert effects == [Finish(0, Outcome.CONFIRMED)]
    assert machine.next(CLOSES_NS + SECOND) == Done(StopReason.WINDOW_CLOSED)


def test_a_run_that_is_taken_up_during_an_outage_knows_that_the_service_has_answered() -> None:
    progress = Progress(outcomes=bytes([CODE[Outcome.ACCEPTED], 0, 0, 0]))
    machine = scheduler(*fleet(4), breaker={"failures": 2}, retries={"attempts": 1}, progress=progress)
    drain(machine, 0)
    machine.answer(1, LOST, 1)
    assert isinstance(machine.answer(2, NOT_REACHED, 1)[0], Retry)
    assert events(machine) == [Event.OUTAGE]
    assert isinstance(machine.answer(3, NOT_REACHED, 1)[0], Retry)


def test_what_does_not_fit_into_the_window_any_more_does_not_keep_back_what_does() -> None:
    steps = Steps.of([("A", Operation.REBOOT, 3600 * SECOND), ("B", Operation.REBOOT, 30 * SECOND)])
    machine = Scheduler(steps, Policy.model_validate({**WINDOW, "breaker": {"failures": 0}}), b"run")
    assert machine.next(CLOSES_NS - 120 * SECOND) == Send(1, 1)
    assert machine.next(CLOSES_NS - 120 * SECOND) == Wait(None)


def test_devices_that_a_resume_leaves_out_change_no_others_wave() -> None:
    def waves(progress: Progress) -> tuple[Scheduler, list[int]]:
        machine = scheduler(*fleet(20), waves="4,8,100%", gate="failed<=0%", progress=progress)
        return machine, drain(machine, 0)[0]

    _, canary = waves(Progress())
    failed, *_ = canary
    for left_out in combinations(range(20), 2):
        outcomes = bytearray(20)
        outcomes[failed] = CODE[Outcome.FAILED]
        for device in left_out:
            outcomes[device] = outcomes[device] or CODE[Outcome.SKIPPED]
        machine, sent = waves(Progress(outcomes=outcomes, left_out_since=left_out))
        assert set(sent) == set(canary) - {failed} - set(left_out)
        for step in sent:
            machine.answer(step, ACCEPTED, 1)
        assert machine.next(2) == Done(StopReason.GATE_FAILED)
