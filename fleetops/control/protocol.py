"""What the rest of fleetops needs of a control plane, whatever is behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import date

    from fleetops.model import Operation, Reply

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UP: Final = frozenset({"true", "1", "up"})


class ControlPlane(Protocol):
    """Where operations are sent."""

    async def execute(self, serial: str, operation: Operation) -> Reply:
        """Ask once for an operation on a device, and say what became of the asking.

        Never raises for anything that the network or the service does. A cancellation goes through, once the
        connection has been closed.
        """

    async def aclose(self) -> None:
        """Let go of the connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFilter:
    """Which devices of the inventory; None does not filter.

    Attributes:
        status: Up or down.
        type: The number of the device type.
        organization: The number of the organization.
        pending: Whether it has settings waiting.
        last_status_change_from: Not before this moment or day; a time without a zone is in UTC.
        limit: At most so many devices.
    """

    status: bool | None = None
    type: int | None = None
    organization: int | None = None
    pending: bool | None = None
    last_status_change_from: datetime | date | None = None
    limit: int | None = None


class Inventory(Protocol):
    """What is known of the devices."""

    def devices(self, wanted: DeviceFilter = ...) -> AsyncIterator[Device]:
        """The devices that pass a filter, each once.

        Raises:
            FleetopsError: The service refuses, cannot be reached or is not understood.
        """

    async def device(self, serial: str) -> Device | None:
        """One device, or None where there is none of that serial number.

        Raises:
            FleetopsError: As `devices`.
        """


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the inventory has it.

    Attributes:
        serial_number: Its serial number.
        name: Its name, empty where it has none.
        type: The number of its type, where that is a number.
        organization: The number of its organization, where that is a number.
        status: Whether it is up.
        last_status_change: When it last went up or down, in nanoseconds since 1970 UTC; None where not known.
        pending_settings: Whether it has settings waiting.
        raw: All that the service says of it.
    """

    serial_number: str
    name: str = ""
    type: int | None = None
    organization: int | None = None
    status: bool = False
    last_status_change: int | None = None
    pending_settings: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, row: Any) -> Device:
        """Read one row of the inventory. Only the serial number has to be there.

        Raises:
            ValueError: It is not an object with a serial number.
        """
        if not isinstance(row, dict):
            raise ValueError("it is not an object")  # noqa: TRY004 - of what was read, not of the argument
        serial = row.get("serial_number")
        if not isinstance(serial, str) or not serial:
            raise ValueError("it has no serial_number")
        name = row.get("name")
        return cls(
            serial_number=serial,
            name=name if isinstance(name, str) else "",
            type=_number(row.get("type")),
            organization=_number(row.get("organization")),
            status=_flag(row.get("status")),
            last_status_change=parse_moment_ns(row.get("last_status_change")),
            pending_settings=_flag(row.get("pending_settings")),
            raw=row,
        )


def _flag(value: Any) -> bool:
    """Whether it is true, 1, or a word for it."""
    return value.strip().lower() in _UP if isinstance(value, str) else value in (True, 1)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_moment_ns(text: Any) -> int | None:
    """An ISO 8601 date or time in nanoseconds since 1970 UTC; None where it is none. Without a zone it is in UTC."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    return since // _MICROSECOND * 1000
