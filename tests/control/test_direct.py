"""What the transport promises to its user, and that it agrees with httpx's own. Faults are in the fault matrix."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest
from hypothesis import assume, example, given, settings

from fleetops.control.direct import DirectTransport, Timeouts, header_block
from fleetops.runner.event_loop import LOOP_VARIABLE, run_in_loop
from tests.control.replies import REPLIES
from tests.control.scripted_server import Peer, ScriptedServer, answers, reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Making the usual one takes longer than a request."""

saying_hello = answers(lambda _: reply("hello"))


def carry(
    server: ScriptedServer, use: Callable[[DirectTransport, str], Awaitable[Any]], size: int = 2, **options: Any
) -> Any:
    async def main() -> Any:
        transport = DirectTransport(server.base_url, size, **options)
        try:
            return await use(transport, server.base_url)
        finally:
            await transport.aclose()

    return run_in_loop(main)


async def get(transport: DirectTransport, url: str, **options: Any) -> httpx.Response:
    response = await transport.handle_async_request(httpx.Request("GET", url, **options))
    await response.aread()
    return response


class TestBesideHttpx:
    """Where both understand a reply they agree on it, and what httpx refuses is refused."""

    @pytest.fixture(scope="class")
    @staticmethod
    def server() -> Iterator[tuple[ScriptedServer, list[bytes]]]:
        now = [b""]

        def script(peer: Peer) -> None:
            peer.request()
            peer.send(now[0])
            peer.sock.shutdown(socket.SHUT_WR)
            peer.wait_closed()

        with ScriptedServer(script) as server:
            yield server, now

    @staticmethod
    async def _outcome(transport: httpx.AsyncBaseTransport, url: str) -> tuple[Any, ...]:
        async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
            try:
                response = await client.put(url, json={"operation": "reboot"})
            except (httpx.TransportError, httpx.DecodingError) as error:
                return (type(error),)
            # h11 gives names, and the transfer coding, in lower case.
            headers = [(name.lower(), value.lower()) for name, value in response.headers.raw]
            return response.status_code, headers, response.content

    @settings(deadline=None, max_examples=250, derandomize=True)
    @given(sent=REPLIES)
    @example(sent=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    @example(sent=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    @example(sent=b"HTTP/1.1 200 OK\r\n\r\nhello")
    @example(sent=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    @example(sent=b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello")
    def test_a_reply_means_the_same_or_is_refused(
        self, server: tuple[ScriptedServer, list[bytes]], sent: bytes
    ) -> None:
        # llhttp overlooks empty lines between an interim reply and what follows.
        assume(not re.search(rb"\r\n\r\n[\r\n]", sent))
        served, now = server
        now[0] = sent

        async def both() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            ours = await self._outcome(DirectTransport(served.base_url, 1), served.base_url)
            return ours, await self._outcome(httpx.AsyncHTTPTransport(verify=NO_TLS), served.base_url)

        ours, theirs = run_in_loop(both)
        if len(ours) > 1:
            assert ours == theirs
        else:
            assert ours[0] in {httpx.RemoteProtocolError, httpx.DecodingError}

    @pytest.mark.parametrize(
        "sent",
        [
            reply("hello"),
            reply("hello", "404 Not Found", "X-A: 1", "X-A: 2"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply("hello"),
        ],
    )
    def test_what_is_well_formed_is_understood_by_both(
        self, server: tuple[ScriptedServer, list[bytes]], sent: bytes
    ) -> None:
        served, now = server
        now[0] = sent

        async def both() -> None:
            ours = await self._outcome(DirectTransport(served.base_url, 1), served.base_url)
            assert ours == await self._outcome(httpx.AsyncHTTPTransport(verify=NO_TLS), served.base_url)
            assert len(ours) > 1

        run_in_loop(both)


class TestUse:
    def test_it_serves_a_client_of_httpx(self) -> None:
        async def use(transport: DirectTransport, url: str) -> None:
            async with httpx.AsyncClient(transport=transport) as client:
                assert (await client.get(url)).text == "hello"
                assert (await client.post(url, content=stream())).text == "hello"
                async with client.stream("PUT", url, json={}) as response:
                    assert [chunk async for chunk in response.aiter_bytes()] == [b"hello"]

        async def stream() -> Any:
            yield b"in "
            yield b"pieces"

        with ScriptedServer(saying_hello) as server:
            carry(server, use)
        assert server.connections == 1
        assert [arrival.body for arrival in server.arrivals] == [b"", b"in pieces", b"{}"]
        assert server.arrivals[1].headers["content-length"] == "9"
        assert "transfer-encoding" not in server.arrivals[1].headers
        assert "content-length" not in server.arrivals[0].headers

    def test_the_connection_that_was_used_last_is_used_next(self) -> None:
        numbers = []

        def script(peer: Peer) -> None:
            while True:
                peer.request()
                numbers.append(peer.number)
                peer.send(reply("hello"))

        async def use(transport: DirectTransport, url: str) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(get, transport, url)
            numbers.clear()
            for _ in range(5):
                await get(transport, url)

        with ScriptedServer(script) as server:
            carry(server, use)
            assert server.connections == 2
        assert len(set(numbers)) == 1

    def test_a_connection_that_was_idle_for_too_long_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fleetops.control.direct.KEEPALIVE_S", -1.0)

        async def use(transport: DirectTransport, url: str) -> None:
            for _ in range(3):
                await get(transport, url)

        with ScriptedServer(saying_hello) as server:
            carry(server, use)
            assert server.connections == 3

    def test_the_reply_to_a_head_request_has_no_body_and_ends_its_connection(self) -> None:
        async def use(transport: DirectTransport, url: str) -> None:
            for _ in range(2):
                response = await transport.handle_async_request(httpx.Request("HEAD", url))
                assert (response.headers["content-length"], await response.aread()) == ("5", b"")

        with ScriptedServer(answers(lambda _: reply("hello").removesuffix(b"hello"))) as server:
            carry(server, use)
            assert server.connections == 2

    def test_a_closed_transport_takes_no_request_and_closes_what_comes_back(self) -> None:
        closing = threading.Event()

        def script(peer: Peer) -> None:
            peer.request()
            closing.wait()
            peer.send(reply("hello"))
            peer.wait_closed()

        async def use(transport: DirectTransport, url: str) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(get, transport, url)
                while not server.arrivals:  # noqa: ASYNC110 - it happens in another thread
                    await anyio.sleep(0.001)
                tasks.start_soon(transport.aclose)
                await anyio.sleep(0.001)
                closing.set()
            with pytest.raises(httpx.ConnectError, match="closed"):
                await get(transport, url)

        with ScriptedServer(script) as server:
            carry(server, use)
            server.wait_for_scripts()


class TestBeforeAnythingWasSent:
    @pytest.mark.parametrize(
        ("method", "path", "headers"),
        [
            ("GET", "/", {"X": "a\nb"}),
            ("GET", "/", {"X": "a\rb"}),
            ("GET", "/", {"X": " a"}),
            ("GET", "/", {"X y": "a"}),
            ("GE T", "/", {}),
            ("", "/", {}),
            ("CONNECT", "/", {}),
            ("GET", f"/{'x' * 65000}?{'y' * 500}{'z' * 36}", {}),
        ],
    )
    def test_what_cannot_be_sent_is_refused(self, method: str, path: str, headers: dict[str, str]) -> None:
        async def use(transport: DirectTransport, url: str) -> None:
            request = httpx.Request(method, httpx.URL(url).copy_with(raw_path=path.encode()), headers=headers)
            with pytest.raises(httpx.LocalProtocolError):
                await transport.handle_async_request(request)

        with ScriptedServer(saying_hello) as server:
            carry(server, use)
            assert server.connections == 0

    @pytest.mark.parametrize("target", [b"", b"x", b"/ x", b"/\r\nX: y", b"/\xff", b"/\x00"])
    def test_a_target_that_is_not_one_is_refused(self, target: bytes) -> None:
        async def use(transport: DirectTransport, _: str) -> None:
            with pytest.raises(httpx.LocalProtocolError):
                await transport.exchange("GET", target, header_block([(b"Host", b"x")]), None)

        with ScriptedServer(saying_hello) as server:
            carry(server, use)
            assert server.connections == 0

    @pytest.mark.parametrize("other", ["http://127.0.0.1:9/", "https://127.0.0.1/", "http://localhost/", "ftp://x/"])
    def test_another_origin_is_refused(self, other: str) -> None:
        async def use(transport: DirectTransport, _: str) -> None:
            with pytest.raises(httpx.UnsupportedProtocol):
                await get(transport, other)

        with ScriptedServer(saying_hello) as server:
            carry(server, use)

    def test_no_connection_became_free(self) -> None:
        async def use(transport: DirectTransport, url: str) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(get, transport, url)
                await anyio.sleep(0.02)
                with pytest.raises(httpx.PoolTimeout, match=r"within 0\.05 s"):
                    await get(transport, url, extensions={"timeout": {"pool": 0.05}})
                tasks.cancel_scope.cancel()

        with ScriptedServer(Peer.wait_closed) as server:
            carry(server, use, size=1)

    def test_a_service_that_speaks_before_it_is_asked_is_not_asked(self) -> None:
        def script(peer: Peer) -> None:
            peer.send(reply("hello"))
            peer.wait_closed()

        async def use(transport: DirectTransport, _: str) -> None:
            wire = await transport._connect(5.0)
            while wire.usable:  # noqa: ASYNC110 - it is the service's doing
                await anyio.sleep(0.001)
            with pytest.raises(httpx.ConnectError, match="before anything was sent"):
                await wire.ask(b"x", most_bytes=10)

        with ScriptedServer(script) as server:
            carry(server, use)
            server.wait_for_scripts()

    def test_a_write_that_fails_as_a_whole_sent_nothing(self) -> None:
        connected = threading.Event()

        def script(peer: Peer) -> None:
            assert connected.wait(5)
            peer.reset()

        async def use(transport: DirectTransport, _: str) -> None:
            wire = await transport._connect(5.0)
            connected.set()
            # The loop has not seen the reset yet, only the socket has.
            while wire.quiet():
                pass
            with pytest.raises(httpx.ConnectError, match="before anything was sent"):
                await wire.ask(b"x", most_bytes=10)

        with ScriptedServer(script) as server:
            carry(server, use)
            assert server.arrivals == []

    def test_the_next_address_is_tried_where_one_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def found(_: object, port: int, *__: object, **___: object) -> Any:
            addresses = [("127.0.0.2", 1), ("127.0.0.1", port)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        async def use(transport: DirectTransport, url: str) -> None:
            for _ in range(2):
                assert (await get(transport, url, headers={"Connection": "close"})).text == "hello"

        def script(peer: Peer) -> None:
            peer.request()
            peer.send(reply("hello", "200 OK", "Connection: close"))

        with ScriptedServer(script) as server:
            monkeypatch.setattr(socket, "getaddrinfo", found)
            carry(server, use)
            assert server.connections == 2


class TestOnceSomethingWasSent:
    def test_each_request_may_have_a_deadline_of_its_own(self) -> None:
        async def use(transport: DirectTransport, url: str) -> None:
            for read_s in (0.05, 0.02, 0.05):
                with pytest.raises(httpx.ReadTimeout):
                    await get(transport, url, extensions={"timeout": {"read": read_s}})

        with ScriptedServer(Peer.wait_closed) as server:
            carry(server, use)

    def test_a_deadline_moves_with_each_request_on_a_connection(self) -> None:
        async def use(transport: DirectTransport, url: str) -> None:
            timeouts: list[float | None] = [0.05, None, 5.0, 0.05]
            for read_s in timeouts:
                await anyio.sleep(0.03)
                assert (await get(transport, url, extensions={"timeout": {"read": read_s}})).text == "hello"
            await anyio.sleep(0.06)
            assert (await get(transport, url)).text == "hello"

        with ScriptedServer(saying_hello) as server:
            carry(server, use, timeouts=Timeouts(None, None, None))
            assert server.connections == 1

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_a_reply_that_came_while_the_event_loop_was_held_up_is_read_though_its_time_is_up(
        self, loop: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(LOOP_VARIABLE, loop)
        asked, held_up, answered = threading.Event(), threading.Event(), threading.Event()

        def script(peer: Peer) -> None:
            peer.request()
            asked.set()
            held_up.wait(10)
            peer.send(reply("hello"))
            answered.set()

        async def hold_up() -> None:
            await anyio.to_thread.run_sync(asked.wait)
            held_up.set()
            answered.wait(10)  # noqa: ASYNC210, RUF100 - that is what holds it up
            deadline_s = time.monotonic() + 0.2
            while time.monotonic() < deadline_s:
                pass

        async def use(transport: DirectTransport, url: str) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold_up)
                assert (await get(transport, url, extensions={"timeout": {"read": 0.15}})).text == "hello"

        with ScriptedServer(script) as server:
            carry(server, use)

    def test_a_reply_that_overtakes_its_request_ends_the_connection(self) -> None:
        looked = threading.Event()

        def script(peer: Peer) -> None:
            peer.first_byte()
            peer.send(reply("too early", "413 Content Too Large"))
            looked.wait(10)
            peer.wait_closed()

        async def use(transport: DirectTransport, url: str) -> None:
            response = await transport.handle_async_request(
                httpx.Request("PUT", url, content=b"x" * 30_000_000, extensions={"timeout": {"read": 5.0}})
            )
            assert (response.status_code, await response.aread()) == (413, b"too early")
            assert transport._idle == []
            looked.set()

        with ScriptedServer(script) as server:
            carry(server, use)

    def test_a_body_that_breaks_off_is_an_error_where_it_is_read(self) -> None:
        def script(peer: Peer) -> None:
            peer.request()
            peer.send(reply("hello").removesuffix(b"o"))

        async def use(transport: DirectTransport, url: str) -> None:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            assert response.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError, match="closed"):
                await response.aread()

        with ScriptedServer(script) as server:
            carry(server, use)
