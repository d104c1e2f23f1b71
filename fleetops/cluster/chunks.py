"""How a campaign is cut into chunks: devices that one worker runs, each with its whole sequence."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetops.cluster.queue import CHUNKS_AT_ONCE
from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from fleetops.model import Steps
    from fleetops.policy import Policy

_LEAST: Final = 20
_MOST: Final = 5000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Devices of one wave, in the order in which they are served.

    Attributes:
        wave: Their wave, from 0.
        devices: Their numbers.
    """

    wave: int
    devices: npt.NDArray[np.int64]


def chunk_size(steps: Steps, policy: Policy) -> int:
    """How many devices make a chunk: so many that two workers' chunks keep the rate busy while devices settle.

    A small campaign is cut into so many that several workers have some.
    """
    devices = len(steps.serials)
    longest_s = max(steps.settle_ns_of, default=0) / NS_PER_S
    busy = ceil(policy.rate.per_s * (longest_s + 1) / (2 * CHUNKS_AT_ONCE))
    shared = ceil(devices / CHUNKS_AT_ONCE)
    return max(_LEAST, min(busy, shared, _MOST))


def cut(steps: Steps, wave_of: bytes, groups: Sequence[str], size: int) -> list[Chunk]:
    """Cut a campaign into chunks, wave by wave.

    Args:
        steps: The campaign.
        wave_of: The wave of each device; empty where there are no waves.
        groups: The group of each device where a group must not be cut, because its cap is kept by who has it; else
            empty. A chunk may then be larger than `size`.
        size: How many devices a chunk has.
    """
    devices = len(steps.serials)
    order = np.argsort(-_tails(steps), kind="stable")
    waves = np.frombuffer(wave_of, dtype=np.uint8) if wave_of else np.zeros(devices, dtype=np.uint8)
    chunks: list[Chunk] = []
    for wave in range(int(waves.max(initial=0)) + 1):
        members = order[waves[order] == wave]
        parts = _whole_groups(members, groups, size) if groups else _slices(members, size)
        chunks += [Chunk(wave, part) for part in parts]
    return chunks


def _tails(steps: Steps) -> npt.NDArray[np.float64]:
    """By device: the settle times before its last step; those with more to go are served first."""
    device_of = np.asarray(steps.device_of, dtype=np.int64)
    settle_ns = np.asarray(steps.settle_ns_of, dtype=np.float64)
    tails = np.bincount(device_of, weights=settle_ns + 1, minlength=len(steps.serials))
    last = np.zeros(len(steps.serials), dtype=np.int64)
    last[device_of] = np.arange(len(device_of))
    result: npt.NDArray[np.float64] = tails - settle_ns[last] - 1
    return result


def _slices(members: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    for first in range(0, len(members), size):
        yield members[first : first + size]


def _whole_groups(members: npt.NDArray[np.int64], groups: Sequence[str], size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Groups one after another, and in between the devices that have none."""
    of_group: dict[str, list[int]] = {}
    for device in members.tolist():
        of_group.setdefault(groups[device] or f"\0{device}", []).append(device)
    part: list[int] = []
    for group in of_group.values():
        if part and len(part) + len(group) > size:
            yield np.array(part)
            part = []
        part += group
    if part:
        yield np.array(part)
