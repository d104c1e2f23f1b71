from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from fleetops.control import (
    ClientSettings,
    Device,
    DeviceFilter,
    HttpControlPlane,
    HttpInventory,
    InventoryError,
    Token,
)
from fleetops.control.client import ControlClient
from fleetops.errors import AbortedError
from tests.control.scripted_server import Arrival, Peer, ScriptedServer, answers, reply

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "s3cret-T0ken-Value"
NOWHERE = "http://127.0.0.1:9/elsewhere"

Answer = str | bytes | dict[str, Any] | list[Any]


def rows(*numbers: int) -> list[dict[str, Any]]:
    return [{"serial_number": f"SN{number}"} for number in numbers]


def page(results: Any, more: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"count": 25, "next": more, "previous": None, "results": results, **fields}


def query(arrival: Arrival) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(arrival.target).query).items()}


class Served:
    """An inventory that answers each request from a function or a list, and what was asked of it and slept."""

    def __init__(self, answer: Callable[[Arrival], Answer] | list[Answer]) -> None:
        self._answers = iter(answer) if isinstance(answer, list) else None
        self._answer = answer
        self.slept: list[float] = []
        self.asked: list[Arrival] = []

    def _serve(self, peer: Peer) -> None:
        while True:
            arrival = peer.request()
            found = next(self._answers) if self._answers is not None else self._answer(arrival)  # type: ignore[operator]
            if found == b"":
                return
            peer.send(
                found if isinstance(found, bytes) else reply(found if isinstance(found, str) else json.dumps(found))
            )

    async def _sleep(self, wait_s: float) -> None:
        self.slept.append(wait_s)

    def use(self, use: Callable[[HttpInventory], Any], page_size: int = 10) -> Any:
        async def main() -> Any:
            client = ControlClient(ClientSettings(base_url=server.base_url, token=Token(SECRET)))
            try:
                return await use(HttpInventory(client, page_size=page_size, sleep=self._sleep))
            finally:
                await client.aclose()

        with ScriptedServer(self._serve) as server:
            try:
                return anyio.run(main)
            finally:
                self.asked = server.arrivals

    def serials(self, wanted: DeviceFilter | None = None) -> list[str]:
        async def use(inventory: HttpInventory) -> list[str]:
            return [device.serial_number async for device in inventory.devices(wanted or DeviceFilter())]

        return list(self.use(use))

    def device(self, serial: str) -> Device | None:
        found: Device | None = self.use(lambda inventory: inventory.device(serial))
        return found


def fleet(size: int, *, most: int = 1000) -> Callable[[Arrival], Answer]:
    """A well-behaved inventory of some devices that gives at most so many at a time."""

    def answer(arrival: Arrival) -> Answer:
        asked = query(arrival)
        start = int(asked["offset"])
        end = min(start + min(int(asked["limit"]), most), size)
        return page(rows(*range(start, end)), NOWHERE if end < size else None, count=size)

    return answer


