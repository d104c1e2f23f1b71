"""The sandbox as a server: the control API under its own path, and what tests need under `/sandbox/`."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import uvicorn
from anyio.from_thread import start_blocking_portal

from fleetops.errors import HostError
from fleetops.sandbox.api import ControlApi
from fleetops.sandbox.config import PREFIX, SandboxConfig
from fleetops.sandbox.connections import Protocol
from fleetops.sandbox.log import Received, RequestLog
from fleetops.sandbox.steering import STEERING_PATH, set_device, set_faults, steering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

_BACKLOG: Final = 1024
_DATE_S: Final = 1.0
_LAST_WORDS_S: Final = 1.0


class _Server(uvicorn.Server):
    """uvicorn, without its own way with signals, and over as soon as it is told."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Be over."""
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which renews the Date header
            with anyio.move_on_after(_DATE_S):
                await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is idle and cut off what is not: a request that hangs would never end."""
        for listener in self.servers:
            listener.close()
        for listening in sockets or []:
            listening.close()
        for protocol in list(self.server_state.connections):
            protocol.shutdown()
            if not protocol.transport.is_closing():
                protocol.transport.abort()
        await asyncio.sleep(0)  # connections learn that they are lost, so that cancelled requests do not answer
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)


class Sandbox:
    """A control plane to try things on.

    Raises:
        HostError: Its log cannot be written.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        try:
            self._log = RequestLog(config.log)
        except OSError as error:
            raise HostError(
                f"the log {config.log} cannot be written: {error.strerror}", hint="name another file with --log"
            ) from None
        self._api = ControlApi(config, self._log)

    @property
    def requests(self) -> list[Received]:
        """What was received so far, in order."""
        return self._log.entries

    def set_faults(self, *faults: str) -> None:
        """Put other faults in force, written as `parse_fault` reads them.

        Raises:
            ValueError: One of them is none.
        """
        set_faults(self._api, *faults)

    def set_token(self, token: str) -> None:
        """Accept another token from now on."""
        self._api.token = token

    def set_device(self, serial: str, *, up: bool) -> None:
        """Set a device up or down, whatever it does.

        Raises:
            ValueError: There is no such device.
        """
        set_device(self._api, serial, up=up)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve in this event loop, once; the base URL.

        Raises:
            HostError: The port is taken.
        """
        with closing(self._log), closing(self._listen()) as listening:
            port = listening.getsockname()[1]
            server = _Server(_uvicorn(self._app()))
            # Not a task group: it would wrap whatever the caller raises.
            task = asyncio.create_task(server.serve([listening]))
            try:
                yield f"http://{_in_url(self._config.host)}:{port}{PREFIX}"
            finally:
                server.end()
                with anyio.CancelScope(shield=True):
                    await task

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._config.host else socket.AF_INET
        try:
            listening = socket.create_server((self._config.host, self._config.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            # The error's own text has the address again; where a name does not resolve, it is all there is.
            code = error.errno or 0
            why = os.strerror(code) if code in errno.errorcode else error.strerror
            raise HostError(
                f"the sandbox cannot listen on {self._config.host} port {self._config.port}: {why}",
                hint="choose another one with --port, or 0 for any",
            ) from None
        # Connections inherit it. Without it a reply in two writes waits 40 ms for the client's delayed acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    def _app(self) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """Both applications: no router stands between a request and the API."""
        api, beside = self._api, steering(self._api)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await (beside if scope["path"].startswith(STEERING_PATH) else api)(scope, receive, send)

        return app


def _uvicorn(app: Callable[[Any, Any, Any], Awaitable[None]]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Protocol,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="critical",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
    return anyio.run(_serve, config, ready, meanwhile)


async def _serve(
    config: SandboxConfig, ready: Callable[[str], None], meanwhile: Callable[[str], Awaitable[int]] | None
) -> int:
    async with Sandbox(config).serving() as base_url:
        if meanwhile is not None:
            ready(base_url)
            return await meanwhile(base_url)
        # Before anybody is told: whoever knows that it listens may end it.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            ready(base_url)
            async for _ in signals:
                break
    return 0


@contextmanager
def sandbox_thread(config: SandboxConfig) -> Iterator[tuple[str, Sandbox]]:
    """A sandbox in a thread of its own, for whoever has no event loop: the base URL and the sandbox.

    Raises:
        HostError: The port is taken, or the log cannot be written.
    """
    sandbox = Sandbox(config)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox.serving()) as base_url:
        yield base_url, sandbox
