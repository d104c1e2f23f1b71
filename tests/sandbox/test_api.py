from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx
import pytest

from fleetops.model import Operation
from fleetops.sandbox import FAULTS, Busy
from tests.sandbox.conftest import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.sandbox.conftest import Service

    Serve = Callable[..., AbstractContextManager[Service]]

GOOD = b'{"operation": "reboot"}'


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.mark.parametrize("operation", Operation)
def test_an_operation_is_answered_with_its_id_and_its_name(service: Service, operation: Operation) -> None:
    reply = service.put(operation=operation)
    assert reply.status_code == 200
    assert reply.json() == {"id": 10001, "operation": operation}
    assert service.put(operation=operation).json()["id"] == 10002


def test_what_is_received_is_logged_with_its_times_and_without_the_token(service: Service) -> None:
    before_ns = time.monotonic_ns(), time.time_ns()
    service.put()
    [received] = service.sandbox.requests
    assert (received.method, received.path) == ("PUT", f"/api/v1/inventory_device_serial_operation/{FIRST}/")
    assert (received.serial, received.operation, received.operation_id) == (FIRST, "reboot", 10001)
    assert (received.authorised, received.processed, received.busy) == (True, True, False)
    assert (received.status, received.fault) == (200, "")
    assert received.answered_ns is not None
    assert before_ns[0] <= received.at_ns <= received.answered_ns <= time.monotonic_ns()
    assert before_ns[1] <= received.wall_ns <= time.time_ns()
    assert "sandbox-token" not in repr(received)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"operation": "reboat"}', 400),
        (b'{"operation": "REBOOT"}', 400),
        (b'{"operation": 7}', 400),
        (b'{"operation": null}', 400),
        (b'{"operation": ["reboot"]}', 400),
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe\xfd", 400),
        (b"[" * 100_000, 400),
        (b"{}", 422),
        (b"[]", 422),
        (b'"reboot"', 422),
        (b" " * (1 << 20) + GOOD, 413),
    ],
)
def test_what_is_no_operation_is_refused(service: Service, content: bytes, status: int) -> None:
    reply = service.client.put(service.operation_url(), content=content)
    assert reply.status_code == status
    assert reply.json()
    assert not service.sandbox.requests[0].processed
    assert service.put().status_code == 200


def test_the_words_of_a_refusal_are_like_those_of_the_service(service: Service) -> None:
    assert service.put(operation="reboat").json() == {"operation": ['"reboat" is not a valid choice.']}
    assert service.put("ZQ000000051").json() == {"detail": "Not found."}
    assert service.client.put(service.operation_url(), json={}).json() == {"operation": ["This field is required."]}


@pytest.mark.parametrize(
    "serial",
    ["ZQ000000051", "..%2F..", "%2e%2e%2f", "ZQ000000001%2F", "ZQ000000001%00", "%FF", "ZQ%D9%A000000001", "a" * 3000],
)
def test_a_serial_number_is_decoded_and_one_that_is_not_of_the_fleet_is_not_found(
    service: Service, serial: str
) -> None:
    assert service.put(serial).status_code == 404
    assert service.inventory(f"{serial}/").status_code == 404
    assert {received.processed for received in service.sandbox.requests} == {False}


def test_a_percent_encoded_serial_number_is_that_of_its_device(service: Service) -> None:
    assert service.put("%5A%51000000001").status_code == 200
    assert service.sandbox.requests[0].serial == FIRST
    service.put("A%2FB%20%C3%A9")
    assert service.sandbox.requests[1].serial == "A/B \u00e9"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/inventory_device_serial_operation/",
        f"/inventory_device_serial_operation/{FIRST}/more/",
        f"/inventory_device_serial_operation/{FIRST}//",
        f"/inventory_device_serial_operation//{FIRST}/",
        f"/inventory_device_serial/{FIRST}/more/",
        f"/inventory_device_serial_operationX/{FIRST}/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_there_is_nothing_at_other_paths(service: Service, method: str, path: str) -> None:
    assert service.client.request(method, f"{service.url}{path}", content=GOOD).status_code == 404
    assert not service.sandbox.requests[0].processed


