from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.model import NS_PER_S, OPERATIONS, Steps
from fleetops.plan.assumptions import AssumedWorld, Assumptions
from fleetops.plan.bounds import Bounds
from fleetops.policy import Policy
from fleetops.policy.waves import assign
from fleetops.simulation import simulate

POLICIES = st.fixed_dictionaries(
    {"rate": st.sampled_from(["1/s", "7/s", "90/s", "20/m"]), "concurrency": st.sampled_from([1, 3, 16])},
    optional={
        "burst": st.just(10),
        "waves": st.sampled_from(["1,100%", "10%,50%,100%"]),
        "group_cap": st.sampled_from([1, 2, "50%"]),
    },
)


@given(
    sequences=st.lists(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 40)), min_size=1, max_size=3),
                       min_size=1, max_size=25),
    groups=st.integers(0, 3),
    policy=POLICIES,
    latency_s=st.sampled_from([0.05, 0.5, 5]),
    limit=st.sampled_from([None, 0.3, 2, 2.5, 50]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_no_run_is_shorter_than_its_bounds(
    sequences: list[list[tuple[object, int]]],
    groups: int,
    policy: dict[str, object],
    latency_s: float,
    limit: float | None,
) -> None:
    rows = [
        (f"CPE{device}", operation, settle_s * NS_PER_S)
        for device, sequence in enumerate(sequences)
        for operation, settle_s in sequence
    ]
    steps = Steps.of(rows, [f"olt{device % groups}" for device in range(len(sequences))] if groups else ())  # type: ignore[arg-type]  # operations
    how = Policy.model_validate({**policy, "gate": "failed<=50%, soak 3s"})
    assumed = Assumptions(latency_s=(latency_s,), limit_per_s=limit)
    took_s = simulate(steps, how, b"key", AssumedWorld(assumed), 10**18, wave_seed="seed").makespan_ns / NS_PER_S
    wave_of = b"" if how.waves is None else assign(how.waves, steps.groups, len(steps.serials), "seed")
    for bound in Bounds(steps, how, assumed, wave_of).all():
        assert bound.at_least_s <= took_s * 1.000001 + 0.001, bound


def test_a_campaign_without_steps_has_no_bounds() -> None:
    bounds = Bounds(Steps.of([]), Policy(), Assumptions())
    assert bounds.all() == []
    assert bounds.tightest_s() == 0


def test_a_long_sequence_is_told_in_part() -> None:
    steps = Steps.of([("CPE1", OPERATIONS[at % 5], at % 3 * NS_PER_S) for at in range(9)])
    found = {bound.name: bound.explanation for bound in Bounds(steps, Policy(), Assumptions()).all()}
    assert found["sequence"].startswith("CPE1: reboot, factory and 1s to settle")
    assert found["sequence"].endswith("and 3 more")
