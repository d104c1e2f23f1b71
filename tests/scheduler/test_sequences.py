from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetops.model import Operation, Steps
from fleetops.scheduler.sequences import DEVICE_MASK, Sequences

ROWS = [
    ("A", Operation.FACTORY, 300),
    ("B", Operation.REBOOT, 100),
    ("A", Operation.SYNC, 60),
    ("C", Operation.REBOOT, 100),
    ("A", Operation.RECONF, 60),
    ("C", Operation.SYNC, 60),
]


def test_each_device_does_its_steps_in_manifest_order() -> None:
    sequences = Sequences(Steps.of(ROWS))
    assert sequences.devices == 3
    done = []
    while (step := sequences.current(0)) is not None:
        done.append(step)
        assert sequences.has_further(0) == (step != 4)
        sequences.advance(0)
    assert done == [0, 2, 4]
    assert sequences.current(1) == 1


def test_devices_with_more_still_to_go_come_first() -> None:
    sequences = Sequences(Steps.of(ROWS))
    order = sorted(range(3), key=sequences.rank)
    # A: 300 + 60 to its last step, C: 100, B has none.
    assert order == [0, 2, 1]
    assert [sequences.rank(device) & DEVICE_MASK for device in range(3)] == [0, 1, 2]


def test_among_equals_the_manifest_decides() -> None:
    sequences = Sequences(Steps.of([(name, Operation.REBOOT, 5) for name in "CAB"]))
    assert sorted(range(3), key=sequences.rank) == [0, 1, 2]


def test_more_steps_without_settle_times_still_come_before_fewer() -> None:
    sequences = Sequences(Steps.of([("A", Operation.SYNC, 0), ("B", Operation.SYNC, 0), ("B", Operation.RECONF, 0)]))
    assert sorted(range(2), key=sequences.rank) == [1, 0]


def test_a_sequence_may_end_early() -> None:
    sequences = Sequences(Steps.of(ROWS))
    assert list(sequences.drop_rest(0)) == [2, 4]
    assert sequences.current(0) is None
    assert list(sequences.drop_rest(1)) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10**12)), min_size=1, max_size=40))
def test_every_step_is_in_one_sequence(rows: list[tuple[int, int]]) -> None:
    steps = Steps.of([(f"S{device}", Operation.SYNC, settle_ns) for device, settle_ns in rows])
    sequences = Sequences(steps)
    seen = []
    for device in range(sequences.devices):
        step = sequences.current(device)
        while step is not None:
            assert steps.device_of[step] == device
            seen.append(step)
            sequences.advance(device)
            step = sequences.current(device)
    assert sorted(seen) == list(range(len(steps)))


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=20), st.booleans(), st.data())
def test_devices_pass_by_what_is_done_and_nothing_else(
    rows: list[tuple[int, bool]], one_each: bool, data: st.DataObject
) -> None:
    names = [f"S{number if one_each else device}" for number, (device, _) in enumerate(rows)]
    steps = Steps.of([(name, Operation.SYNC, 0) for name in names])
    outcomes = bytes(done for _, done in rows)
    waiting = data.draw(st.sets(st.sampled_from(range(len(rows))), max_size=2))
    sequences, stepwise = Sequences(steps), Sequences(steps)
    ended, passed = sequences.pass_by(outcomes, waiting)
    for device in range(sequences.devices):
        first = step = stepwise.current(device)
        while step is not None and outcomes[step] and step not in waiting:
            stepwise.advance(device)
            step = stepwise.current(device)
        assert sequences.current(device) == step
        assert (ended[device], passed[device]) == (step is None, step != first)
    left = [device for device in range(sequences.devices) if not ended[device]]
    assert list(sequences.ranks(left)) == [sequences.rank(device) for device in left]
