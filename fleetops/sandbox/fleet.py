"""The sandbox's devices: down while an operation runs, and back after it. Nothing runs: it is worked out when asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from fleetops.model import Operation
from fleetops.sandbox.config import DURATIONS_S, SERIAL_DIGITS, Busy
from fleetops.sandbox.faults import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.sandbox.config import SandboxConfig

_SERIAL: Final = f"ZQ{{:0{SERIAL_DIGITS}}}"
_TYPES: Final = 3
_ORGANIZATIONS: Final = 5
_CONFIGURES: Final = frozenset({Operation.SYNC, Operation.RECONF})
_LONGEST_NUMBER: Final = 18


@dataclass(slots=True)
class _Device:
    """What is known of a device. Times are seconds since the epoch.

    Attributes:
        offline: Whether it is down whatever it is told.
        pending: Whether it has settings waiting.
        changed_s: When it last went up or down other than by an operation.
        down_s: When its last operation took it down.
        back_s: When it is back from it.
        operations: How many it was given.
    """

    offline: bool
    pending: bool
    changed_s: float
    down_s: float = 0.0
    back_s: float = 0.0
    operations: int = 0

    def status(self, now_s: float) -> tuple[bool, float]:
        """Whether it is up, and when that last changed."""
        if self.offline:
            return False, self.changed_s
        if now_s < self.back_s:
            return False, self.down_s
        return True, max(self.changed_s, self.back_s)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an operation that was given to a device.

    Attributes:
        accepted: Whether it was taken.
        busy: Whether another one was running.
    """

    accepted: bool
    busy: bool


class Fleet:
    """The devices. Times are seconds since the epoch, and passed in."""

    def __init__(self, config: SandboxConfig, now_s: float) -> None:
        self._config = config
        self._started_s = now_s
        self._touched: dict[int, _Device] = {}
        self._untouched: tuple[Wanted, list[int]] | None = None

    def number(self, serial: str) -> int | None:
        """The number of a device, from 1; None where there is none of that serial number."""
        digits = serial[2:]
        if len(digits) != SERIAL_DIGITS or not serial.startswith("ZQ") or not (digits.isascii() and digits.isdecimal()):
            return None
        number = int(digits)
        return number if 1 <= number <= self._config.devices else None

    def start(self, number: int, operation: Operation, now_s: float) -> Taken:
        """Give a device an operation. One that is offline takes it, and nothing comes of it."""
        device = self._touch(number)
        busy = now_s < device.back_s
        if busy and self._config.busy in {Busy.CONFLICT, Busy.UNPROCESSABLE}:
            return Taken(accepted=False, busy=True)
        device.operations += 1
        if device.offline:
            return Taken(accepted=True, busy=busy)
        begins_s = device.back_s if busy and self._config.busy == Busy.QUEUE else now_s
        chance = draw(self._config.seed, f"duration {number}", device.operations)
        base_s = self._config.duration_s.get(operation, DURATIONS_S[operation])
        if not busy:
            device.down_s = begins_s
        device.back_s = max(device.back_s, begins_s + base_s * (1 + self._config.jitter * chance))
        device.pending = device.pending and operation not in _CONFIGURES
        return Taken(accepted=True, busy=busy)

    def force(self, number: int, *, up: bool, now_s: float) -> None:
        """Set a device up or down, whatever it does; one that is down stays so."""
        device = self._touch(number)
        device.offline, device.changed_s, device.back_s = not up, now_s, min(device.back_s, now_s)

    def row(self, number: int, now_s: float) -> dict[str, Any]:
        """A device as the inventory shows it."""
        device = self._device(number)
        up, changed_s = device.status(now_s)
        return {
            "serial_number": _SERIAL.format(number),
            "name": f"router {number}",
            "type": 1 + number % _TYPES,
            "organization": 1 + number % _ORGANIZATIONS,
            "status": up,
            "last_status_change": datetime.fromtimestamp(changed_s, tz=UTC).isoformat().replace("+00:00", "Z"),
            "pending_settings": device.pending,
        }

    def rows(self, wanted: Wanted, now_s: float) -> Sequence[int]:
        """The numbers of the devices that pass a filter, in order."""
        everything = range(1, self._config.devices + 1)
        if wanted == Wanted():
            return everything
        # A device that nothing happened to passes or does not for good: page after page asks for the same ones.
        if self._untouched is None or self._untouched[0] != wanted:
            self._untouched = wanted, [one for one in everything if self._passes(one, self._new(one), wanted, now_s)]
        untouched = [number for number in self._untouched[1] if number not in self._touched]
        touched = [number for number, device in self._touched.items() if self._passes(number, device, wanted, now_s)]
        return sorted(untouched + touched)

    def _passes(self, number: int, device: _Device, wanted: Wanted, now_s: float) -> bool:
        if wanted.type not in {None, 1 + number % _TYPES}:
            return False
        if wanted.organization not in {None, 1 + number % _ORGANIZATIONS}:
            return False
        up, changed_s = device.status(now_s)
        return (
            wanted.pending in {None, device.pending}
            and wanted.status in {None, up}
            and (wanted.changed_from_s is None or changed_s >= wanted.changed_from_s)
        )

    def _touch(self, number: int) -> _Device:
        return self._touched.setdefault(number, self._device(number))

    def _device(self, number: int) -> _Device:
        return self._touched.get(number) or self._new(number)

    def _new(self, number: int) -> _Device:
        """A device that nothing happened to; made up each time, so that a million of them take no memory."""
        offline = self._drawn("offline", self._config.offline, number)
        ago_s = 86_400 if offline else 3600
        return _Device(offline, self._drawn("pending", self._config.pending, number), self._started_s - ago_s)

    def _drawn(self, what: str, share: float, number: int) -> bool:
        return share > 0 and draw(self._config.seed, what, number) < share


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of the inventory; None does not filter."""

    status: bool | None = None
    type: int | None = None
    organization: int | None = None
    pending: bool | None = None
    changed_from_s: float | None = None


_FLAGS: Final = {"true": True, "1": True, "up": True, "false": False, "0": False, "down": False}


def parse_filter(query: dict[str, str]) -> Wanted:
    """Read the inventory's filters.

    Raises:
        ValueError: One of them is not what it should be; its first argument is the name.
    """
    return Wanted(
        parse_flag(query, "status"),
        parse_number(query, "type"),
        parse_number(query, "organization"),
        parse_flag(query, "pending"),
        _moment_s(query, "last_status_change_from"),
    )


def parse_flag(query: dict[str, str], name: str) -> bool | None:
    """A parameter that is true or false; None where it is not there.

    Raises:
        ValueError: It is neither; the first argument is the name.
    """
    text = query.get(name, "")
    if text and text.lower() not in _FLAGS:
        raise ValueError(name)
    return _FLAGS[text.lower()] if text else None


def parse_number(query: dict[str, str], name: str, least: int = 0) -> int | None:
    """A parameter that is a whole number from `least` on; None where it is not there.

    Raises:
        ValueError: It is something else; the first argument is the name.
    """
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER) or int(text) < least:
        raise ValueError(name)
    return int(text)


def _moment_s(query: dict[str, str], name: str) -> float | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        if "T" in text or " " in text:
            moment = datetime.fromisoformat(text)
        else:
            moment = datetime.combine(date.fromisoformat(text), time())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        raise ValueError(name) from None