class TestPaging:
    @pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 25])
    @pytest.mark.parametrize("most", [1000, 4])
    def test_every_device_is_given_once_in_order(self, size: int, most: int) -> None:
        assert Served(fleet(size, most=most)).serials() == [f"SN{number}" for number in range(size)]

    def test_the_next_url_is_not_followed_but_the_offset_counted(self) -> None:
        served = Served(fleet(25))
        served.serials()
        assert [query(arrival)["offset"] for arrival in served.asked] == ["0", "10", "20"]
        assert all(arrival.target.startswith("/api/v1/inventory_device_serial/?limit=10&") for arrival in served.asked)

    @pytest.mark.parametrize("limit", [0, 1, 10, 15, 25, 99])
    def test_no_more_than_the_limit_are_given_or_asked_for(self, limit: int) -> None:
        served = Served(fleet(25))
        assert len(served.serials(DeviceFilter(limit=limit))) == min(limit, 25)
        assert (
            sum(int(query(arrival)["limit"]) for arrival in served.asked) <= max(limit, 30)
            if limit
            else not served.asked
        )

    def test_a_page_that_is_longer_than_asked_for_is_cut_to_the_limit(self) -> None:
        assert Served(lambda _: page(rows(*range(50)), NOWHERE)).serials(DeviceFilter(limit=3)) == ["SN0", "SN1", "SN2"]

    def test_a_device_that_moves_onto_the_next_page_is_given_once(self) -> None:
        served = Served([page(rows(1, 2), NOWHERE), page(rows(2, 3), NOWHERE), page(rows(3), NOWHERE), page(rows(4))])
        assert served.serials() == ["SN1", "SN2", "SN3", "SN4"]

    @pytest.mark.parametrize("turns", [[rows(1, 2)], [rows(1), rows(2)], [rows(1, 2), rows(3), rows(2)]])
    def test_a_service_that_goes_round_in_circles_is_told_so(self, turns: list[list[Any]]) -> None:
        pages = [page(turns[number % len(turns)], NOWHERE) for number in range(100)]
        served = Served(list(pages))
        with pytest.raises(AbortedError, match="says that there is more") as caught:
            served.serials()
        assert caught.value.hint
        assert len(served.asked) <= len(turns) + 3

    def test_an_empty_page_ends_the_list_where_nothing_follows(self) -> None:
        assert Served([page(rows(1), NOWHERE), page([])]).serials() == ["SN1"]

    def test_an_empty_page_that_says_there_is_more_is_not_taken_for_the_end(self) -> None:
        with pytest.raises(AbortedError, match="more after 1 devices"):
            Served([page(rows(1), NOWHERE), page([], NOWHERE)]).serials()

    def test_a_service_that_gives_no_next_is_read_as_far_as_it_counts(self) -> None:
        def answer(arrival: Arrival) -> Answer:
            start = int(query(arrival)["offset"])
            return {"count": 25, "results": rows(*range(start, min(start + 10, 25)))}

        served = Served(answer)
        assert len(served.serials()) == 25
        assert len(served.asked) == 3

    def test_how_many_devices_a_list_lacks_of_those_counted_is_known(self) -> None:
        async def use(inventory: HttpInventory) -> tuple[int, int]:
            return len([device async for device in inventory.devices()]), inventory.shortfall

        assert Served(fleet(25)).use(use) == (25, 0)
        # Another order on the second page: one device twice, another not at all.
        moved: list[Answer] = [page(rows(1, 2), NOWHERE, count=4), page(rows(2, 4), count=4)]
        assert Served(moved).use(use) == (3, 1)

    def test_a_count_that_changes_or_is_missing_does_not_matter(self) -> None:
        pages: list[Answer] = [
            page(rows(1), NOWHERE, count=-5),
            page(rows(2), NOWHERE, count="x"),
            {"results": rows(3)},
        ]
        assert Served(pages).serials() == ["SN1", "SN2", "SN3"]


