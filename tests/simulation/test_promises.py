from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetops.model import NS_PER_S, OPERATIONS, Operation, Outcome, Reason, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.scheduler import StopReason
from fleetops.simulation.campaigns import EPOCH_NS, Campaign, Run, Story, play
from fleetops.simulation.engine import Order, StuckError
from fleetops.simulation.journal import ModelJournal, Result
from fleetops.simulation.promises import OF_A_RUN, breaches, devices_settle
from fleetops.simulation.trace import KIND_CODE, Trace
from fleetops.simulation.world import Arrival, Faults, HostileWorld

if TYPE_CHECKING:
    from collections.abc import Callable

CAMPAIGNS = 2_000
PROMISES = ["every_run_ends", devices_settle.__name__, *(promise.__name__ for promise in OF_A_RUN)]


@cache
def broken() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for seed in range(CAMPAIGNS):
        try:
            broken_here = breaches(play(seed))
        except (StuckError, AssertionError) as error:
            broken_here = {"every_run_ends": [repr(error)]}
        for promise, texts in broken_here.items():
            found.setdefault(promise, []).append(f"python -m fleetops.simulation --seed {seed}: {texts[0]}")
    return found


@pytest.mark.no_cover  # It would take three times as long, and covers no more than the rest does.
@pytest.mark.parametrize("promise", PROMISES)
def test_is_kept_in_thousands_of_campaigns_with_faults_and_crashes(promise: str) -> None:
    assert broken().get(promise, [])[:5] == []


def test_two_plays_of_one_seed_are_the_same() -> None:
    first, second = play(11), play(11)
    assert [life.trace for run in first.runs for life in run.lives] == [
        life.trace for run in second.runs for life in run.lives
    ]


shares = st.sampled_from((0.0, 0.0, 0.05, 0.5, 1.0))
settles = st.sampled_from((0, 1, 30, 300))
moments = st.none() | st.integers(0, 4 * 3600).map(lambda after_s: EPOCH_NS + after_s * NS_PER_S)
spans = st.lists(st.tuples(st.integers(0, 3600), st.integers(1, 1800)), max_size=2).map(
    lambda pairs: tuple(
        (EPOCH_NS + from_s * NS_PER_S, EPOCH_NS + (from_s + for_s) * NS_PER_S) for from_s, for_s in pairs
    )
)


@st.composite
def manifests(draw: st.DrawFn) -> Steps:
    devices = draw(st.integers(1, 40))
    sequences = [
        (f"S{device}", operation, draw(settles) * NS_PER_S)
        for device in range(devices)
        for operation in draw(st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=4))
    ]
    return Steps.of(draw(st.permutations(sequences)) if draw(st.booleans()) else sequences)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    destructive = draw(st.booleans())
    resend: dict[str, Any] = {name: draw(st.booleans()) for name in ("reboot", "sync", "reconf")}
    resend |= {name: destructive and draw(st.booleans()) for name in ("factory", "device_factory")}
    rate = draw(st.sampled_from(("1/h", "30/m", "1/s", "1.5/s", "20/s", "1000/s")))
    return Policy.model_validate(
        {
            "rate": rate,
            "burst": draw(st.sampled_from((0, 0, 1, 30))),
            "concurrency": draw(st.integers(1, 20)),
            "retries": {
                "attempts": draw(st.integers(1, 4)),
                "backoff": draw(st.sampled_from(("exponential", "linear", "fixed"))),
                "initial": draw(st.sampled_from((0.001, 1, 100))),
                "jitter": draw(st.floats(0, 1)),
            },
            "throttling": {"give_up": 600},
            "breaker": {"failures": draw(st.sampled_from((0, 1, 3))), "give_up": 600},
            "resend": {"destructive": destructive, **resend},
            "on_failure": draw(st.sampled_from(("skip_rest", "continue"))),
            "confirm": draw(st.booleans()),
        }
    )