@pytest.mark.parametrize(
    ("path", "location"),
    [
        (f"inventory_device_serial_operation/{FIRST}", f"inventory_device_serial_operation/{FIRST}/"),
        (f"inventory_device_serial/{FIRST}", f"inventory_device_serial/{FIRST}/"),
        ("inventory_device_serial?limit=3", "inventory_device_serial/?limit=3"),
    ],
)
def test_a_path_without_its_slash_is_redirected_whoever_asks(service: Service, path: str, location: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        reply = service.client.put(f"{service.url}/{path}", content=GOOD, headers=headers)
        assert reply.status_code == 301
        assert reply.headers["Location"] == f"/api/v1/{location}"
    assert not any(received.processed for received in service.sandbox.requests)


def test_other_methods_are_refused(service: Service) -> None:
    reply = service.client.post(service.operation_url(), content=GOOD)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "PUT")
    reply = service.client.delete(f"{service.url}/inventory_device_serial/")
    assert (reply.status_code, reply.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "Authentication credentials were not provided."),
        ("Bearer wrong", "Invalid token."),
        ("bearer sandbox-token", "Invalid token."),
        ("sandbox-token", "Invalid token."),
    ],
)
def test_without_the_token_nothing_is_done_or_shown(service: Service, given: str, words: str) -> None:
    headers = {"Authorization": given}
    for reply in (
        service.client.put(service.operation_url(), content=GOOD, headers=headers),
        service.client.get(f"{service.url}/inventory_device_serial/", headers=headers),
        service.client.get(f"{service.url}/inventory_device_serial/{FIRST}/", headers=headers),
    ):
        assert (reply.status_code, reply.json()) == (401, {"detail": words})
    assert [received.authorised for received in service.sandbox.requests] == [False] * 3


@pytest.mark.parametrize(
    ("busy", "statuses"),
    [
        (Busy.ACCEPT, [200, 200]),
        (Busy.QUEUE, [200, 200]),
        (Busy.CONFLICT, [200, 409]),
        (Busy.UNPROCESSABLE, [200, 422]),
    ],
)
def test_an_operation_on_a_busy_device_is_answered_as_configured(serve: Serve, busy: Busy, statuses: list[int]) -> None:
    with serve(busy=busy, duration_s=dict.fromkeys(Operation, 60.0)) as service:
        assert [service.put().status_code for _ in range(2)] == statuses
        assert [received.busy for received in service.sandbox.requests] == [False, True]
        assert [received.processed for received in service.sandbox.requests] == [status == 200 for status in statuses]


def test_a_fault_that_a_busy_device_would_meet_gives_way_to_its_refusal(serve: Serve) -> None:
    with serve(busy=Busy.CONFLICT, duration_s=dict.fromkeys(Operation, 60.0)) as service:
        service.put()
        service.sandbox.set_faults("close_after=100%")
        assert service.put().status_code == 409
        assert service.sandbox.requests[1].fault == ""


ANSWERED = {
    "throttle": 429,
    "throttle_date": 429,
    "throttle_bare": 429,
    "error_500": 500,
    "bad_gateway": 502,
    "unavailable": 503,
    "gateway_timeout": 504,
    "redirect": 302,
    "not_found": 404,
    "refuse": 400,
    "forbid": 403,
    "slow": 200,
    "bad_json": 200,
    "wrong_operation": 200,
    "oversized": 200,
    "drip": 200,
    "revoke_token": 401,
}
BROKEN = {
    "close_before": (False, httpx.RemoteProtocolError, "without sending a response"),
    "close_after": (True, httpx.RemoteProtocolError, "without sending a response"),
    "reset": (True, httpx.ReadError, "reset"),
    "truncated": (True, httpx.RemoteProtocolError, "without sending complete message body"),
    "hang": (False, httpx.ReadTimeout, ""),
    "hang_after": (True, httpx.ReadTimeout, ""),
}
TIMED = {"slow": ":1ms", "drip": ":1ms"}


