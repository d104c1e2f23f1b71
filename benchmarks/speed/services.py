"""What the requests go to: nginx, which answers at once, and a server that answers after a time."""

from __future__ import annotations

import asyncio
import selectors
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER_CORE = 1
CLIENT_CORE = 0
ANSWER = '{"id": 12345, "operation": "reboot"}'
_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _wait_until_up(port: int) -> None:
    deadline_s = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def _serving(command: list[str], port: int) -> Iterator[str]:
    server = subprocess.Popen(["taskset", "-c", str(SERVER_CORE), *command], stdout=subprocess.DEVNULL)
    try:
        _wait_until_up(port)
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """A base URL where nginx accepts everything at once, on a core of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, answer=ANSWER), encoding="utf-8")
    with _serving(["nginx", "-p", str(folder), "-c", str(config)], port) as base_url:
        yield base_url


@contextmanager
def answering_after(delay_s: float) -> Iterator[str]:
    """A base URL where everything is accepted after a time, in seconds, on a core of its own."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.speed.services", str(port), str(delay_s)]
    with _serving(command, port) as base_url:
        yield base_url


class _Slow(asyncio.Protocol):
    """One connection: a request comes as a whole, since it is small, and is answered after the time."""

    REPLY = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
    ) + ANSWER.encode()

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, self.REPLY)


async def _serve(port: int, delay_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Slow(delay_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    # epoll waits in whole milliseconds, rounded up: answers would come late by as much, and several of them together.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(_serve(int(sys.argv[1]), float(sys.argv[2])))
