"""The inventory as the sandbox shows it: pages of devices, and one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from fleetops.sandbox.config import PREFIX
from fleetops.sandbox.fleet import parse_filter, parse_flag, parse_number
from fleetops.sandbox.replies import NOT_FOUND, Reply, header

if TYPE_CHECKING:
    from fleetops.sandbox.fleet import Fleet

INVENTORY_PATH: Final = f"{PREFIX}/inventory_device_serial/"

_PAGE: Final = 25
_LARGEST_PAGE: Final = 500


def one_device(fleet: Fleet, serial: str, now_s: float) -> Reply:
    """The answer about one device."""
    number = fleet.number(serial)
    return NOT_FOUND if number is None else Reply(200, fleet.row(number, now_s))


def page_of_devices(fleet: Fleet, scope: Any, now_s: float) -> Reply:
    """The answer to the query of a request, with the addresses of the pages around it."""
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    try:
        wanted = parse_filter(query)
        probed = parse_flag(query, "update_status") is True
        limit = parse_number(query, "limit", least=1)
        offset = parse_number(query, "offset") or 0
    except ValueError as error:
        return Reply(400, {str(error.args[0]): ["Enter a valid value."]})
    limit = min(limit or _PAGE, _LARGEST_PAGE)
    numbers = fleet.rows(wanted, now_s)

    def page(at: int) -> str:
        host = header(scope, b"host").decode("latin-1")
        return f"http://{host}{INVENTORY_PATH}?{urlencode({**query, 'limit': limit, 'offset': at})}"

    found = {
        "count": len(numbers),
        "next": page(offset + limit) if offset + limit < len(numbers) else None,
        "previous": page(max(0, offset - limit)) if offset else None,
        "results": [fleet.row(number, now_s) for number in numbers[offset : offset + limit]],
    }
    return Reply(200, found, late=probed)
