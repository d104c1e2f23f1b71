"""The inventory over HTTP. Reads are safe to repeat, so they are, within reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from operator import eq, ge
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import anyio
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from fleetops.control.base_url import path_segment
from fleetops.control.client import NoAnswer
from fleetops.control.protocol import Device, DeviceFilter, parse_moment_ns
from fleetops.control.replies import retry_after
from fleetops.control.wording import words_of
from fleetops.errors import AbortedError
from fleetops.model import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import date

    from tenacity import RetryCallState

    from fleetops.control.client import Answer, ControlClient

PAGE_SIZE: Final = 200
"""Devices asked for at a time. The service may give fewer."""

_MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one page."""

_ATTEMPTS: Final = 5
_LONGEST_WAIT_S: Final = 600.0
"""However long a Retry-After asks to wait."""
_MOST_STALE_PAGES: Final = 3
"""Pages in a row with no new device. Devices that are added while the pages are read move others onto the next page,
which so may have none; a service that does not page by offset gives the same devices for ever."""
_BACKOFF: Final = wait_exponential(multiplier=0.5, max=15) + wait_random(0, 1)
_EVERYTHING: Final = DeviceFilter()
_CHECK_TOKEN: Final = "check that the token is valid and may read the inventory"  # noqa: S105 - a hint, not a secret
_CHECK_URL: Final = "check the base URL: it ends before /inventory_device_serial/"


class InventoryError(AbortedError):
    """The inventory could not be read, after as many tries as make sense."""


class _PassingError(Exception):
    """A failure that the next try may not meet.

    Attributes:
        wait_s: How long the service asked to wait, in seconds; None where it did not.
    """

    def __init__(self, words: str, wait_s: float | None = None) -> None:
        super().__init__(words)
        self.wait_s = wait_s


