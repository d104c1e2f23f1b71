from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from fleetops.sandbox import SandboxConfig
from fleetops.sandbox.api import ControlApi
from fleetops.sandbox.log import RequestLog
from fleetops.sandbox.steering import steering
from tests.sandbox.conftest import FIRST

if TYPE_CHECKING:
    from tests.sandbox.conftest import Service


def look(service: Service, path: str) -> Any:
    return httpx.get(f"{service.root}/sandbox/{path}", verify=False).json()


def change(service: Service, path: str, content: object = None) -> httpx.Response:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(f"{service.root}/sandbox/{path}", content=raw, verify=False)


def test_the_requests_are_shown_from_a_number_on_without_the_token(service: Service) -> None:
    for _ in range(3):
        service.put()
    rows = look(service, "requests?offset=1")["requests"]
    assert [row["operation_id"] for row in rows] == [10002, 10003]
    assert rows[0].keys() >= {"at_ns", "wall_ns", "answered_ns", "connection", "method", "path", "serial", "operation"}
    assert "sandbox-token" not in json.dumps(rows)
    assert len(look(service, "requests")["requests"]) == 3
    assert look(service, "requests?offset=9")["requests"] == []


def test_the_state_is_told_in_numbers(service: Service) -> None:
    service.sandbox.set_device("ZQ000000009", up=False)
    service.put("ZQ000000009")
    service.put("none")
    service.sandbox.set_faults(f"close_before@{FIRST}", "throttle=2%:5s")
    with pytest.raises(httpx.RemoteProtocolError):
        service.put()
    state = look(service, "state")
    assert state["devices"]["total"] == 50
    assert (state["devices"]["up"], state["devices"]["down"]) == (49, 1)
    assert state["requests"]["total"] == 3
    assert state["requests"]["processed"] == 1
    assert state["requests"]["statuses"] == {"200": 1, "404": 1, "none": 1}
    assert state["requests"]["faults"] == {"close_before": 1}
    assert state["faults"] == [f"close_before@{FIRST}", "throttle=0.02:5s"]


def test_faults_the_token_and_devices_are_changed(service: Service) -> None:
    assert change(service, "faults", {"faults": ["refuse=100%"]}).json()["faults"] == ["refuse=1.0"]
    assert service.put().status_code == 400
    assert change(service, "faults", {"faults": []}).status_code == 200
    assert service.put().status_code == 200
    assert change(service, "devices", {"serial_number": FIRST, "status": False}).status_code == 200
    assert service.device()["status"] is False
    assert change(service, "token", {"token": "other"}).status_code == 200
    assert service.put().status_code == 401


def test_a_reset_makes_everything_as_at_the_start(service: Service) -> None:
    service.put()
    service.sandbox.set_device(FIRST, up=False)
    service.sandbox.set_faults("refuse=100%")
    service.sandbox.set_token("other")
    assert change(service, "reset", {}).status_code == 200
    assert service.sandbox.requests == []
    assert service.device()["status"] is True
    assert service.put().json()["id"] == 10001


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("faults", {"faults": ["trottle=2%"]}, "did you mean throttle?"),
        ("faults", {"faults": "hang=1%"}, "faults: "),
        ("faults", {"fault": []}, "faults: Field required"),
        ("faults", {"faults": [], "more": 1}, "more: "),
        ("faults", [], "object"),
        ("faults", b"{", "Invalid JSON"),
        ("faults", b"[" * 100_000, "Invalid JSON"),
        ("token", {"token": ""}, "token: "),
        ("token", {"token": 7}, "token: "),
        ("devices", {"serial_number": "x", "status": True}, "there is no device 'x'"),
        ("devices", {"serial_number": FIRST, "status": "false"}, "status: "),
        ("reset", {"now": True}, "now: "),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    service: Service, path: str, content: object, words: str
) -> None:
    service.sandbox.set_faults("hang@ZQ000000040")
    reply = change(service, path, content)
    assert reply.status_code == 400
    assert words in reply.json()["detail"]
    assert look(service, "state")["faults"] == ["hang@ZQ000000040"]


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=1"])
def test_a_query_that_is_wrong_is_refused(service: Service, query: str) -> None:
    reply = httpx.get(f"{service.root}/sandbox/requests?{query}", verify=False)
    assert reply.status_code == 400
    assert query.partition("=")[0] in reply.json()["detail"]


def test_there_is_nothing_else(service: Service) -> None:
    assert change(service, "none").status_code == 404
    assert change(service, "state").status_code == 405
    assert service.sandbox.requests == []


@pytest.mark.parametrize(
    ("client", "status"), [("192.0.2.1", 403), ("127.0.0.9", 200), ("::1", 200), ("fe80::1%1", 403)]
)
def test_only_clients_on_this_host_may_look(client: str, status: int) -> None:
    async def ask() -> int:
        transport = httpx.ASGITransport(steering(ControlApi(SandboxConfig(), RequestLog(None))), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", verify=False) as asking:
            return (await asking.get("/sandbox/state")).status_code

    assert anyio.run(ask) == status
