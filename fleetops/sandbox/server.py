"""The sandbox as a server: the control API under its own path, and what tests need under `/sandbox/`."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from fleetops.errors import HostError
from fleetops.sandbox.api import ControlApi
from fleetops.sandbox.config import PREFIX, SandboxConfig
from fleetops.sandbox.connections import Connections
from fleetops.sandbox.faults import parse_fault
from fleetops.sandbox.fleet import Fleet
from fleetops.sandbox.log import Received, RequestLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.requests import Request

_BACKLOG = 1024


class _Server(uvicorn.Server):
    """uvicorn, without its own way with signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Sandbox:
    """A control plane to try things on.

    Raises:
        HostError: Its log cannot be written.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._connections = Connections()
        self._fleet = Fleet(config, time.time())
        try:
            log = RequestLog(config.log)
        except OSError as error:
            raise HostError(f"the log {config.log} cannot be written: {error.strerror}") from None
        self._api = ControlApi(config, self._fleet, log, self._connections)

    @property
    def requests(self) -> list[Received]:
        """What was received so far, in order."""
        return self._api.log.entries

    def set_faults(self, *faults: str) -> None:
        """Put other faults in force, written as `parse_fault` reads them.

        Raises:
            ValueError: One of them is none.
        """
        self._api.faults = tuple(parse_fault(text) for text in faults)

    def set_token(self, token: str) -> None:
        """Accept another token from now on."""
        self._api.token = token

    def set_device(self, serial: str, *, up: bool) -> None:
        """Set a device up or down, whatever it does.

        Raises:
            ValueError: There is no such device.
        """
        number = self._fleet.number(serial)
        if number is None:
            raise ValueError(f"there is no device {serial!r}")
        self._fleet.force(number, up=up, now_s=time.time())

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve in this event loop; the base URL.

        Raises:
            HostError: The port is taken.
        """
        listening = self._listen()
        port = listening.getsockname()[1]
        server = _Server(
            uvicorn.Config(
                self._app(),
                http=self._connections.protocol(),
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                log_level="critical",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
                server_header=False,
            )
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listening])
                try:
                    yield f"http://{self._config.host}:{port}{PREFIX}"
                finally:
                    server.should_exit = server.force_exit = True
        finally:
            listening.close()
            self._api.log.close()

    def _listen(self) -> socket.socket:
        try:
            listening = socket.create_server((self._config.host, self._config.port), backlog=_BACKLOG)
        except OSError as error:
            raise HostError(
                f"the sandbox cannot listen on port {self._config.port}: {error.strerror}",
                hint="choose another one with --port, or 0 for any",
            ) from None
        # Connections inherit it. Without it a reply in two writes waits 40 ms for the client's delayed acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/sandbox/requests", self._told(self._rows), methods=["GET"]),
                Route("/sandbox/faults", self._told(self._change_faults), methods=["POST"]),
                Route("/sandbox/token", self._told(self._change_token), methods=["POST"]),
                Route("/sandbox/devices", self._told(self._change_device), methods=["POST"]),
                Mount("/", self._api),
            ]
        )

    def _told(self, act: Callable[[Any], Any]) -> Callable[[Request], Awaitable[JSONResponse]]:
        """An endpoint that answers with what `act` makes of the query or the body, else with 400."""

        async def endpoint(request: Request) -> JSONResponse:
            try:
                asked = dict(request.query_params) if request.method == "GET" else await request.json()
                return JSONResponse(act(asked))
            except (KeyError, TypeError, ValueError) as error:
                return JSONResponse({"detail": f"{type(error).__name__}: {error}"}, 400)

        return endpoint

    def _rows(self, query: dict[str, str]) -> dict[str, Any]:
        return {"requests": self._api.log.rows(int(query.get("offset", "0")))}

    def _change_faults(self, asked: Any) -> dict[str, Any]:
        self.set_faults(*asked["faults"])
        return {"faults": asked["faults"]}

    def _change_token(self, asked: Any) -> dict[str, Any]:
        self.set_token(str(asked["token"]))
        return {}

    def _change_device(self, asked: Any) -> dict[str, Any]:
        self.set_device(str(asked["serial_number"]), up=bool(asked["status"]))
        return {}


def run_sandbox(
    config: SandboxConfig,
    *,
    ready: Callable[[str], None],
    meanwhile: Callable[[str], Awaitable[int]] | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM, or until what is done meanwhile is done.

    Args:
        config: The sandbox.
        ready: Called with the base URL once it listens.
        meanwhile: Done while it serves, with the base URL; its result is returned.

    Returns:
        What `meanwhile` returned, else 0.

    Raises:
        HostError: The port is taken, or the log cannot be written.
    """
    try:
        return anyio.run(_serve, config, ready, meanwhile)
    except BaseExceptionGroup as group:
        # The group is of the task that serves; what went wrong is the one thing in it.
        raise group.exceptions[0] from None


async def _serve(
    config: SandboxConfig, ready: Callable[[str], None], meanwhile: Callable[[str], Awaitable[int]] | None
) -> int:
    async with Sandbox(config).serving() as base_url:
        ready(base_url)
        if meanwhile is not None:
            return await meanwhile(base_url)
        await _until_told()
    return 0


async def _until_told() -> None:
    import signal  # noqa: PLC0415 - for whoever serves in the main thread

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


@contextmanager
def sandbox_thread(config: SandboxConfig) -> Iterator[tuple[str, Sandbox]]:
    """A sandbox in a thread of its own, for whoever has no event loop: the base URL and the sandbox."""
    sandbox = Sandbox(config)
    started, stop = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with sandbox.serving() as base_url:
            urls.append(base_url)
            started.set()
            while not stop.is_set():  # noqa: ASYNC110 - the event is of another thread
                await anyio.sleep(0.02)

    thread = threading.Thread(target=lambda: anyio.run(serve), daemon=True)
    thread.start()
    started.wait(10)
    try:
        yield urls[0], sandbox
    finally:
        stop.set()
        thread.join(10)
