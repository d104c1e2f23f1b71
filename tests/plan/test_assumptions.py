from __future__ import annotations

import pytest

from fleetops.errors import UsageError
from fleetops.model import NS_PER_S, ReplyKind
from fleetops.plan.assumptions import AssumedWorld, Assumptions, parse_assumptions


def kinds(world: AssumedWorld, attempts: int, gap_ns: int = 0) -> list[ReplyKind]:
    return [world.attempt(step, 1, step * gap_ns)[1].kind for step in range(attempts)]


def test_assumptions_are_read_and_what_is_left_out_stays() -> None:
    base = Assumptions(latency_s=(0.1, 0.2), failing=0.5, run_id="20260102-030405-6f7a", samples=40)
    read = parse_assumptions("limit=20/s, retry_after=5s, host=10ms", base)
    assert read.latency_s == (0.1, 0.2)
    assert (read.failing, read.limit_per_s, read.retry_after_s, read.host_s) == (0.5, 20, 5, 0.01)
    assert read.run_id is None, "they are no longer what was measured"
    assert parse_assumptions("latency=200ms,failing=2%", base).latency_s == (0.2,)


@pytest.mark.parametrize(
    "text", ["", "latency", "latency=", "latency=soon", "speed=3", "failing=200%", "latency=1s,latency=2s", "limit=0/s"]
)
def test_what_is_no_assumption_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_assumptions(text, Assumptions())
    assert "latency=200ms" in (caught.value.hint or "")


def test_the_slow_case_is_slower_than_the_fast_one() -> None:
    assumed = Assumptions(latency_s=(0.2, 0.4), failing=0.7, limit_per_s=10)
    assert assumed.fast().latency_s == (0.1, 0.2)
    assert assumed.fast().limit_per_s is None
    assert assumed.slow().latency_s == (0.4, 0.8)
    assert assumed.slow().failing == 1
    assert assumed.slow().limit_per_s == 8
    assert Assumptions().slow().limit_per_s is None


def test_assumptions_say_where_they_come_from() -> None:
    assert "assumed, not measured" in str(Assumptions())
    text = str(
        Assumptions(latency_s=(0.1, 0.3), failing=0.01, limit_per_s=5, run_id="20260102-030405-6f7a", samples=90)
    )
    assert "200 ms to an answer (100 to 300 ms)" in text
    assert "1.00% of the attempts fail" in text
    assert "429 above 5/s" in text
    assert "measured in run 20260102-030405-6f7a, 90 answers" in text


def test_answers_take_as_long_as_assumed_and_the_host_adds_its_share() -> None:
    world = AssumedWorld(Assumptions(latency_s=(0.1, 0.3), host_s=0.01))
    taken_ns = [world.attempt(step, 1, 0)[0] for step in range(1000)]
    assert set(taken_ns) == {110_000_000, 310_000_000}
    assert sum(taken_ns) / 1000 == pytest.approx(0.21 * NS_PER_S, rel=0.05)


def test_about_the_assumed_share_of_attempts_fails() -> None:
    found = kinds(AssumedWorld(Assumptions(failing=0.2)), 2000)
    assert found.count(ReplyKind.MAYBE) == pytest.approx(400, rel=0.2)


def test_no_sliding_second_takes_more_than_the_limit() -> None:
    found = kinds(AssumedWorld(Assumptions(limit_per_s=5)), 40, gap_ns=NS_PER_S // 20)
    assert [found[at : at + 20].count(ReplyKind.ACCEPTED) for at in (0, 20)] == [5, 5]


def test_the_same_hand_is_dealt_again_and_another_one_on_request() -> None:
    assumed = Assumptions(failing=0.5)
    assert kinds(AssumedWorld(assumed), 64) == kinds(AssumedWorld(assumed), 64)
    assert kinds(AssumedWorld(assumed), 64) != kinds(AssumedWorld(assumed, hand=1), 64)


def test_a_device_that_is_looked_for_is_back() -> None:
    at_ns, seen = AssumedWorld(Assumptions(latency_s=(0.1,), host_s=0)).look(0, 7)
    assert (at_ns, seen.up, seen.changed_ns) == (100_000_007, True, 7)