faults = st.builds(
    Faults,
    latency_ns=st.sampled_from((1, 1_000_000, 2 * NS_PER_S, 40 * NS_PER_S)),
    unreachable=shares,
    lost=shares,
    server_error=shares,
    throttled=shares.map(lambda share: share / 4),
    bad_reply=shares,
    rejected=shares,
    no_such_device=shares,
    retry_after_s=st.sampled_from((None, 0.0, 1.5, 90.0, 1e6)),
    token_refused_ns=moments,
    misdirected_ns=moments,
    outages_ns=spans,
    throttling_ns=spans,
    stays_down=shares,
)
campaigns = st.builds(
    Campaign, steps=manifests(), policy=policies(), faults=faults, commit_ns=st.sampled_from((1, 10**6, 10**9))
)
# After how many events a process dies (None: it does not), whether its last commit made it, how long nobody resumes.
deaths = st.lists(
    st.tuples(st.none() | st.integers(0, 60), st.booleans(), st.sampled_from((0, 1, 10**9, 10**12))), max_size=6
)


def tell(number: int, campaign: Campaign) -> Run:
    world = HostileWorld(number, campaign.steps, campaign.policy, campaign.faults)
    return Run(campaign, b"run %d" % number, world, ModelJournal(campaign.steps))


@given(campaigns=st.lists(campaigns, min_size=1, max_size=2), deaths=deaths)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_campaign_keeps_every_promise_through_any_crashes(
    campaigns: list[Campaign], deaths: list[tuple[int | None, bool, int]]
) -> None:
    story = Story([tell(number, campaign) for number, campaign in enumerate(campaigns)])
    for number, (crash_at, commit_made_it, break_ns) in enumerate(deaths):
        run = story.runs[number % len(story.runs)]
        if not run.is_complete:
            story.live(run, crash_at=crash_at)
            run.journal.crash(story.now_ns, commit_made_it=commit_made_it)
            story.now_ns += break_ns
    for run in story.runs:
        # What stops a run again and again is mended, as an operator would, so that each comes to its end.
        run.world.faults = replace(run.world.faults, token_refused_ns=None, misdirected_ns=None)
        for _ in range(200):
            if run.is_complete:
                break
            story.live(run)
        assert run.is_complete
    assert breaches(story) == {}


@given(campaign=campaigns, crashes=st.lists(st.integers(0, 12), min_size=3, max_size=30))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_run_that_crashes_again_and_again_keeps_every_promise(campaign: Campaign, crashes: list[int]) -> None:
    story = Story([tell(0, campaign)])
    for crash_at in crashes:
        if not story.runs[0].is_complete:
            story.live(story.runs[0], crash_at=crash_at)
            story.runs[0].journal.crash(story.now_ns, commit_made_it=crash_at % 2 == 0)
    assert breaches(story) == {}


@given(campaign=campaigns, after_s=st.floats(0, 4000), order=st.sampled_from(Order))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_run_obeys_its_operator_at_any_moment(campaign: Campaign, after_s: float, order: Order) -> None:
    story = Story([tell(0, campaign)])
    at_ns = round(after_s * NS_PER_S)
    story.live(story.runs[0], orders=[(at_ns, order), (at_ns + NS_PER_S, Order.CONTINUE)])
    assert breaches(story) == {}


SETTLE_NS = 60 * NS_PER_S


def calm_story(**policy: Any) -> Story:
    """Three devices, two of them with two steps, in a run that meets no fault."""
    steps = Steps.of(
        [
            ("A", Operation.REBOOT, SETTLE_NS),
            ("B", Operation.REBOOT, SETTLE_NS),
            ("A", Operation.SYNC, 0),
            ("B", Operation.SYNC, 0),
            ("C", Operation.REBOOT, 0),
        ],
        ["north", "north", "north"],
    )
    settings = {"rate": "1/s", "concurrency": 2, **policy}
    story = Story([tell(0, Campaign(steps, Policy.model_validate(settings), Faults(), 1_000_000))])
    story.live(story.runs[0])
    assert breaches(story) == {}
    return story