def test_every_fault_is_tried_here() -> None:
    assert FAULTS.keys() == ANSWERED.keys() | BROKEN.keys()


@pytest.mark.parametrize(("kind", "status"), ANSWERED.items())
def test_a_fault_that_is_an_answer_has_its_status(service: Service, kind: str, status: int) -> None:
    service.sandbox.set_faults(f"{kind}@{FIRST}{TIMED.get(kind, '')}")
    reply = service.put()
    assert reply.status_code == status
    received = service.sandbox.requests[0]
    assert (received.status, received.fault) == (status, "" if kind == "revoke_token" else kind)
    assert received.processed is (status in {200, 504})
    assert received.authorised is (kind != "revoke_token")
    assert service.put("ZQ000000002").status_code == 200


def test_the_connection_of_a_dripping_reply_is_not_used_again(service: Service) -> None:
    service.sandbox.set_faults("drip=100%:0s")
    assert [service.put().status_code for _ in range(20)] == [200] * 20


def test_throttling_says_how_long_in_seconds_or_as_a_date_or_not_at_all(service: Service) -> None:
    service.sandbox.set_faults("throttle=100%:7s")
    assert service.put().headers["Retry-After"] == "7"
    service.sandbox.set_faults("throttle_date=100%:100s")
    ahead_s = parsedate_to_datetime(service.put().headers["Retry-After"]).timestamp() - time.time()
    assert 90 < ahead_s <= 101
    service.sandbox.set_faults("throttle_bare=100%")
    assert "Retry-After" not in service.put().headers


@pytest.mark.parametrize("kind", ["error_500", "bad_gateway", "unavailable", "gateway_timeout"])
def test_a_proxy_answers_in_html(service: Service, kind: str) -> None:
    service.sandbox.set_faults(f"{kind}=100%")
    reply = service.put()
    assert reply.headers["Content-Type"] == "text/html"
    assert reply.text.startswith("<html>")
    assert "Retry-After" not in reply.headers


def test_an_unavailable_service_may_say_for_how_long(service: Service) -> None:
    service.sandbox.set_faults("unavailable=100%:30s")
    assert service.put().headers["Retry-After"] == "30"


def test_replies_that_cannot_be_right(service: Service) -> None:
    service.sandbox.set_faults("bad_json=100%")
    with pytest.raises(json.JSONDecodeError):
        service.put().json()
    service.sandbox.set_faults("wrong_operation=100%")
    assert [service.put(operation=name).json()["operation"] for name in ("reboot", "sync")] == ["sync", "reboot"]
    service.sandbox.set_faults("oversized=100%")
    assert len(service.put().content) > 4 << 20
    service.sandbox.set_faults("redirect=100%")
    assert service.put().headers["Location"].startswith("https://")


@pytest.mark.parametrize(("kind", "expected"), BROKEN.items())
def test_a_fault_below_http_breaks_the_connection(
    service: Service, kind: str, expected: tuple[bool, type[Exception], str]
) -> None:
    processed, error, words = expected
    service.sandbox.set_faults(f"{kind}@{FIRST}")
    service.client.timeout = httpx.Timeout(0.15)
    with pytest.raises(error) as raised:
        service.put()
    assert words in str(raised.value)
    received = service.sandbox.requests[0]
    assert (received.fault, received.processed) == (kind, processed)
    assert received.status == (200 if kind in {"reset", "truncated"} else None)
    assert (received.answered_ns is None) is (received.status is None)
    service.client.timeout = httpx.Timeout(5)
    assert service.put("ZQ000000002").status_code == 200


def test_a_fault_below_http_is_met_behind_a_proxy_as_well(service: Service) -> None:
    service.sandbox.set_faults("close_after=100%")
    with pytest.raises(httpx.RemoteProtocolError):
        service.client.put(service.operation_url(), content=GOOD, headers={"X-Forwarded-For": "192.0.2.1"})


