from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
import trustme

from fleetops.control import ClientSettings, Token
from fleetops.control.client import Answer, ControlClient, NoAnswer
from fleetops.errors import UsageError
from fleetops.model import Reason
from fleetops.runner.event_loop import run_in_loop
from tests.control.scripted_server import Peer, ScriptedServer, accepting, answers, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "s3cret-T0ken-Value"
BASE = "https://control.example/api"


def settings(base_url: str = BASE, **changes: object) -> ClientSettings:
    return ClientSettings(**{"base_url": base_url, "token": Token(SECRET), **changes})  # type: ignore[arg-type]  # checked by use


def put(settings: ClientSettings, transport: httpx.AsyncBaseTransport | None = None) -> Answer | NoAnswer:
    async def main() -> Answer | NoAnswer:
        client = ControlClient(settings, transport=transport)
        try:
            return await client.exchange(
                "PUT", f"{client.base_url}/x/", content=b'{"operation": "sync"}', most_bytes=100
            )
        finally:
            await client.aclose()

    return run_in_loop(main)


class TestAnswers:
    @pytest.mark.parametrize(("length", "cut"), [(0, None), (100, None), (101, Reason.BAD_REPLY)])
    def test_no_more_of_a_body_is_kept_than_asked_for(self, length: int, cut: Reason | None) -> None:
        with ScriptedServer(answers(lambda _: reply("x" * length))) as server:
            got = put(settings(server.base_url))
        assert isinstance(got, Answer)
        assert (got.status, got.body, got.cut) == (200, b"x" * min(length, 100), cut)

    def test_text_for_a_report_is_clean_bounded_and_without_the_token(self) -> None:
        client = ControlClient(settings("http://localhost"))
        assert client.printable(f"a\n\x1b[1m{SECRET[:5]}\x1b[0m{SECRET[5:]} b") == "a [token] b"
        assert len(client.printable("x" * 1000)) == 300


class _Failing(httpx.AsyncBaseTransport):
    """A transport that tells nothing of its progress."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._error is None:
            await anyio.sleep_forever()
            raise AssertionError
        raise self._error


class TestForeignTransports:
    @pytest.mark.parametrize(
        "error",
        [
            httpx.ConnectError(""),
            httpx.ConnectTimeout("x"),
            httpx.PoolTimeout("x"),
            httpx.ProxyError("407 no"),
            httpx.UnsupportedProtocol("x"),
        ],
    )
    def test_what_failed_to_connect_was_not_reached(self, error: Exception) -> None:
        got = put(settings(), _Failing(error))
        assert isinstance(got, NoAnswer)
        assert (got.reached, got.reason) == (False, Reason.UNREACHABLE)
        assert got.detail.startswith("no connection to control.example: ")

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (httpx.ReadTimeout("x"), Reason.READ_TIMEOUT),
            (httpx.WriteTimeout("x"), Reason.READ_TIMEOUT),
            (httpx.ReadError(""), Reason.CONNECTION_LOST),
            (httpx.WriteError(""), Reason.CONNECTION_LOST),
            (httpx.RemoteProtocolError("illegal"), Reason.BAD_REPLY),
            (ValueError(f"what is {SECRET}\x1b[1m"), Reason.CONNECTION_LOST),
            (ExceptionGroup("several", [OSError(104, "x")]), Reason.CONNECTION_LOST),
        ],
    )
    def test_anything_else_may_have_reached_the_service(self, error: Exception, reason: Reason) -> None:
        got = put(settings(), _Failing(error))
        assert isinstance(got, NoAnswer)
        assert (got.reached, got.reason) == (True, reason)
        assert got.detail
        assert got.detail.isprintable()
        assert SECRET not in got.detail

    def test_one_that_never_answers_is_given_up(self) -> None:
        got = put(settings(connect_timeout_s=0.01, read_timeout_s=0.01), _Failing(None))
        assert got == NoAnswer(reached=True, reason=Reason.READ_TIMEOUT, detail="no reply within 0.01 s")


class TestCaBundles:
    @pytest.mark.parametrize("content", [None, b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
    def test_one_that_cannot_be_used_is_refused(self, content: bytes | None, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsageError, match="cannot be used") as caught:
            ControlClient(settings(ca_bundle=path))
        assert caught.value.hint

    def test_a_folder_of_them_is_taken(self, tmp_path: Path) -> None:
        ControlClient(settings(ca_bundle=tmp_path))


def test_the_log_of_the_library_below_stays_quiet_unless_asked_for() -> None:
    logger = logging.getLogger("httpcore")
    for asked, then in ((logging.NOTSET, logging.WARNING), (logging.DEBUG, logging.DEBUG)):
        logger.setLevel(asked)
        try:
            ControlClient(settings("http://localhost"))
            assert logger.level == then
        finally:
            logger.setLevel(logging.NOTSET)


class TestProxies:
    """Through a tunnel: the proxy sees where to, and nothing of what is said there."""

    @pytest.fixture(scope="class")
    @staticmethod
    def authority() -> trustme.CA:
        return trustme.CA()

    @staticmethod
    def _through(
        proxy: Callable[[Peer, int], None],
        authority: trustme.CA,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        connect_timeout_s: float = 5.0,
    ) -> tuple[Answer | NoAnswer, ScriptedServer, ScriptedServer]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("control.example").configure_cert(tls)
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with (
            ScriptedServer(accepting, tls) as service,
            ScriptedServer(lambda peer: proxy(peer, service.port)) as server,
        ):
            monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{server.port}")
            got = put(settings(ca_bundle=bundle, connect_timeout_s=connect_timeout_s))
        return got, service, server

    def test_a_tunnel_carries_the_request(
        self, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def tunnel(peer: Peer, port: int) -> None:
            peer.request()
            with socket.create_connection(("127.0.0.1", port)) as onward:
                peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                ends = {peer.sock: onward, onward: peer.sock}
                while True:
                    for readable in select.select(list(ends), [], [])[0]:
                        if not (data := readable.recv(65536)):
                            return
                        ends[readable].sendall(data)

        got, service, proxy = self._through(tunnel, authority, tmp_path, monkeypatch)
        assert isinstance(got, Answer)
        assert got.status == 200
        assert len(service.arrivals) == 1
        (connect,) = proxy.arrivals
        assert (connect.method, connect.target) == ("CONNECT", "control.example:443")
        assert connect.headers["proxy-authorization"].startswith("Basic ")
        assert "authorization" not in connect.headers
        assert "proxy-authorization" not in service.arrivals[0].headers

    @pytest.mark.parametrize(
        "answer",
        [
            reply("", "407 Proxy Authentication Required"),
            reply("", "503 No"),
            b"HTTP/1.1 200 OK\r\n\r\nnot TLS at all",
            b"garbage\r\n\r\n",
            b"",
            None,
        ],
    )
    def test_a_tunnel_that_is_not_built_reaches_nothing(
        self, answer: bytes | None, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(peer: Peer, _: int) -> None:
            peer.request()
            if answer is None:
                peer.wait_closed()
                return
            peer.send(answer)
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)
                peer.wait_closed()

        connect_timeout_s = 0.1 if answer is None else 5.0
        got, service, proxy = self._through(refuse, authority, tmp_path, monkeypatch, connect_timeout_s)
        assert isinstance(got, NoAnswer)
        assert (got.reached, got.reason) == (False, Reason.UNREACHABLE)
        assert "word" not in got.detail
        assert (service.connections, len(proxy.arrivals)) == (0, 1)