def send_again(trace: Trace, index: int, **changes: int) -> None:
    for name in ("step", "attempt", "intent_ns", "sent_ns", "answered_ns", "kind"):
        column = getattr(trace, name)
        column.append(changes.get(name, column[index]))


def lose_an_outcome(run: Run, trace: Trace) -> None:
    del run.journal.results[0]


def claim_acceptance(run: Run, trace: Trace) -> None:
    trace.kind[0] = KIND_CODE[ReplyKind.REFUSED]


def claim_failure(run: Run, trace: Trace) -> None:
    run.journal.results[0] = Result(0, Outcome.FAILED, Reason.INVALID, 0)


def send_before_the_commit(run: Run, trace: Trace) -> None:
    trace.sent_ns[0] -= 1_000_000


def send_without_an_intent(run: Run, trace: Trace) -> None:
    del run.journal.attempts[0, 1]


def send_the_same_attempt_twice(run: Run, trace: Trace) -> None:
    send_again(trace, 0)


def send_what_was_answered(run: Run, trace: Trace) -> None:
    send_again(trace, 0, attempt=2, sent_ns=trace.end_ns)


def run_a_reboot_twice(run: Run, trace: Trace) -> None:
    run.world.arrivals.append(Arrival(0, 0, 2, ran=True))


def resend_a_reboot(run: Run, trace: Trace) -> None:
    trace.kind[0] = KIND_CODE[ReplyKind.MAYBE]
    send_again(trace, 0, attempt=2, sent_ns=trace.end_ns)


def try_too_often(run: Run, trace: Trace) -> None:
    for attempt in range(7):
        send_again(trace, 0, attempt=attempt + 2, kind=KIND_CODE[ReplyKind.NOT_REACHED])


def overlap_two_steps_of_a_device(run: Run, trace: Trace) -> None:
    trace.answered_ns[0] = trace.end_ns


def swap_two_steps_of_a_device(run: Run, trace: Trace) -> None:
    first, second = list(trace.step).index(0), list(trace.step).index(2)
    trace.step[first], trace.step[second] = 2, 0


def skip_the_settle_time(run: Run, trace: Trace) -> None:
    trace.sent_ns[list(trace.step).index(2)] -= 2 * NS_PER_S


def hurry(run: Run, trace: Trace) -> None:
    trace.sent_ns[1] = trace.sent_ns[0] + 900_000_000


def take_up_too_much(run: Run, trace: Trace) -> None:
    trace.intent_ns[1] = trace.intent_ns[2] = trace.intent_ns[0]


def forget_a_hold(run: Run, trace: Trace) -> None:
    trace.holds.append((trace.start_ns, trace.end_ns))


def go_on_after_a_429(run: Run, trace: Trace) -> None:
    trace.kind[0] = KIND_CODE[ReplyKind.THROTTLED]


def forget_the_hold_of_before(run: Run, trace: Trace) -> None:
    run.journal.commits[0][1].hold_until_ns = trace.end_ns
    run.lives.append(replace(run.lives[0]))


def have_too_many_under_way(run: Run, trace: Trace) -> None:
    trace.answered_ns[0] = trace.answered_ns[1] = trace.sent_ns[2] + 1


def miscount_what_is_under_way(run: Run, trace: Trace) -> None:
    trace.most_in_flight = 3


def send_after_a_stop(run: Run, trace: Trace) -> None:
    trace.stopped_ns = trace.sent_ns[1]


def send_after_a_refusal(run: Run, trace: Trace) -> None:
    trace.kind[0] = KIND_CODE[ReplyKind.TOKEN_REFUSED]


