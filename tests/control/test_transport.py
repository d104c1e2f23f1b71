"""What the connections promise to a transport's user. Faults on the wire are in the fault matrix."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from fleetops.control.transport import OneConnectionEach, connections_to
from tests.control.scripted_server import Peer, ScriptedServer, answers, reply

CONNECTIONS = {"pool": 0.05}


def carry(server: ScriptedServer, use: Any, size: int = 2) -> Any:
    async def main() -> Any:
        transport = OneConnectionEach(connections_to(server.base_url, ssl_context=None), size)
        request = httpx.Request("GET", server.base_url, extensions={"timeout": CONNECTIONS})
        try:
            return await use(transport, request)
        finally:
            await transport.aclose()

    return anyio.run(main)


async def read(response: httpx.Response) -> bytes:
    body = await response.aread()
    await response.aclose()
    return body


saying_hello = answers(lambda _: reply("hello"))


def test_the_connection_that_was_used_last_is_used_next() -> None:
    async def use(transport: OneConnectionEach, request: httpx.Request) -> None:
        both = [await transport.handle_async_request(request) for _ in range(2)]
        for response in both:
            await read(response)
        for _ in range(5):
            assert await read(await transport.handle_async_request(request)) == b"hello"

    numbers = []

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            numbers.append(peer.number)
            peer.send(reply("hello"))

    with ScriptedServer(script) as server:
        carry(server, use)
    assert numbers[2:] == [1] * 5


def test_a_reply_that_is_not_closed_keeps_its_connection_from_others() -> None:
    async def use(transport: OneConnectionEach, request: httpx.Request) -> None:
        held = await transport.handle_async_request(request)
        with pytest.raises(httpx.PoolTimeout, match=r"within 0\.05 s"):
            await transport.handle_async_request(request)
        await held.aclose()
        await held.aclose()
        assert await read(await transport.handle_async_request(request)) == b"hello"

    with ScriptedServer(saying_hello) as server:
        carry(server, use, size=1)


def test_a_reply_that_was_not_read_to_its_end_costs_its_connection() -> None:
    async def use(transport: OneConnectionEach, request: httpx.Request) -> None:
        await (await transport.handle_async_request(request)).aclose()
        await read(await transport.handle_async_request(request))

    with ScriptedServer(saying_hello) as server:
        carry(server, use, size=1)
        assert server.connections == 2


def test_a_closed_transport_takes_no_request_and_closes_what_comes_back() -> None:
    async def use(transport: OneConnectionEach, request: httpx.Request) -> None:
        held = await transport.handle_async_request(request)
        await transport.aclose()
        assert await read(held) == b"hello"
        with pytest.raises(httpx.ConnectError, match="closed"):
            await transport.handle_async_request(request)

    with ScriptedServer(saying_hello) as server:
        carry(server, use)


def test_a_connection_that_was_idle_for_too_long_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetops.control.transport.KEEPALIVE_S", -1.0)

    async def use(transport: OneConnectionEach, request: httpx.Request) -> None:
        for _ in range(3):
            await read(await transport.handle_async_request(request))

    with ScriptedServer(saying_hello) as server:
        carry(server, use)
        assert server.connections == 3


def test_errors_are_those_of_httpx() -> None:
    async def use(transport: OneConnectionEach, request: httpx.Request) -> None:
        with pytest.raises(httpx.ReadError):
            await transport.handle_async_request(request)
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(httpx.Request("GET", request.url, headers={"X": "a\nb"}))

    def script(peer: Peer) -> None:
        peer.request()
        peer.reset()

    with ScriptedServer(script) as server:
        carry(server, use)
