from __future__ import annotations

import json
import socket
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx
import pytest

from fleetops.errors import HostError
from fleetops.model import Operation
from fleetops.sandbox import Busy, Sandbox, SandboxConfig, sandbox_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATION = "/inventory_device_serial_operation/"
FIRST = "ZQ000000001"


class Service:
    """A sandbox, and a client that has its token."""

    def __init__(self, base_url: str, sandbox: Sandbox) -> None:
        self.url = base_url
        self.sandbox = sandbox
        # Plain HTTP: certificates that are not loaded save a third of a second.
        self.client = httpx.Client(headers={"Authorization": "Bearer sandbox-token"}, timeout=2, verify=False)

    def put(self, serial: str = FIRST, operation: str = "reboot") -> httpx.Response:
        return self.client.put(f"{self.url}{OPERATION}{serial}/", json={"operation": operation})

    def page(self, query: str = "") -> dict[str, object]:
        found: dict[str, object] = self.client.get(f"{self.url}/inventory_device_serial/{query}").json()
        return found


def serve(**settings: object) -> Iterator[Service]:
    with sandbox_thread(SandboxConfig(**{"devices": 50, **settings})) as (base_url, sandbox):  # type: ignore[arg-type]
        service = Service(base_url, sandbox)
        yield service
        service.client.close()


@pytest.fixture
def service() -> Iterator[Service]:
    yield from serve()


@pytest.mark.parametrize("operation", Operation)
def test_an_operation_is_answered_with_its_id_and_its_name(service: Service, operation: Operation) -> None:
    reply = service.put(operation=operation)
    assert reply.status_code == 200
    assert reply.json() == {"id": 10001, "operation": operation}
    assert service.sandbox.requests[0].processed


@pytest.mark.parametrize(
    ("content", "status"),
    [(b'{"operation": "reboat"}', 400), (b"{", 400), (b"{}", 422), (b"[]", 422), (b'{"operation": 7}', 400)],
)
def test_what_is_no_operation_is_refused(service: Service, content: bytes, status: int) -> None:
    assert service.client.put(f"{service.url}{OPERATION}{FIRST}/", content=content).status_code == status
    assert not service.sandbox.requests[0].processed


def test_other_devices_tokens_methods_and_paths_are_refused(service: Service) -> None:
    assert service.put("ZQ000000051").status_code == 404
    assert service.put("..%2f..").status_code == 404
    without_slash = service.client.put(f"{service.url}{OPERATION}{FIRST}", json={"operation": "reboot"})
    assert without_slash.status_code == 301
    assert without_slash.headers["Location"].endswith(f"{FIRST}/")
    assert service.client.post(f"{service.url}{OPERATION}{FIRST}/").status_code == 405
    assert service.client.get(service.url).status_code == 404
    service.client.headers["Authorization"] = "Bearer wrong"
    assert service.put().status_code == 401
    assert service.client.get(f"{service.url}/inventory_device_serial/").status_code == 401


def test_a_device_is_down_while_an_operation_runs_and_comes_back() -> None:
    for service in serve(duration_s=dict.fromkeys(Operation, 0.2)):
        before = service.client.get(f"{service.url}/inventory_device_serial/{FIRST}/").json()
        assert before["status"] is True
        service.put()
        down = service.client.get(f"{service.url}/inventory_device_serial/{FIRST}/").json()
        assert down["status"] is False
        assert down["last_status_change"] > before["last_status_change"]
        deadline_s = time.monotonic() + 5
        while not (after := service.client.get(f"{service.url}/inventory_device_serial/{FIRST}/").json())["status"]:
            assert time.monotonic() < deadline_s
        assert after["last_status_change"] > down["last_status_change"]


@pytest.mark.parametrize(
    ("busy", "statuses"),
    [
        (Busy.ACCEPT, [200, 200]),
        (Busy.QUEUE, [200, 200]),
        (Busy.CONFLICT, [200, 409]),
        (Busy.UNPROCESSABLE, [200, 422]),
    ],
)
def test_an_operation_on_a_busy_device_is_answered_as_configured(busy: Busy, statuses: list[int]) -> None:
    for service in serve(busy=busy, duration_s=dict.fromkeys(Operation, 60.0)):
        assert [service.put().status_code for _ in range(2)] == statuses
        assert [received.busy for received in service.sandbox.requests] == [False, True]


def test_the_inventory_pages_and_filters(service: Service) -> None:
    first = service.page("?limit=20")
    assert first["count"] == 50
    assert first["previous"] is None
    second = service.client.get(str(first["next"])).json()
    third = service.client.get(second["next"]).json()
    assert third["next"] is None
    rows = [row["serial_number"] for page in (first, second, third) for row in page["results"]]  # type: ignore[union-attr]
    assert rows == [f"ZQ{number:09}" for number in range(1, 51)]
    service.sandbox.set_device("ZQ000000007", up=False)
    assert service.page("?status=down")["count"] == 1
    assert service.page("?status=true&organization=3")["count"] == 9
    assert service.page("?type=1&limit=1")["count"] == 16
    assert service.page("?pending=true")["count"] == 0
    assert service.page("?last_status_change_from=2000-01-01")["count"] == 50
    assert service.page("?last_status_change_from=2999-01-01T00:00:00Z")["count"] == 0
    for query in ("?status=maybe", "?limit=0", "?limit=x", "?offset=-1", "?last_status_change_from=soon"):
        assert service.client.get(f"{service.url}/inventory_device_serial/{query}").status_code == 400


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
    "slow": 200,
    "bad_json": 200,
    "wrong_operation": 200,
    "oversized": 200,
}