class TestFilters:
    @pytest.mark.parametrize(
        ("wanted", "fields", "given"),
        [
            (DeviceFilter(status=True), {"status": 0}, False),
            (DeviceFilter(status=True), {"status": None}, False),
            (DeviceFilter(status=True), {"status": "1"}, True),
            (DeviceFilter(status=True), {}, True),
            (DeviceFilter(status=False), {"status": "true"}, False),
            (DeviceFilter(type=2), {"type": 1}, False),
            (DeviceFilter(type=2), {"type": "2"}, True),
            (DeviceFilter(organization=2), {"organization": 3}, False),
            (DeviceFilter(organization=2), {"organization": "3"}, False),
            (DeviceFilter(organization=2), {"organization": None}, False),
            (DeviceFilter(organization=2), {"organization": {"id": 3}}, True),
            (DeviceFilter(pending=True), {"pending_settings": False}, False),
            (DeviceFilter(pending=True), {}, True),
            (DeviceFilter(pending=False), {"pending_settings": 1}, False),
            (DeviceFilter(last_status_change_from=date(2026, 1, 2)), {"last_status_change": None}, False),
            (
                DeviceFilter(last_status_change_from=date(2026, 1, 2)),
                {"last_status_change": "2026-01-01T23:59:59Z"},
                False,
            ),
            (
                DeviceFilter(last_status_change_from=datetime(2026, 1, 2, 3, tzinfo=UTC)),
                {"last_status_change": "2026-01-02T03:00:00"},
                True,
            ),
        ],
    )
    def test_what_a_service_gives_in_spite_of_the_filter_is_left_out(
        self, wanted: DeviceFilter, fields: dict[str, Any], given: bool
    ) -> None:
        served = Served([page([{"serial_number": "SN1", **fields}])])
        assert served.serials(wanted) == ["SN1"] * given

    def test_a_limit_counts_the_devices_that_pass(self) -> None:
        results = [{"serial_number": f"SN{number}", "status": number % 2} for number in range(10)]
        served = Served([page(results[:5], NOWHERE), page(results[5:])])
        assert served.serials(DeviceFilter(status=True, limit=4)) == ["SN1", "SN3", "SN5", "SN7"]

    @pytest.mark.parametrize(
        ("wanted", "asked"),
        [
            (DeviceFilter(), {}),
            (DeviceFilter(status=True, pending=False), {"status": "true", "pending": "false"}),
            (DeviceFilter(status=False, type=3, organization=0), {"status": "false", "type": "3", "organization": "0"}),
            (DeviceFilter(last_status_change_from=date(2025, 3, 1)), {"last_status_change_from": "2025-03-01"}),
            (
                DeviceFilter(last_status_change_from=datetime(2025, 3, 1, 12)),  # noqa: DTZ001 - the case in hand
                {"last_status_change_from": "2025-03-01T12:00:00Z"},
            ),
            (
                DeviceFilter(last_status_change_from=datetime(2025, 3, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
                {"last_status_change_from": "2025-02-28T23:00:00Z"},
            ),
            (
                DeviceFilter(last_status_change_from=datetime(2025, 3, 1, 1, 0, 0, 5, tzinfo=UTC)),
                {"last_status_change_from": "2025-03-01T01:00:00.000005Z"},
            ),
        ],
    )
    def test_they_are_passed_on_with_every_page(self, wanted: DeviceFilter, asked: dict[str, str]) -> None:
        served = Served(fleet(15))
        served.serials(wanted)
        assert len(served.asked) == 2
        for arrival in served.asked:
            assert query(arrival).items() - {"limit": "10", "offset": "0"}.items() - {("offset", "10")} == asked.items()


class TestOneDevice:
    def test_it_is_read_from_its_own_url(self) -> None:
        served = Served(lambda _: {"serial_number": "a/b?", "status": "down", "name": "x", "type": 4})
        assert served.device("a/b?") == Device("a/b?", name="x", type=4, status=False)
        assert served.asked[0].target == "/api/v1/inventory_device_serial/a%2Fb%3F/"
        assert served.asked[0].method == "GET"
        assert "content-type" not in served.asked[0].headers

    def test_there_is_none(self) -> None:
        assert Served(lambda _: reply('{"detail": "Not found."}', "404 Not Found")).device("SN1") is None

    def test_another_device_is_not_taken_for_it(self) -> None:
        with pytest.raises(AbortedError, match="another one"):
            Served(lambda _: {"serial_number": "SN2"}).device("SN1")

    def test_over_the_connections_of_the_control_plane(self) -> None:
        async def main() -> Device | None:
            control = HttpControlPlane(ClientSettings(base_url=server.base_url, token=Token(SECRET)))
            try:
                return await control.inventory().device("SN1")
            finally:
                await control.aclose()

        with ScriptedServer(answers(lambda _: reply(json.dumps(rows(1)[0])))) as server:
            assert anyio.run(main) == Device("SN1")


PASSING: dict[str, Answer] = {
    "lost": b"",
    "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{"re',
    "throttled": reply("", "429 Too Many Requests"),
    "500": reply("oops", "500 Internal Server Error"),
    "an HTML 502": reply("<title>Bad Gateway</title>", "502 Bad Gateway"),
    "503": reply("", "503 Service Unavailable"),
    "504": reply("", "504 Gateway Timeout"),
}


class TestTryingAgain:
    @pytest.mark.parametrize("trouble", [name for name in PASSING if name != "half a body"])
    def test_what_may_pass_is_tried_again_after_a_growing_wait(self, trouble: str) -> None:
        served = Served([*[PASSING[trouble]] * 4, page(rows(1))])
        assert served.serials() == ["SN1"]
        assert len(served.slept) == 4
        assert all(0.5 * 2**tries <= wait_s <= 0.5 * 2**tries + 1 for tries, wait_s in enumerate(served.slept))

    @pytest.mark.parametrize("trouble", [name for name in PASSING if name != "half a body"])
    def test_not_for_ever(self, trouble: str) -> None:
        served = Served([PASSING[trouble]] * 9)
        with pytest.raises(InventoryError, match="in 5 tries") as caught:
            served.serials()
        assert caught.value.hint
        assert len(served.asked) == 5

    def test_a_reply_that_broke_off_is_read_again(self) -> None:
        def serve(peer: Peer) -> None:
            peer.request()
            peer.send(PASSING["half a body"] if peer.number == 0 else reply(json.dumps(page(rows(1)))))  # type: ignore[arg-type]

        served = Served([])
        served._serve = serve  # type: ignore[method-assign]
        assert served.serials() == ["SN1"]
        assert len(served.slept) == 1

    @pytest.mark.parametrize(
        ("retry_after", "wait_s"), [("7", 7.0), ("0", 0.0), ("86400", 600.0), ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0)]
    )
    def test_as_late_as_the_service_asks(self, retry_after: str, wait_s: float) -> None:
        throttled = reply("", "429 Too Many Requests", f"Retry-After: {retry_after}")
        served = Served([throttled, page(rows(1))])
        assert served.serials() == ["SN1"]
        assert served.slept == [wait_s]

    def test_each_page_has_its_own_tries(self) -> None:
        trouble = [PASSING["500"]] * 4
        served = Served([*trouble, page(rows(1), NOWHERE), *trouble, page(rows(2))])
        assert served.serials() == ["SN1", "SN2"]

    def test_a_service_that_cannot_be_reached_is_said_to_be_so(self) -> None:
        async def main() -> None:
            client = ControlClient(ClientSettings(base_url="http://127.0.0.1:1", token=Token(SECRET)))
            await HttpInventory(client, sleep=lambda _: anyio.lowlevel.checkpoint()).device("SN1")

        with pytest.raises(InventoryError, match=r"no connection to 127\.0\.0\.1:1: Connection refused"):
            anyio.run(main)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reply('{"detail": "Invalid token."}', "401 Unauthorized"), "refuses the token (401: Invalid token.)"),
        (reply("", "403 Forbidden"), "refuses the token"),
        (reply("", "404 Not Found"), "not there (404)"),
        (
            reply("", "301 Moved", f"Location: https://else.example/?t={SECRET}"),
            "301 to https://else.example/?t=[token]",
        ),
        (reply("", "302 Found"), "302 to nowhere"),
        (reply('{"limit": ["Too big."]}', "400 Bad Request"), "400: limit: Too big."),
        (reply("", "204 No Content").replace(b"Content-Length: 0\r\n", b""), "refuses the request (204"),
        (f"<title>Log in</title> {SECRET}", "not JSON: Log in"),
        (f"words and {SECRET}", "not JSON: words and [token]"),
        ("[" * 50_000, "not JSON"),
        ("[]", "no list of results"),
        ('{"results": null}', "no list of results"),
        (page([1]), "result 1: it is not an object"),
        (page([*rows(1), {"name": "x"}]), "result 2: it has no serial_number"),
        (page([{"serial_number": ""}]), "result 1: it has no serial_number"),
        (page([{"serial_number": 5}]), "result 1: it has no serial_number"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not framed"),
    ],
)
def test_what_will_not_pass_ends_it_at_once_with_a_hint(answer: Answer, says: str) -> None:
    served = Served(lambda _: answer)
    with pytest.raises(AbortedError) as caught:
        served.serials()
    assert says in caught.value.message
    assert caught.value.hint
    assert SECRET not in caught.value.message
    assert len(served.asked) == 1
    assert served.slept == []


@pytest.mark.parametrize(
    ("count", "pages"), [(0, 0), (1, 1), (10, 1), (11, 2), (25, 3), (-1, None), (None, None), ("25", None)]
)
def test_the_reads_that_a_list_takes_are_counted_from_what_the_service_says(count: Any, pages: int | None) -> None:
    served = Served(lambda _: page([], count=count))
    assert served.use(lambda inventory: inventory.pages(DeviceFilter(type=4))) == pages
    assert [query(arrival) for arrival in served.asked] == [{"limit": "10", "offset": "0", "type": "4"}]


@pytest.mark.parametrize(("results", "pages"), [(4, 7), (10, 3), (25, 1)])
def test_it_is_reckoned_with_as_many_at_a_time_as_the_service_gives(results: int, pages: int) -> None:
    served = Served(lambda _: page(rows(*range(results)), NOWHERE, count=25))
    assert served.use(lambda inventory: inventory.pages()) == pages
