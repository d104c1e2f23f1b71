"""What one request comes to under every fault, over real sockets; and that it is never sent twice."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import trustme

from fleetops.control import ClientSettings, HttpControlPlane, Token
from fleetops.model import OPERATIONS, Operation, Reason, Reply, ReplyKind
from fleetops.runner.event_loop import run_in_loop
from tests.control.faults import FAULTS, LONGEST_BODY, SECRET, Fault, sends
from tests.control.scripted_server import Peer, ScriptedServer, accepting, answers, reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.control.scripted_server import Script

pytestmark = pytest.mark.usefixtures("each_transport")

SERIAL = "ABC123456789"
READ_TIMEOUT_S = 0.15


def settings(base_url: str, *, times_out: bool = False, **changes: Any) -> ClientSettings:
    chosen = {"concurrency": 8, "connect_timeout_s": 5.0, "read_timeout_s": READ_TIMEOUT_S if times_out else 5.0}
    return ClientSettings(base_url=base_url, token=Token(SECRET), **{**chosen, **changes})


def run(settings: ClientSettings, use: Callable[[HttpControlPlane], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        control = HttpControlPlane(settings)
        try:
            return await use(control)
        finally:
            await control.aclose()

    return run_in_loop(main)


async def every_operation(control: HttpControlPlane) -> dict[Operation, Reply]:
    """The reply to each of the operations, sent at once."""
    replies: dict[Operation, Reply] = {}

    async def execute(operation: Operation) -> None:
        replies[operation] = await control.execute(SERIAL, operation)

    async with anyio.create_task_group() as tasks:
        for operation in OPERATIONS:
            tasks.start_soon(execute, operation)
    return replies


async def one_reboot(control: HttpControlPlane) -> Reply:
    return await control.execute(SERIAL, Operation.REBOOT)


def in_a_row(count: int) -> Callable[[HttpControlPlane], Awaitable[list[Reply]]]:
    async def use(control: HttpControlPlane) -> list[Reply]:
        return [await control.execute(f"SN{number}", Operation.REBOOT) for number in range(count)]

    return use


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_operation_gets_the_right_reply_and_is_sent_once(fault: Fault) -> None:
    with ScriptedServer(fault.script) as server:
        replies = run(settings(server.base_url, times_out=fault.times_out), every_operation)
    for got in replies.values():
        assert (got.kind, got.reason, got.http_status) == (fault.kind, fault.reason, fault.status), got
        assert got.kind.may_have_run == (fault.kind in {ReplyKind.ACCEPTED, ReplyKind.MAYBE, ReplyKind.BAD_REPLY})
        assert fault.says in got.detail
        assert got.detail or got.kind is ReplyKind.ACCEPTED or fault.status is not None
        assert got.retry_after_s == fault.retry_after_s
        assert SECRET not in repr(got)
        assert len(got.detail) <= 300
        assert got.detail.isprintable()
    assert server.operations == Counter(dict.fromkeys(OPERATIONS, fault.arrivals) if fault.arrivals else ())
    assert server.connections == len(OPERATIONS)


def test_a_redirect_is_never_followed() -> None:
    with ScriptedServer(accepting) as elsewhere:
        location = f"Location: {elsewhere.base_url}/"
        for status in ("301", "302", "303", "307", "308"):
            with ScriptedServer(answers(lambda _, status=status: reply("", status, location))) as server:  # type: ignore[misc]
                assert run(settings(server.base_url), one_reboot).kind is ReplyKind.MISDIRECTED
            assert len(server.arrivals) == 1
    assert elsewhere.connections == 0


def test_a_reply_of_just_the_longest_length_is_read() -> None:
    def padded(peer: Peer) -> None:
        whole = peer.request().reply(x="").partition(b"\r\n\r\n")[2]
        peer.send(reply(whole.replace(b'"x": ""', b'"x": "%s"' % (b"x" * (LONGEST_BODY - len(whole))))))
        peer.wait_closed()

    with ScriptedServer(padded) as server:
        assert run(settings(server.base_url), one_reboot).kind is ReplyKind.ACCEPTED


class TestNotReached:
    """The request cannot have left: whatever the operation, it may be tried again."""

    @staticmethod
    def assert_not_reached(replies: dict[Operation, Reply], says: str) -> None:
        assert set(replies) == set(OPERATIONS)
        for got in replies.values():
            assert (got.kind, got.reason, got.http_status) == (ReplyKind.NOT_REACHED, Reason.UNREACHABLE, None), got
            assert not got.kind.may_have_run
            assert says in got.detail
            assert "no connection to" in got.detail
            assert SECRET not in got.detail

    def test_connection_refused(self) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            base_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            self.assert_not_reached(run(settings(base_url), every_operation), "Connection refused")

    def test_a_connect_that_is_never_answered(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            waiting = [socket.socket() for _ in range(4)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            base_url = f"http://127.0.0.1:{full.getsockname()[1]}"
            replies = run(settings(base_url, connect_timeout_s=0.1), every_operation)
            for sock in waiting:
                sock.close()
        self.assert_not_reached(replies, "not within 0.1 s")

    def test_a_name_that_does_not_resolve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        self.assert_not_reached(run(settings("https://control.invalid"), every_operation), "Name or service not known")

    def test_a_name_that_cannot_be_a_name(self) -> None:
        self.assert_not_reached(run(settings(f"https://{'a' * 64}.invalid"), every_operation), "")

    def test_no_free_connection_in_time(self) -> None:
        with ScriptedServer(sends(then=Peer.wait_closed)) as server:
            limits = settings(server.base_url, concurrency=1, connect_timeout_s=0.1, read_timeout_s=0.5)
            replies = run(limits, every_operation)
        kinds = Counter(got.kind for got in replies.values())
        assert kinds == {ReplyKind.MAYBE: 1, ReplyKind.NOT_REACHED: 4}
        assert len(server.arrivals) == 1


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class TestTls:
    """What goes wrong before TLS is agreed on has not reached the service."""

    @pytest.fixture
    def bundle(self, authority: trustme.CA, tmp_path: Path) -> Path:
        path = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(path))
        return path

    @pytest.fixture
    def serve(self, authority: trustme.CA) -> Iterator[Callable[[Script], ScriptedServer]]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(tls)
        with ExitStack() as servers:
            yield lambda script: servers.enter_context(ScriptedServer(script, tls))

    def test_a_certificate_that_is_trusted(self, serve: Callable[[Script], ScriptedServer], bundle: Path) -> None:
        server = serve(accepting)
        replies = run(settings(server.base_url, ca_bundle=bundle), in_a_row(3))
        assert [got.kind for got in replies] == [ReplyKind.ACCEPTED] * 3
        assert (len(server.arrivals), server.connections) == (3, 1)

    def test_a_certificate_that_nobody_knows(self, serve: Callable[[Script], ScriptedServer]) -> None:
        server = serve(accepting)
        TestNotReached.assert_not_reached(run(settings(server.base_url), every_operation), "certificate verify failed")
        assert server.arrivals == []

    def test_a_certificate_of_another_host(self, serve: Callable[[Script], ScriptedServer], bundle: Path) -> None:
        server = serve(accepting)
        wrong = settings(server.base_url.replace("localhost", "127.0.0.1"), ca_bundle=bundle)
        TestNotReached.assert_not_reached(run(wrong, every_operation), "not valid for '127.0.0.1'")
        assert server.arrivals == []

    def test_plain_http_on_the_port(self) -> None:
        def script(peer: Peer) -> None:
            peer.first_byte()
            peer.send(reply("plain", "400 No"))

        with ScriptedServer(script) as server:
            base_url = server.base_url.replace("http:", "https:")
            TestNotReached.assert_not_reached(run(settings(base_url), every_operation), "TLS: ")
        assert server.arrivals == []

    @pytest.mark.parametrize("end", [Peer.reset, Peer.close])
    def test_a_handshake_that_is_cut_off(self, end: Callable[[Peer], None]) -> None:
        def script(peer: Peer) -> None:
            peer.sock.recv(65536)
            end(peer)

        with ScriptedServer(script) as server:
            base_url = server.base_url.replace("http:", "https:")
            TestNotReached.assert_not_reached(run(settings(base_url), every_operation), "")

    def test_a_handshake_that_hangs(self) -> None:
        with ScriptedServer(Peer.wait_closed) as server:
            hanging = settings(server.base_url.replace("http:", "https:"), connect_timeout_s=0.1)
            TestNotReached.assert_not_reached(run(hanging, every_operation), "not within 0.1 s")

    @pytest.mark.parametrize("end", [Peer.reset, Peer.close])
    def test_a_close_after_the_request_may_have_run(
        self, serve: Callable[[Script], ScriptedServer], bundle: Path, end: Callable[[Peer], None]
    ) -> None:
        server = serve(sends(then=end))
        got = run(settings(server.base_url, ca_bundle=bundle), one_reboot)
        assert (got.kind, got.reason) == (ReplyKind.MAYBE, Reason.CONNECTION_LOST)
        assert len(server.arrivals) == 1

    def test_a_second_reply_is_not_taken_for_the_next_one(
        self, serve: Callable[[Script], ScriptedServer], bundle: Path
    ) -> None:
        server = serve(answers(lambda arrival: arrival.reply() + arrival.reply(id=666)))
        replies = run(settings(server.base_url, ca_bundle=bundle), in_a_row(3))
        assert [got.operation_id for got in replies] == ["7"] * 3
        assert (len(server.arrivals), server.connections) == (3, 3)

    @pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="only Linux holds segments back until they are whole")
    def test_a_second_reply_in_a_record_of_its_own_is_not_taken_for_the_next_one(
        self, serve: Callable[[Script], ScriptedServer], bundle: Path
    ) -> None:
        def script(peer: Peer) -> None:
            while True:
                arrival = peer.request()
                peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                peer.send(arrival.reply())
                peer.send(arrival.reply(id=666))
                peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

        server = serve(script)
        replies = run(settings(server.base_url, ca_bundle=bundle), in_a_row(3))
        assert [got.operation_id for got in replies] == ["7"] * 3
        assert (len(server.arrivals), server.connections) == (3, 3)


class TestKeptConnections:
    """A connection is used again only where that is safe; a request is never sent again by itself."""

    def test_requests_in_a_row_share_a_connection(self) -> None:
        with ScriptedServer(accepting) as server:
            replies = run(settings(server.base_url), in_a_row(5))
        assert [got.kind for got in replies] == [ReplyKind.ACCEPTED] * 5
        assert (len(server.arrivals), server.connections) == (5, 1)

    def test_a_connection_that_was_closed_while_idle_is_replaced(self) -> None:
        def script(peer: Peer) -> None:
            peer.send(peer.request().reply())

        with ScriptedServer(script) as server:

            async def use(control: HttpControlPlane) -> list[Reply]:
                replies = []
                for _ in range(3):
                    replies.append(await one_reboot(control))
                    await anyio.to_thread.run_sync(server.wait_for_scripts)
                return replies

            replies = run(settings(server.base_url), use)
        assert [got.kind for got in replies] == [ReplyKind.ACCEPTED] * 3
        assert (len(server.arrivals), server.connections) == (3, 3)

    @pytest.mark.parametrize("end", [Peer.reset, Peer.close])
    def test_a_close_that_crosses_with_a_request_is_not_hidden(self, end: Callable[[Peer], None]) -> None:
        def script(peer: Peer) -> None:
            peer.send(peer.request().reply())
            peer.first_byte()
            end(peer)

        with ScriptedServer(script) as server:
            replies = run(settings(server.base_url), in_a_row(2))
        assert [got.kind for got in replies] == [ReplyKind.ACCEPTED, ReplyKind.MAYBE]
        assert replies[1].reason is Reason.CONNECTION_LOST
        assert (len(server.arrivals), server.connections) == (1, 1)

    @pytest.mark.parametrize("extra", [reply('{"id": 666, "operation": "reboot"}'), b"HTTP/1.1 2", b"\r\n"])
    def test_what_is_left_over_is_not_taken_for_the_next_reply(self, extra: bytes) -> None:
        with ScriptedServer(answers(lambda arrival: arrival.reply() + extra)) as server:
            replies = run(settings(server.base_url), in_a_row(3))
        assert [got.operation_id for got in replies] == ["7"] * 3
        assert (len(server.arrivals), server.connections) == (3, 3)

    def test_a_reply_that_comes_while_idle_is_not_taken_for_the_next_reply(self) -> None:
        def script(peer: Peer) -> None:
            arrival = peer.request()
            peer.send(arrival.reply())
            peer.send(arrival.reply(id=666))
            peer.wait_closed()

        with ScriptedServer(script) as server:

            async def use(control: HttpControlPlane) -> list[Reply]:
                replies = []
                for _ in range(3):
                    replies.append(await one_reboot(control))
                    await anyio.sleep(0.02)
                return replies

            replies = run(settings(server.base_url), use)
        assert [got.operation_id for got in replies] == ["7"] * 3
        assert len(server.arrivals) == 3

    def test_a_reply_that_broke_off_ends_its_connection(self) -> None:
        def script(peer: Peer) -> None:
            arrival = peer.request()
            too_long = b" " * (LONGEST_BODY + 1)
            peer.send(reply(too_long) if peer.number == 0 else arrival.reply())
            peer.wait_closed()

        with ScriptedServer(script) as server:
            replies = run(settings(server.base_url), in_a_row(2))
        assert [got.kind for got in replies] == [ReplyKind.BAD_REPLY, ReplyKind.ACCEPTED]
        assert server.connections == 2

    def test_no_more_connections_are_opened_than_asked_for(self) -> None:
        async def use(control: HttpControlPlane) -> None:
            for _ in range(4):
                await every_operation(control)

        with ScriptedServer(accepting) as server:
            run(settings(server.base_url, concurrency=3), use)
        assert server.connections <= 3
        assert server.operations == Counter(dict.fromkeys(OPERATIONS, 4))


def test_a_request_says_what_it_must_and_nothing_else() -> None:
    with ScriptedServer(accepting) as server:
        run(settings(server.base_url), one_reboot)
    (arrival,) = server.arrivals
    assert (arrival.method, arrival.target) == (
        "PUT",
        "/api/v1/inventory_device_serial_operation/ABC123456789/",
    )
    assert arrival.body == b'{"operation": "reboot"}'
    assert arrival.headers.pop("user-agent").startswith("fleetops")
    assert arrival.headers == {
        "host": f"127.0.0.1:{server.port}",
        "authorization": f"Bearer {SECRET}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "23",
    }


def test_cookies_netrc_and_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login other password word\n")
    netrc.chmod(0o600)
    with (
        ScriptedServer(answers(lambda arrival: arrival.reply("200 OK", "Set-Cookie: session=1; Path=/"))) as server,
        ScriptedServer(accepting) as proxy,
    ):
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        run(settings(server.base_url), in_a_row(2))
    assert [arrival.headers["authorization"] for arrival in server.arrivals] == [f"Bearer {SECRET}"] * 2
    assert all("cookie" not in arrival.headers for arrival in server.arrivals)
    assert proxy.connections == 0
