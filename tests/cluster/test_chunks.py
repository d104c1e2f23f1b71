"""How campaigns are cut: every device once, whole, in one wave, with its group where that must not be cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetops.cluster.chunks import chunk_size, cut
from fleetops.model import Operation, Steps
from fleetops.policy import Policy
from tests.journal.runs import S


def campaign(lengths: list[int], groups: list[str] | None = None) -> Steps:
    rows = [(f"SN{device}", Operation.SYNC, S) for device, length in enumerate(lengths) for _ in range(length)]
    return Steps.of(rows, groups or [])


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=60),
    size=st.integers(1, 20),
    waves=st.lists(st.integers(0, 3), min_size=60, max_size=60),
    groups=st.lists(st.sampled_from(["", "A", "B", "C"]), min_size=60, max_size=60),
    whole=st.booleans(),
)
def test_every_device_is_in_one_chunk_of_its_wave(
    lengths: list[int], size: int, waves: list[int], groups: list[str], whole: bool
) -> None:
    devices = len(lengths)
    wave_of, of_device = bytes(waves[:devices]), groups[:devices]
    chunks = cut(campaign(lengths, of_device), wave_of, of_device if whole else (), size)
    placed = [device for chunk in chunks for device in chunk.devices.tolist()]
    assert sorted(placed) == list(range(devices))
    for number, chunk in enumerate(chunks):
        assert {wave_of[device] for device in chunk.devices.tolist()} == {chunk.wave}
        if not whole:
            assert len(chunk.devices) <= size
        for other in chunks[number + 1 :] if whole else ():
            shared = {of_device[one] for one in chunk.devices} & {of_device[one] for one in other.devices}
            assert other.wave > chunk.wave or not shared - {""}
    assert [chunk.wave for chunk in chunks] == sorted(chunk.wave for chunk in chunks)


def test_devices_with_more_to_go_are_in_the_first_chunks() -> None:
    chunks = cut(campaign([1, 3, 2, 1, 3]), b"", (), 2)
    assert [chunk.devices.tolist() for chunk in chunks] == [[1, 4], [2, 0], [3]]


def test_a_chunk_keeps_the_rate_busy_while_devices_settle_and_leaves_some_for_others() -> None:
    steps = campaign([1] * 100_000)
    slow = Policy.model_validate({"rate": "10/s"})
    fast = Policy.model_validate({"rate": "1000/s"})
    assert chunk_size(steps, slow) == 20
    assert chunk_size(steps, fast) == 125
    assert chunk_size(campaign([1] * 100), fast) == 20