class HttpInventory:
    """An `Inventory` that reads page by page.

    Pages are asked for by limit and offset. The `next` of a page says only whether there is one: its URL is never
    followed, since it could lead to another host, with the token.

    Args:
        client: What sends the requests.
        page_size: Devices asked for at a time.
        pace: Waited for before each request, where reads share a rate.
        sleep: Waits a number of seconds between tries.

    Attributes:
        shortfall: By how many devices the list that was read last falls short of what the service counted. It does
            where devices go, or change their order, while the pages are read.
    """

    def __init__(
        self,
        client: ControlClient,
        *,
        page_size: int = PAGE_SIZE,
        pace: Callable[[], Awaitable[None]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._client = client
        self._url = f"{client.base_url}/inventory_device_serial/"
        self._page_size = page_size
        self._pace = pace
        self._sleep = sleep
        self.shortfall = 0

    async def devices(self, wanted: DeviceFilter = _EVERYTHING) -> AsyncIterator[Device]:
        """The devices that pass a filter, each once, in the service's order.

        Devices that come or go while the pages are read may be missed, as with any paging by offset. What the
        service gives although it does not pass the filter is left out: there are services that know fewer filters.

        Raises:
            AbortedError: The token is refused, the base URL is wrong, or a page is not what it should be.
            InventoryError: The service cannot be reached or fails again and again.
        """
        seen: set[str] = set()
        offset = 0
        stale_pages = 0
        left = wanted.limit
        self.shortfall = 0
        while left is None or left > 0:
            asked = self._page_size if left is None else min(left, self._page_size)
            query = urlencode({"limit": asked, "offset": offset, **_query(wanted)})
            page = await self._read(f"{self._url}?{query}")
            found = self._devices_of(page, offset)
            stale_pages += 1
            for device in found:
                if device.serial_number not in seen and (left is None or left > 0):
                    stale_pages = 0
                    seen.add(device.serial_number)
                    if passes(device, wanted):
                        left = None if left is None else left - 1
                        yield device
            offset += len(found)
            if not _goes_on(page, offset):
                self.shortfall = max(0, (_count(page) or 0) - len(seen))
                return
            if not found or stale_pages == _MOST_STALE_PAGES:
                raise AbortedError(
                    f"the inventory says that there is more after {offset} devices, but gives none that is new",
                    hint="the service does not page as its reference says; ask for fewer devices with a filter",
                )

    async def pages(self, wanted: DeviceFilter = _EVERYTHING) -> int | None:
        """How many reads it takes to list the devices that pass a filter; None where the service does not say.

        Raises:
            AbortedError: As `devices`.
            InventoryError: As `devices`.
        """
        page = await self._read(f"{self._url}?{urlencode({'limit': self._page_size, 'offset': 0, **_query(wanted)})}")
        found = len(self._devices_of(page, 0))
        count = _count(page)
        if count is None:
            return None
        # The service may give fewer at a time than it is asked for, or all at once.
        return -(-count // (found or self._page_size))

    async def device(self, serial: str) -> Device | None:
        """One device, or None where there is none of that serial number.

        Raises:
            AbortedError: As `devices`.
            InventoryError: As `devices`.
        """
        found = await self._read(f"{self._url}{path_segment(serial)}/")
        if found is None:
            return None
        device = self._device(found, f"the device {serial!r}")
        if device.serial_number != serial:
            raise self._misunderstood(f"asked for the device {serial!r}, it gave another one")
        return device

    async def _read(self, url: str) -> Any:
        """The JSON at a URL, None where there is nothing; tried again where that may help."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_wait_s,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return await retrying(self._read_once, url)
        except _PassingError as error:
            raise InventoryError(
                f"the inventory could not be read in {_ATTEMPTS} tries: {error}",
                hint="see whether the service is up and can be reached from here, then try again",
            ) from None

    async def _read_once(self, url: str) -> Any:
        """The JSON at a URL, None where there is nothing."""
        if self._pace is not None:
            await self._pace()
        answer = await self._client.exchange("GET", url, most_bytes=_MOST_BYTES)
        if isinstance(answer, NoAnswer):
            raise _PassingError(answer.detail)
        if answer.status == HTTPStatus.OK:
            return self._json(answer)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        said = self._client.printable(f"{answer.status}: {words_of(answer.body)}")
        match answer.status:
            case 401 | 403:
                raise AbortedError(f"the inventory refuses the token ({said})", hint=_CHECK_TOKEN)
            case status if status == 429 or 500 <= status <= 599:  # noqa: PLR2004 - throttled, and server errors
                wait_s = retry_after(answer.headers.get("retry-after"), datetime.now(UTC))
                raise _PassingError(said, wait_s)
            case status if 300 <= status <= 399:  # noqa: PLR2004 - redirects
                location = self._client.printable(answer.headers.get("location") or "nowhere")
                raise AbortedError(f"the inventory is not there: {status} to {location}", hint=_CHECK_URL)
            case _:
                raise AbortedError(f"the inventory refuses the request ({said})", hint=_CHECK_URL)

    def _json(self, answer: Answer) -> Any:
        if answer.cut is Reason.BAD_REPLY:
            raise self._misunderstood(f"a page is longer than {_MOST_BYTES} bytes, or not framed as HTTP says")
        if answer.cut:
            raise _PassingError(f"the reply broke off ({answer.cut})")
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            words = self._client.printable(words_of(answer.body))
            raise self._misunderstood(f"the reply is not JSON: {words}") from None

    def _devices_of(self, page: Any, offset: int) -> list[Device]:
        if page is None:
            raise AbortedError("the inventory is not there (404)", hint=_CHECK_URL)
        results = page.get("results") if isinstance(page, dict) else None
        if not isinstance(results, list):
            raise self._misunderstood(f"the page at offset {offset} has no list of results")
        return [self._device(row, f"result {offset + index + 1}") for index, row in enumerate(results)]

    def _device(self, row: Any, what: str) -> Device:
        try:
            return Device.from_json(row)
        except ValueError as error:
            raise self._misunderstood(f"{what}: {error}") from None

    def _misunderstood(self, what: str) -> AbortedError:
        return AbortedError(
            f"the inventory's reply is not understood: {self._client.printable(what)}",
            hint="check that the base URL is of the control plane, and not of a proxy or a login page",
        )


def _wait_s(state: RetryCallState) -> float:
    """What the service asked for, else ever longer; never longer than `_LONGEST_WAIT_S`."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked_s = error.wait_s if isinstance(error, _PassingError) else None
    return min(_BACKOFF(state) if asked_s is None else asked_s, _LONGEST_WAIT_S)


def _count(page: Any) -> int | None:
    count = page.get("count")
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _goes_on(page: Any, offset: int) -> bool:
    """Whether there is another page; where the service gives no `next` at all, by what it counts."""
    if "next" in page:
        return bool(page["next"])
    return offset < (_count(page) or 0)


def passes(device: Device, wanted: DeviceFilter) -> bool:
    """Whether a device passes a filter as far as is known: what the service says nothing of is taken on trust."""
    return all(
        asked is None or name not in device.raw or (found is not None and matches(found, asked))
        for name, found, asked, matches in (
            ("status", device.status, wanted.status, eq),
            ("type", _numbered(device.raw.get("type")), wanted.type, _is_number),
            ("organization", _numbered(device.raw.get("organization")), wanted.organization, _is_number),
            ("pending_settings", device.pending_settings, wanted.pending, eq),
            ("last_status_change", device.last_status_change_ns, _since_ns(wanted), ge),
        )
    )


def _numbered(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _is_number(found: Any, asked: int) -> bool:
    """What is not a number, such as an object or a URL, is not understood here, and taken on trust."""
    return not isinstance(found, int) or found == asked


def _since_ns(wanted: DeviceFilter) -> int | None:
    since = _since(wanted)
    return None if since is None else parse_moment_ns(since.isoformat())


def _since(wanted: DeviceFilter) -> datetime | date | None:
    since = wanted.last_status_change_from
    if isinstance(since, datetime):
        return since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
    return since


def _query(wanted: DeviceFilter) -> dict[str, str | int]:
    since = _since(wanted)
    chosen: dict[str, str | int | None] = {
        "status": None if wanted.status is None else str(wanted.status).lower(),
        "type": wanted.type,
        "organization": wanted.organization,
        "pending": None if wanted.pending is None else str(wanted.pending).lower(),
        "last_status_change_from": since.isoformat().replace("+00:00", "Z") if since else None,
    }
    return {name: value for name, value in chosen.items() if value is not None}
