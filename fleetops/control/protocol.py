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
_FARTHEST_NS: Final = 1 << 63
_MICROSECOND: Final = timedelta(microseconds=1)
_FLAGS: Final = {"true": True, "1": True, "up": True, "false": False, "0": False, "down": False}


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

    async def pages(self, wanted: DeviceFilter = ...) -> int | None:
        """How many reads it takes to list the devices that pass a filter; None where the service does not say.

        Raises:
            FleetopsError: As `devices`.
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
        status: Whether it is up; None where the service does not say.
        last_status_change_ns: When it last went up or down, since 1970 UTC; None where the service does not say.
        pending_settings: Whether it has settings waiting.
        raw: All that the service says of it.
    """

    serial_number: str
    name: str = ""
    type: int | None = None
    organization: int | None = None
    status: bool | None = None
    last_status_change_ns: int | None = None
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
            last_status_change_ns=parse_moment_ns(row.get("last_status_change")),
            pending_settings=_flag(row.get("pending_settings")) is True,
            raw=row,
        )


def _flag(value: Any) -> bool | None:
    """True, 1 or a word for it; the same for false; None for anything else."""
    return _FLAGS.get(str(value).strip().lower())


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_moment_ns(text: Any) -> int | None:
    """An ISO 8601 date or time in nanoseconds since 1970 UTC, in 64 bits. Without a zone it is in UTC.

    None where it is none, or lies outside of the years 1678 to 2261.
    """
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    moment_ns = since // _MICROSECOND * 1000
    return moment_ns if abs(moment_ns) < _FARTHEST_NS else None
