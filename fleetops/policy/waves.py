"""Waves: the devices a little at a time, and what one slice has to show before the next is let in.

Sizes are cumulative: `1%,10%,100%` lets in one device of a hundred as the canary, then up to ten of a hundred, then
all. A size is a percentage of the devices, rounded up, or a count (`5,50,all`). Where the last size does not reach
every device, a wave with the rest follows; a wave that would add no device, as in a small campaign, is left out.
"""

from __future__ import annotations

import hashlib
import re
import struct
from array import array
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from fleetops.policy.budget import PPM, format_percent, parse_percent_ppm
from fleetops.policy.units import format_duration, parse_duration_ns

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MOST_WAVES: Final = 100

_COUNT: Final = re.compile(r"\d{1,9}")
_CLAUSE: Final = re.compile(r"(?P<word>failed|unknown|after|soak)(?P<sign>\s*<=\s*|\s+)(?P<value>[\w.]+%?)")
_WAVES_EXAMPLE: Final = "write 1%,10%,100% or 5,50,all"
_GATE_EXAMPLE: Final = "write failed<=2%, unknown<=1%, after 50, soak 10m, or some of these"


@dataclass(frozen=True, slots=True)
class Reach:
    """How many devices the waves up to one have let in; either a count or a share.

    Attributes:
        count: Devices; None where it is a share.
        share_ppm: Millionths of all devices, rounded up to a device; None where it is a count.
    """

    count: int | None = None
    share_ppm: int | None = None

    def __post_init__(self) -> None:
        if (self.count is None) is (self.share_ppm is None):
            raise ValueError("a wave's size is a count or a percentage")
        if not (0 < self.share_ppm <= PPM if self.share_ppm is not None else self.count):
            raise ValueError("a wave has at least one device, and at most 100% of them")

    def of(self, devices: int) -> int:
        """How many that is of so many devices."""
        if self.share_ppm is not None:
            return -(-devices * self.share_ppm // PPM)
        return min(self.count or 0, devices)

    def __str__(self) -> str:
        return format_percent(self.share_ppm) if self.share_ppm is not None else str(self.count)


@dataclass(frozen=True, slots=True)
class Waves:
    """The waves of a campaign, whatever number of devices it has.

    Attributes:
        sizes: How far each wave reaches, the waves before it included.
    """

    sizes: tuple[Reach, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.sizes) <= MOST_WAVES:
            raise ValueError(f"there are 1 to {MOST_WAVES} waves: {_WAVES_EXAMPLE}")
        for before, after in pairwise(self.sizes):
            if before.share_ppm == PPM:
                raise ValueError(f"{before} reaches every device: nothing is left for a wave up to {after}")
            counts = before.count is not None and after.count is not None and before.count >= after.count
            shares = (
                before.share_ppm is not None and after.share_ppm is not None and before.share_ppm >= after.share_ppm
            )
            if counts or shares:
                raise ValueError(
                    f"a wave up to {after} adds nothing to one up to {before}: sizes include the waves before"
                )

    def __str__(self) -> str:
        return ",".join(map(str, self.sizes))

    def ends(self, devices: int) -> tuple[int, ...]:
        """How many devices are let in by the end of each wave, always more than by the one before.

        There are as many waves as this is long; the last figure is `devices`.
        """
        ends: list[int] = []
        for reach in (*self.sizes, Reach(share_ppm=PPM)):
            end = reach.of(devices)
            if end > (ends[-1] if ends else 0):
                ends.append(end)
        return tuple(ends)


def parse_waves(text: str) -> Waves:
    """Read sizes such as `1%,10%,100%` or `5,50,all`.

    Raises:
        ValueError: They are not sizes of waves, or do not grow; the message says what to write.
    """
    return Waves(tuple(_parse_reach(part.strip().lower()) for part in text.split(",")))


def _parse_reach(text: str) -> Reach:
    if text == "all":
        return Reach(share_ppm=PPM)
    if _COUNT.fullmatch(text):
        return Reach(count=int(text))
    if text.endswith("%"):
        return Reach(share_ppm=parse_percent_ppm(text))
    raise ValueError(f"{text[:40]!r} is not the size of a wave: {_WAVES_EXAMPLE}")


def assign(
    waves: Waves, groups: Sequence[str], devices: int, seed: str, left_out: Collection[int] = frozenset()
) -> bytes:
    """The wave of each device, counted from 0; the same arguments always give the same answer.

    Which devices come first is decided by a hash, not by their order in the manifest. Each wave takes from every
    group its share of the devices that are left, give or take one, so that a canary says something about all
    groups and disturbs none of them much.

    Args:
        waves: The sizes.
        groups: Group by device, empty where it has none (these count as one group); empty where no device has.
        devices: How many devices there are.
        seed: What makes the choice another one, such as the campaign's digest.
        left_out: Devices that nothing is done on. Sizes are of the others: a canary of devices that are left out
            would show nothing. They are given the last wave.

    Raises:
        ValueError: There are groups, but not one for each device.
    """
    left = _shuffled_by_group(groups, devices, seed)
    if left_out:
        left = [device for device in left if device not in left_out]
    *ends, _ = waves.ends(len(left)) or (0,)
    rest = len(ends)
    wave_of = bytearray([rest]) * devices
    for wave, (before, end) in enumerate(pairwise((0, *ends))):
        if wave:
            left = [device for device in left if wave_of[device] == rest]
        for device in _evenly(left, end - before, f"{wave}:{seed}"):
            wave_of[device] = wave
    return bytes(wave_of)


def _shuffled_by_group(groups: Sequence[str], devices: int, seed: str) -> list[int]:
    """Devices group by group; the groups, and the devices within each, in an order that the seed decides."""
    if groups and len(groups) != devices:
        raise ValueError(f"{devices} devices have {len(groups)} groups")
    # One long digest has four bytes for each device. Thirty bits of them sort nearly twice as fast as all, and
    # where two are equal, the order of the devices decides.
    digest = hashlib.shake_256(f"devices:{seed}".encode()).digest(4 * devices)
    rank = [word >> 2 for word in struct.unpack(f"<{devices}I", digest)]
    if not groups:
        return sorted(range(devices), key=rank.__getitem__)
    members: dict[str, array[int]] = {}
    for device, group in enumerate(groups):
        members.setdefault(group, array("I")).append(device)
    by_rank = sorted(members.values(), key=lambda group: rank[group[0]])
    return [device for group in by_rank for device in sorted(group, key=rank.__getitem__)]


def _evenly(left: Sequence[int], count: int, seed: str) -> list[int]:
    """`count` of the devices left, at equal distances: of any stretch of them, its share give or take one."""
    offset = int.from_bytes(hashlib.shake_256(f"offset:{seed}".encode()).digest(8), "little") % len(left)
    return [left[(at * len(left) + offset) // count] for at in range(count)]


class Verdict(StrEnum):
    """What a gate says of a wave."""

    PASSED = "passed"
    FAILED = "failed"
    TOO_FEW = "too_few"


@dataclass(frozen=True, slots=True)
class Gate:
    """What a wave has to show before the next one is let in.

    Attributes:
        failed_max_ppm: The largest share of failed among the finished steps that passes, in millionths; None for any.
        unknown_max_ppm: The same of unknown ones.
        min_sample: Finished steps that it takes to judge; at least 1, so that a wave of which everything was
            skipped passes nothing.
        soak_ns: How long to wait after the last step of the wave before judging it, in nanoseconds.
    """

    failed_max_ppm: int | None = None
    unknown_max_ppm: int | None = None
    min_sample: int = 1
    soak_ns: int = 0

    def __post_init__(self) -> None:
        shares = [share for share in (self.failed_max_ppm, self.unknown_max_ppm) if share is not None]
        if any(not 0 <= share <= PPM for share in shares):
            raise ValueError("a share is from 0% to 100%")
        if self.min_sample < 1 or self.soak_ns < 0:
            raise ValueError("a gate judges at least one finished step, after a soak of no less than nothing")

    def __str__(self) -> str:
        clauses = (
            "" if self.failed_max_ppm is None else f"failed<={format_percent(self.failed_max_ppm)}",
            "" if self.unknown_max_ppm is None else f"unknown<={format_percent(self.unknown_max_ppm)}",
            "" if self.min_sample == 1 else f"after {self.min_sample}",
            "" if self.soak_ns == 0 else f"soak {format_duration(self.soak_ns)}",
        )
        return ", ".join(filter(None, clauses)) or "after 1"

    def verdict(self, accepted: int, failed: int, unknown: int) -> Verdict:
        """Judge a wave by its steps: how many were accepted (or confirmed), failed and unknown.

        `TOO_FEW` of a wave that still runs means to ask again later. Of one that is done it means that nothing was
        shown, and lets nothing in, as `FAILED` does.
        """
        finished = accepted + failed + unknown
        if finished < self.min_sample:
            return Verdict.TOO_FEW
        return Verdict.FAILED if self._excess(failed, unknown, finished) else Verdict.PASSED

    def explain(self, accepted: int, failed: int, unknown: int) -> str:
        """The figures behind the verdict, for people."""
        finished = accepted + failed + unknown
        if finished < self.min_sample:
            return f"{finished} steps finished, {self.min_sample} are needed to judge"
        excess = self._excess(failed, unknown, finished)
        return "; ".join(excess) if excess else f"{failed} failed and {unknown} unknown of {finished} finished steps"

    def _excess(self, failed: int, unknown: int, finished: int) -> list[str]:
        return [
            f"{word}<={format_percent(max_ppm)}: {count} of {finished} finished steps {word} ({count / finished:.2%})"
            for word, count, max_ppm in (
                ("failed", failed, self.failed_max_ppm),
                ("unknown", unknown, self.unknown_max_ppm),
            )
            if max_ppm is not None and count * PPM > max_ppm * finished
        ]


def parse_gate(text: str) -> Gate:
    """Read a gate such as `failed<=2%, unknown<=1%, after 50, soak 10m`; each clause may be left out, not all.

    Raises:
        ValueError: It is not a gate; the message says what to write.
    """
    values: dict[str, str] = {}
    for part in text.lower().split(","):
        found = _CLAUSE.fullmatch(part.strip())
        if found is None or (found["sign"].strip() == "<=") is not (found["word"] in {"failed", "unknown"}):
            raise ValueError(f"{part.strip()[:40]!r} is not a clause of a wave's gate: {_GATE_EXAMPLE}")
        if found["word"] in values:
            raise ValueError(f"a wave's gate says `{found['word']}` once")
        values[found["word"]] = found["value"]
    if not values.get("after", "1").isdecimal():
        raise ValueError(f"{values['after'][:40]!r} is not a number of steps: {_GATE_EXAMPLE}")
    return Gate(
        failed_max_ppm=parse_percent_ppm(values["failed"]) if "failed" in values else None,
        unknown_max_ppm=parse_percent_ppm(values["unknown"]) if "unknown" in values else None,
        min_sample=int(values.get("after", "1")),
        soak_ns=parse_duration_ns(values.get("soak", "0")),
    )
