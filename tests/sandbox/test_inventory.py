from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from fleetops.model import Operation
from tests.sandbox.conftest import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.sandbox.conftest import Service

    Serve = Callable[..., AbstractContextManager[Service]]


def test_a_device_is_shown_with_what_the_reference_names(service: Service) -> None:
    row = service.device()
    assert row.keys() >= {"serial_number", "name", "type", "organization", "status", "last_status_change"}
    assert (row["serial_number"], row["status"]) == (FIRST, True)
    assert row["last_status_change"].endswith("Z")
    assert isinstance(row["pending_settings"], bool)
    assert service.inventory("ZQ000000051/").status_code == 404


def test_pages_follow_each_other_both_ways(service: Service) -> None:
    pages = [service.page("?limit=20")]
    while (following := pages[-1]["next"]) is not None:
        assert following.startswith(service.url)
        pages.append(service.client.get(following).json())
    rows = [row["serial_number"] for page in pages for row in page["results"]]
    assert rows == [f"ZQ{number:09}" for number in range(1, 51)]
    assert [page["count"] for page in pages] == [50] * 3
    assert pages[0]["previous"] is None
    assert service.client.get(pages[2]["previous"]).json()["results"] == pages[1]["results"]
    assert len(service.page()["results"]) == 25


def test_a_page_that_is_past_the_end_is_empty_and_one_too_large_is_cut(serve: Serve) -> None:
    with serve(devices=600) as service:
        past = service.page("?offset=700")
        assert (past["count"], past["results"], past["next"]) == (600, [], None)
        assert len(service.page("?limit=100000")["results"]) == 500


def test_no_devices_are_an_empty_page(serve: Serve) -> None:
    with serve(devices=0) as service:
        assert service.page() == {"count": 0, "next": None, "previous": None, "results": []}


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("status=down", 1),
        ("status=false", 1),
        ("status=0", 1),
        ("status=up", 49),
        ("status=", 50),
        ("organization=3", 10),
        ("organization=3&status=true", 9),
        ("type=1", 16),
        ("type=99", 0),
        ("last_status_change_from=2000-01-01", 50),
        ("last_status_change_from=2999-01-01", 0),
        ("last_status_change_from=2999-01-01T00:00:00Z", 0),
        ("last_status_change_from=2000-01-01T00:00:00%2B02:00", 50),
        ("update_status=0", 50),
        ("something=else", 50),
    ],
)
def test_filters_leave_the_devices_that_pass_them_all(service: Service, query: str, count: int) -> None:
    service.sandbox.set_device("ZQ000000007", up=False)
    page = service.page(f"?limit=1&{query}")
    assert page["count"] == count
    assert len(page["results"]) == min(count, 1)
    if page["next"] is not None:
        assert httpx.URL(page["next"]).params["limit"] == "1"
        assert service.client.get(page["next"]).json()["count"] == count


def test_devices_with_settings_waiting_are_found_until_they_are_synchronised(serve: Serve) -> None:
    with serve(pending=0.3) as service:
        waiting = service.page("?pending=true&limit=50")
        assert 5 <= waiting["count"] <= 25
        assert service.page("?pending=false")["count"] == 50 - waiting["count"]
        service.put(waiting["results"][0]["serial_number"], "sync")
        assert service.page("?pending=true")["count"] == waiting["count"] - 1


@pytest.mark.parametrize(
    "query",
    [
        "status=maybe",
        "pending=x",
        "update_status=x",
        "type=x",
        "limit=0",
        "limit=x",
        "limit=-1",
        "offset=-1",
        "offset=" + "9" * 5000,
        "last_status_change_from=soon",
    ],
)
def test_a_filter_that_is_wrong_is_named(service: Service, query: str) -> None:
    reply = service.inventory(f"?{query}")
    assert reply.status_code == 400
    assert reply.json() == {query.partition("=")[0]: ["Enter a valid value."]}


def test_a_device_is_down_while_an_operation_runs_and_comes_back(serve: Serve) -> None:
    with serve(duration_s={Operation.FACTORY: 600.0, Operation.SYNC: 0.001}) as service:
        before = service.device()
        service.put(operation="factory")
        down = service.device()
        assert down["status"] is False
        assert down["last_status_change"] > before["last_status_change"]
        other = service.device("ZQ000000002")
        service.put("ZQ000000002", "sync")
        while not (after := service.device("ZQ000000002"))["status"]:
            pass
        assert after["last_status_change"] > other["last_status_change"]


def test_some_devices_are_offline_from_the_start_and_stay_so(serve: Serve) -> None:
    with serve(offline=0.3) as service:
        down = service.page("?status=down")
        assert 5 <= down["count"] <= 25
        serial = down["results"][0]["serial_number"]
        assert service.put(serial).status_code == 200
        assert service.device(serial)["status"] is False