@pytest.mark.parametrize(("kind", "status"), ANSWERED.items())
def test_a_fault_that_is_an_answer_has_its_status(service: Service, kind: str, status: int) -> None:
    service.sandbox.set_faults(f"{kind}=100%:10ms")
    reply = service.put()
    assert reply.status_code == status
    assert service.sandbox.requests[0].fault == kind
    assert service.sandbox.requests[0].processed is (status in {200, 504})
    if kind == "throttle_date":
        assert parsedate_to_datetime(reply.headers["Retry-After"]).tzinfo is not None
    if kind == "bad_json":
        with pytest.raises(json.JSONDecodeError):
            reply.json()
    if kind == "wrong_operation":
        assert reply.json()["operation"] == "sync"
    if status in {500, 502, 503, 504}:
        assert reply.text.startswith("<html>")


@pytest.mark.parametrize(
    ("kind", "processed", "error"),
    [
        ("close_before", False, httpx.RemoteProtocolError),
        ("close_after", True, httpx.RemoteProtocolError),
        ("reset", True, httpx.ReadError),
        ("truncated", True, httpx.RemoteProtocolError),
        ("hang", False, httpx.ReadTimeout),
        ("hang_after", True, httpx.ReadTimeout),
    ],
)
def test_a_fault_below_http_breaks_the_connection(
    service: Service, kind: str, processed: bool, error: type[Exception]
) -> None:
    service.sandbox.set_faults(f"{kind}@{FIRST}")
    service.client.timeout = httpx.Timeout(0.3)
    with pytest.raises(error):
        service.put()
    assert service.sandbox.requests[0].processed is processed
    assert service.put("ZQ000000002").status_code == 200


def test_a_dripping_reply_comes_in_the_end(service: Service) -> None:
    service.sandbox.set_faults(f"drip@{FIRST}:100ms")
    service.sandbox.set_faults("drip=100%:1ms")
    assert service.put().json()["operation"] == "reboot"


def test_a_token_is_revoked_after_so_many_requests(service: Service) -> None:
    service.sandbox.set_faults("revoke_token=2")
    assert [service.put().status_code for _ in range(4)] == [200, 200, 401, 401]


def test_a_server_that_takes_so_many_requests_a_second_throttles_the_rest() -> None:
    for service in serve(throttle_per_s=3):
        statuses = [service.put(f"ZQ{number:09}").status_code for number in range(1, 8)]
        assert statuses[:3] == [200, 200, 200]
        assert 429 in statuses


def test_tests_can_look_and_change_over_http(service: Service) -> None:
    root = service.url.removesuffix("/api/v1")
    service.put()
    service.put()
    rows = service.client.get(f"{root}/sandbox/requests?offset=1").json()["requests"]
    assert [row["operation_id"] for row in rows] == [10002]
    assert "sandbox-token" not in json.dumps(rows)
    assert service.client.post(f"{root}/sandbox/faults", json={"faults": ["refuse=100%"]}).status_code == 200
    assert service.put().status_code == 400
    assert service.client.post(f"{root}/sandbox/token", json={"token": "other"}).status_code == 200
    assert service.put().status_code == 401
    changed = service.client.post(f"{root}/sandbox/devices", json={"serial_number": FIRST, "status": False})
    assert changed.status_code == 200
    for path, body in (("faults", {"faults": ["x"]}), ("devices", {"serial_number": "x", "status": 1}), ("token", [])):
        assert service.client.post(f"{root}/sandbox/{path}", json=body).status_code == 400


def test_the_log_file_has_a_line_for_each_request_and_is_added_to(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    for _ in range(2):
        for service in serve(log=log):
            service.put()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["serial"] for line in lines] == [FIRST, FIRST]
    assert log.stat().st_mode & 0o077 == 0


def test_some_devices_are_offline_from_the_start_and_stay_so() -> None:
    for service in serve(offline=0.3):
        down = service.page("?status=down")
        assert 5 <= int(str(down["count"])) <= 25
        serial = down["results"][0]["serial_number"]  # type: ignore[index]
        assert service.put(serial).status_code == 200
        assert service.client.get(f"{service.url}/inventory_device_serial/{serial}/").json()["status"] is False


def test_a_port_that_is_taken_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sandbox = Sandbox(SandboxConfig(port=taken.getsockname()[1]))
        with pytest.raises(HostError, match="cannot listen on port"):
            sandbox._listen()


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written"):
        Sandbox(SandboxConfig(log=tmp_path / "none" / "log"))


def test_many_requests_at_once_are_all_answered(service: Service) -> None:
    statuses: list[int] = []

    def ask(number: int) -> None:
        with httpx.Client(headers=service.client.headers, verify=False) as client:
            url = f"{service.url}{OPERATION}ZQ{number:09}/"
            statuses.extend(client.put(url, json={"operation": "sync"}).status_code for _ in range(5))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40
    assert len({received.operation_id for received in service.sandbox.requests}) == 40
