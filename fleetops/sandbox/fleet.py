"""The sandbox's devices: down while an operation runs, and back after it. Nothing runs: it is worked out when asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from fleetops.sandbox.config import Busy
from fleetops.sandbox.faults import draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetops.model import Operation
    from fleetops.sandbox.config import SandboxConfig

_SERIAL: Final = "ZQ{:09}"
_DIGITS: Final = 9
_TYPES: Final = 3
_ORGANIZATIONS: Final = 5


@dataclass(slots=True)
class _Changed:
    """What happened to a device since the start.

    Attributes:
        down_s: When its last operation takes it down.
        back_s: When it is back from it.
        pending: Whether it has settings waiting.
        forced: Up or down by order of a test; None where operations decide.
        forced_s: When that was ordered.
        operations: How many it was given.
    """

    down_s: float = 0.0
    back_s: float = 0.0
    pending: bool = False
    forced: bool | None = None
    forced_s: float = 0.0
    operations: int = 0


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
        self._changed: dict[int, _Changed] = {}

    def number(self, serial: str) -> int | None:
        """The number of a device, from 1; None where there is none of that serial number."""
        if len(serial) != _DIGITS + 2 or not serial.startswith("ZQ") or not serial[2:].isdecimal():
            return None
        number = int(serial[2:])
        return number if 1 <= number <= self._config.devices else None

    def start(self, number: int, operation: Operation, now_s: float) -> Taken:
        """Give a device an operation."""
        device = self._changed.setdefault(number, _Changed())
        busy = now_s < device.back_s
        if busy and self._config.busy in {Busy.CONFLICT, Busy.UNPROCESSABLE}:
            return Taken(accepted=False, busy=True)
        device.operations += 1
        if self._is_offline(number, device):
            return Taken(accepted=True, busy=busy)
        begins_s = device.back_s if busy and self._config.busy is Busy.QUEUE else now_s
        chance = draw(self._config.seed, f"duration {number}", device.operations)
        duration_s = self._config.duration_s[operation] * (1 + self._config.jitter * chance)
        if not busy:
            device.down_s = begins_s
        device.back_s = begins_s + duration_s
        device.forced = None
        if operation.value in {"sync", "reconf"}:
            device.pending = False
        return Taken(accepted=True, busy=busy)

    def force(self, number: int, *, up: bool, now_s: float) -> None:
        """Set a device up or down, whatever it does."""
        device = self._changed.setdefault(number, _Changed())
        device.forced, device.forced_s, device.back_s = up, now_s, min(device.back_s, now_s)

    def row(self, number: int, now_s: float) -> dict[str, Any]:
        """A device as the inventory shows it."""
        up, changed_s = self._status(number, now_s)
        device = self._changed.get(number)
        return {
            "serial_number": _SERIAL.format(number),
            "name": f"router {number}",
            "type": 1 + number % _TYPES,
            "organization": 1 + number % _ORGANIZATIONS,
            "status": up,
            "last_status_change": datetime.fromtimestamp(changed_s, tz=UTC).isoformat().replace("+00:00", "Z"),
            "pending_settings": bool(device and device.pending),
        }

    def rows(self, wanted: Wanted, now_s: float) -> Iterator[int]:
        """The numbers of the devices that pass a filter, in order."""
        for number in range(1, self._config.devices + 1):
            if wanted.type not in {None, 1 + number % _TYPES}:
                continue
            if wanted.organization not in {None, 1 + number % _ORGANIZATIONS}:
                continue
            device = self._changed.get(number)
            if wanted.pending is not None and wanted.pending is not bool(device and device.pending):
                continue
            up, changed_s = self._status(number, now_s)
            if wanted.status in {None, up} and changed_s >= wanted.changed_from_s:
                yield number

    def _is_offline(self, number: int, device: _Changed | None) -> bool:
        if device is not None and device.forced is not None:
            return not device.forced
        return bool(self._config.offline) and draw(self._config.seed, "offline", number) < self._config.offline

    def _status(self, number: int, now_s: float) -> tuple[bool, float]:
        """Whether a device is up, and when that last changed."""
        device = self._changed.get(number)
        if device is not None and device.forced is not None:
            return device.forced, device.forced_s
        if self._is_offline(number, device):
            return False, self._started_s - 86_400
        if device is None or not device.down_s:
            return True, self._started_s - 3600
        if now_s < device.back_s:
            return False, device.down_s
        return True, device.back_s


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of the inventory; None does not filter."""

    status: bool | None = None
    type: int | None = None
    organization: int | None = None
    pending: bool | None = None
    changed_from_s: float = 0.0


_FLAGS: Final = {"true": True, "1": True, "up": True, "false": False, "0": False, "down": False}


def parse_filter(query: dict[str, str]) -> Wanted:
    """Read the inventory's filters.

    Raises:
        ValueError: One of them is not what it should be; its first argument is the name.
    """

    def flag(name: str) -> bool | None:
        text = query.get(name, "")
        if text and text.lower() not in _FLAGS:
            raise ValueError(name)
        return _FLAGS[text.lower()] if text else None

    def number(name: str) -> int | None:
        text = query.get(name, "")
        if text and not text.isdecimal():
            raise ValueError(name)
        return int(text) if text else None

    return Wanted(flag("status"), number("type"), number("organization"), flag("pending"), _moment_s(query))


def _moment_s(query: dict[str, str]) -> float:
    text = query.get("last_status_change_from", "")
    if not text:
        return 0.0
    try:
        if "T" in text or " " in text:
            moment = datetime.fromisoformat(text)
        else:
            moment = datetime.combine(date.fromisoformat(text), time())
    except ValueError:
        raise ValueError("last_status_change_from") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
