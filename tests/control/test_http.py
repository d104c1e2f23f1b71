"""What is sent for an operation. What comes of it is in the fault matrix."""

from __future__ import annotations

import json
import logging
import traceback
from urllib.parse import unquote

import httpx
import pytest

from fleetops.control import ClientSettings, HttpControlPlane, Token
from fleetops.errors import UsageError
from fleetops.model import OPERATIONS, Operation, Reason, Reply, ReplyKind
from fleetops.runner.event_loop import run_in_loop
from tests.control.scripted_server import ScriptedServer, accepting, answers, reply

SECRET = "s3cret-T0ken-Value"
HOSTILE = [
    "a/b",
    "..",
    ".",
    "../../admin",
    "a?x=1",
    "a#b",
    "%2F",
    "100%",
    "é中",
    "a b",
    "a\r\nX-Injected: 1",
    "\x00",
    ";",
    "//",
]


def execute(base_url: str, *asked: tuple[str, Operation]) -> list[Reply]:
    async def main() -> list[Reply]:
        control = HttpControlPlane(ClientSettings(base_url=base_url, token=Token(SECRET)))
        try:
            return [await control.execute(serial, operation) for serial, operation in asked]
        finally:
            await control.aclose()

    return run_in_loop(main)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_is_put_as_the_reference_says(operation: Operation) -> None:
    with ScriptedServer(accepting) as server:
        (got,) = execute(f"{server.base_url}/", ("ABC123", operation))
    assert got == Reply(ReplyKind.ACCEPTED, http_status=200, operation_id="7")
    (arrival,) = server.arrivals
    assert (arrival.method, arrival.target) == ("PUT", "/api/v1/inventory_device_serial_operation/ABC123/")
    assert json.loads(arrival.body) == {"operation": operation.value}


def test_a_hostile_serial_number_stays_in_its_place() -> None:
    with ScriptedServer(accepting) as server:
        replies = execute(server.base_url, *((serial, Operation.SYNC) for serial in HOSTILE))
    assert {got.kind for got in replies} == {ReplyKind.ACCEPTED}
    assert len(server.arrivals) == len(HOSTILE)
    for serial, arrival in zip(HOSTILE, server.arrivals, strict=True):
        assert arrival.target.startswith("/api/v1/inventory_device_serial_operation/")
        assert arrival.target.count("/") == 5
        assert unquote(arrival.target.split("/")[4]) == serial
        assert "x-injected" not in arrival.headers


def test_a_serial_number_too_long_for_a_url_is_not_sent() -> None:
    with ScriptedServer(accepting) as server:
        (got,) = execute(server.base_url, ("x" * 100_000, Operation.REBOOT))
    assert (got.kind, got.reason) == (ReplyKind.NOT_REACHED, Reason.UNREACHABLE)
    assert "too long" in got.detail
    assert server.connections == 0


def test_the_token_is_in_no_reply_log_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f'{{"detail": "no such token: {SECRET}"}}'
    with ScriptedServer(answers(lambda _: reply(echo, "400 Bad Request", f"X-Echo: Bearer {SECRET}"))) as server:

        async def main() -> str:
            control = HttpControlPlane(ClientSettings(base_url=server.base_url, token=Token(SECRET)))
            got = await control.execute("A", Operation.REBOOT)
            shown = f"{got!r} {control!r} {vars(control)!r} {vars(control._client)!r}"
            await control.aclose()
            return shown

        shown = run_in_loop(main)
    assert "no such token: [token]" in shown
    assert SECRET not in shown
    assert SECRET not in caplog.text


def test_settings_that_cannot_be_used_are_refused_without_showing_the_token() -> None:
    with pytest.raises(UsageError) as caught:
        HttpControlPlane(ClientSettings(base_url="http://control.example", token=Token(SECRET)))
    assert SECRET not in "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )


def test_another_transport_can_carry_the_requests() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"id": 1, **json.loads(request.content)})

    async def main() -> Reply:
        settings = ClientSettings(base_url="https://control.example", token=Token(SECRET))
        control = HttpControlPlane(settings, transport=httpx.MockTransport(answer))
        return await control.execute("A", Operation.RECONF)

    assert run_in_loop(main) == Reply(ReplyKind.ACCEPTED, http_status=200, operation_id="1")