def test_a_reply_breaks_off_within_its_body(service: Service) -> None:
    service.sandbox.set_faults("truncated=100%")
    with service.client.stream("PUT", service.operation_url(), content=GOOD) as reply:
        assert reply.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            reply.read()


def test_a_slow_request_is_noted_before_it_is_answered(service: Service) -> None:
    service.sandbox.set_faults("slow=100%:60s")
    service.client.timeout = httpx.Timeout(0.05)
    with pytest.raises(httpx.ReadTimeout):
        service.put()
    [received] = service.sandbox.requests
    assert (received.processed, received.status, received.answered_ns) == (True, 200, None)


def test_whoever_leaves_a_dripping_reply_does_not_disturb_it(service: Service) -> None:
    service.sandbox.set_faults(f"drip@{FIRST}:2ms")
    port = int(service.root.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        head = f"PUT {service.operation_url().removeprefix(service.root)} HTTP/1.1\r\nHost: x\r\n"
        raw.sendall(f"{head}Authorization: Bearer sandbox-token\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
        assert raw.recv(1) == b"H"
    assert service.put("ZQ000000002").status_code == 200


def test_a_request_that_never_ends_is_not_received(service: Service) -> None:
    port = int(service.root.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"PUT /api/v1/inventory_device_serial/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf")
    assert service.put().status_code == 200
    assert len(service.sandbox.requests) == 1


def test_a_fault_of_so_many_times_is_over_then(service: Service) -> None:
    service.sandbox.set_faults(f"unavailable@{FIRST}:2x")
    assert [service.put().status_code for _ in range(3)] == [503, 503, 200]


def test_chance_gives_the_same_faults_for_the_same_seed(serve: Serve) -> None:
    def statuses(seed: int) -> list[int]:
        with serve(seed=seed) as service:
            service.sandbox.set_faults("refuse=30%")
            return [service.put(f"ZQ{number:09}").status_code for number in itertools.chain(range(1, 30), range(1, 10))]

    first = statuses(7)
    assert first == statuses(7) != statuses(8)
    assert 2 < Counter(first)[400] < 25


def test_a_revoked_token_is_refused_by_everything_from_then_on(service: Service) -> None:
    service.sandbox.set_faults("revoke_token=3")
    assert [service.put().status_code, service.inventory().status_code] == [200, 200]
    assert [service.put().status_code for _ in range(3)] == [200, 401, 401]
    assert service.inventory().status_code == 401
    service.sandbox.set_faults()
    assert service.put().status_code == 200


def test_a_server_that_takes_so_many_requests_a_second_throttles_the_rest(serve: Serve) -> None:
    with serve(throttle_per_s=3) as service:
        replies = [service.put() for _ in range(12)]
        assert [reply.status_code for reply in replies[:3]] == [200, 200, 200]
        refused = [reply for reply in replies if reply.status_code == 429]
        assert refused
        assert {reply.headers["Retry-After"] for reply in refused} == {"1"}
        until(lambda: service.put().status_code == 200)


@pytest.mark.parametrize("latency_s", [0.05, (0.05, 0.06)])
def test_a_reply_takes_its_time_and_a_probe_of_the_devices_takes_it_twice(
    serve: Serve, latency_s: float | tuple[float, float]
) -> None:
    with serve(latency_s=latency_s) as service:
        service.put()
        assert service.inventory("?update_status=1").status_code == 200
        took_ns = [(received.answered_ns or 0) - received.at_ns for received in service.sandbox.requests]
        assert took_ns[0] >= 50_000_000
        assert took_ns[1] >= 100_000_000


def test_many_requests_at_once_are_all_answered(service: Service) -> None:
    statuses: list[int] = []

    def ask(number: int) -> None:
        with httpx.Client(headers=service.client.headers, verify=False) as client:
            url = service.operation_url(f"ZQ{number:09}")
            statuses.extend(client.put(url, json={"operation": "sync"}).status_code for _ in range(5))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40
    assert len({received.operation_id for received in service.sandbox.requests}) == 40
    assert len({received.connection for received in service.sandbox.requests}) == 8