def send_during_a_pause(run: Run, trace: Trace) -> None:
    orders = ((trace.start_ns, Order.PAUSE), (trace.end_ns, Order.CONTINUE))
    run.lives[0] = replace(run.lives[0], orders=orders)


def go_on_after_a_failure(run: Run, trace: Trace) -> None:
    run.journal.results[0].outcome = Outcome.UNKNOWN


def skip_without_a_reason(run: Run, trace: Trace) -> None:
    run.journal.results[4].outcome = Outcome.SKIPPED


def take_a_short_sequence_first(run: Run, trace: Trace) -> None:
    trace.intent_ns[list(trace.step).index(4)] = trace.start_ns - 1


@pytest.mark.parametrize(
    ("promise", "tamper"),
    [
        ("every_step_has_one_outcome", lose_an_outcome),
        ("outcomes_are_honest", claim_acceptance),
        ("outcomes_are_honest", claim_failure),
        ("outcomes_are_honest", skip_without_a_reason),
        ("intents_are_durable_before_sends", send_before_the_commit),
        ("intents_are_durable_before_sends", send_without_an_intent),
        ("intents_are_durable_before_sends", send_the_same_attempt_twice),
        ("answered_steps_are_not_sent_again", send_what_was_answered),
        ("what_may_have_run_is_resent_only_where_allowed", run_a_reboot_twice),
        ("what_may_have_run_is_resent_only_where_allowed", resend_a_reboot),
        ("tries_are_counted", try_too_often),
        ("devices_do_one_step_at_a_time_in_order", overlap_two_steps_of_a_device),
        ("devices_do_one_step_at_a_time_in_order", swap_two_steps_of_a_device),
        ("devices_settle", skip_the_settle_time),
        ("the_rate_is_kept", hurry),
        ("the_average_rate_is_kept", take_up_too_much),
        ("holds_are_kept", forget_a_hold),
        ("holds_are_kept", go_on_after_a_429),
        ("holds_are_kept", forget_the_hold_of_before),
        ("concurrency_is_kept", have_too_many_under_way),
        ("concurrency_is_kept", miscount_what_is_under_way),
        ("nothing_is_sent_after_a_stop", send_after_a_stop),
        ("nothing_is_sent_after_a_stop", send_after_a_refusal),
        ("nothing_is_sent_after_a_stop", send_during_a_pause),
        ("the_rest_is_skipped", go_on_after_a_failure),
        ("the_rest_is_skipped", skip_without_a_reason),
        ("longest_sequences_go_first", take_a_short_sequence_first),
    ],
)
def test_a_breach_is_noticed(promise: str, tamper: Callable[[Run, Trace], None]) -> None:
    story = calm_story(breaker={"failures": 0})
    tamper(story.runs[0], story.runs[0].lives[0].trace)
    assert promise in breaches(story)


def test_a_send_outside_the_window_is_noticed() -> None:
    story = calm_story(window="00:00-06:00 UTC")
    story.runs[0].lives[0].trace.sent_ns[0] = EPOCH_NS + 6 * 3600 * NS_PER_S - 1
    assert "windows_are_kept" in breaches(story)


def test_a_group_beyond_its_cap_is_noticed() -> None:
    story = calm_story(group_cap=1)
    story.runs[0].lives[0].trace.sent_ns[2] = story.runs[0].lives[0].trace.sent_ns[0]
    assert "groups_are_capped" in breaches(story)


def test_a_wave_let_in_too_soon_is_noticed() -> None:
    story = calm_story(waves="1,100%")
    trace = story.runs[0].lives[0].trace
    trace.sent_ns[len(trace) - 1] = trace.start_ns
    assert "waves_wait_for_one_another" in breaches(story)


def test_a_run_that_was_stopped_owes_no_outcomes() -> None:
    story = calm_story()
    story.runs[0].journal.results.clear()
    story.runs[0].lives[0].trace.ended = StopReason.INTERRUPTED
    assert "every_step_has_one_outcome" not in breaches(story)
