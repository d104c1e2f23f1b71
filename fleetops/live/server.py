"""The page's server: for browsers on this host alone, and for reading alone."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import time
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import uvicorn
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fleetops.errors import FleetopsError, HostError
from fleetops.journal.views import RunView
from fleetops.live.follow import Follower

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from fleetops.journal import StateDir

LOOPBACK: Final = "127.0.0.1"

_EVERY_S: Final = 1.0
_LEAST_IDLE: Final = 10
"""Reading the journal may take one part in so many of the time, so that a large one is read less often."""
_SIGN_OF_LIFE_S: Final = 15.0
_RETRY_MS: Final = 1000
_MOST_CONNECTIONS: Final = 64
_NICENESS: Final = 10
_HEADERS: Final = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_PAGE_POLICY: Final = "frame-ancestors 'none'"
"""What a page cannot say of itself; it says the rest, with the digests of its scripts, in its head."""
_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"


class _Server(uvicorn.Server):
    """uvicorn, without its own way with signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Guard:
    """Adds the headers that keep a browser from handing the page to other sites."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("content-security-policy", _POLICY)
            await send(message)

        await self._app(scope, receive, guarded)


class _Feed:
    """What is sent to all pages that are open; nothing is read while there are none."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._lock = anyio.Lock()
        self._look_at_s = 0.0
        self.over = anyio.Event()

    async def page(self, _: Request) -> Response:
        """The page itself."""
        async with self._lock:
            try:
                html = await anyio.to_thread.run_sync(self._follower.page)
                return HTMLResponse(html, headers={"content-security-policy": _PAGE_POLICY})
            except FleetopsError as error:
                return PlainTextResponse(f"{error.message}\n", status_code=503)

    async def events(self, request: Request) -> Response:
        """What changes, as server-sent events."""
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return PlainTextResponse("not for other sites\n", status_code=403)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        known = request.headers.get("last-event-id") or request.query_params.get("since", "")
        return StreamingResponse(self._events(known), media_type="text/event-stream")

    async def _events(self, known: str) -> AsyncIterator[str]:
        yield f"retry: {_RETRY_MS}\n\n"
        said_s = time.monotonic()
        while not self.over.is_set():
            try:
                version, messages = await self._news(known)
            except FleetopsError as error:
                version, messages = known, []
                yield f"event: trouble\ndata: {json.dumps(error.message)}\n\n"
            for message in messages[:-1]:
                yield f"data: {message}\n\n"
            # Only the last one has the id: a page that has seen but some of them asks for all of them again.
            for message in messages[-1:]:
                yield f"id: {version}\ndata: {message}\n\n"
            known = version
            if messages:
                said_s = time.monotonic()
            elif time.monotonic() > said_s + _SIGN_OF_LIFE_S:
                said_s = time.monotonic()
                yield ": still here\n\n"
            with anyio.move_on_after(max(0.05, self._look_at_s - time.monotonic())):
                await self.over.wait()

    async def _news(self, known: str) -> tuple[str, list[str]]:
        async with self._lock:
            began_s = time.monotonic()
            if began_s >= self._look_at_s:
                self._look_at_s = began_s + _EVERY_S
                await anyio.to_thread.run_sync(self._follower.look)
                took_s = time.monotonic() - began_s
                self._look_at_s = began_s + max(_EVERY_S, took_s * _LEAST_IDLE)
            messages = await anyio.to_thread.run_sync(lambda: list(self._follower.since(known)))
            return self._follower.version, messages


@asynccontextmanager
async def serving(state: StateDir, run_id: str, port: int) -> AsyncIterator[str]:
    """Serve in this event loop; the address of the page.

    Raises:
        UsageError: There is no such run.
        JournalError: Its journal cannot be read.
        HostError: The port is taken.
    """
    RunView.open(state, run_id).close()
    feed = _Feed(Follower(state, run_id))
    app = Starlette(
        routes=[Route("/", feed.page), Route("/events", feed.events)],
        # A page of another site whose name is made to lead to this host still comes under its own name.
        middleware=[
            Middleware(_Guard),
            Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"], www_redirect=False),
        ],
    )
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="critical",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    with closing(_listen(port)) as listening:
        server = _Server(config)
        # Not a task group: it would wrap whatever the caller raises.
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://{LOOPBACK}:{listening.getsockname()[1]}/"
        finally:
            feed.over.set()
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await task


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        # The error's own text has the address again.
        code = error.errno or 0
        why = os.strerror(code) if code in errno.errorcode else error.strerror
        raise HostError(
            f"cannot listen on {LOOPBACK} port {port}: {why}", hint="name another port, or none for any free one"
        ) from None


def serve_live(state: StateDir, run_id: str, port: int, *, ready: Callable[[str], None]) -> None:
    """Serve the page of a run until SIGINT or SIGTERM, at a low priority: the run goes first.

    Args:
        state: Where the run's journal is.
        run_id: The run.
        port: The port; 0 for any free one.
        ready: Called with the page's address once it can be opened.

    Raises:
        UsageError: There is no such run.
        JournalError: Its journal cannot be read.
        HostError: The port is taken.
    """
    with suppress(OSError):
        os.nice(_NICENESS)
    anyio.run(_serve, state, run_id, port, ready)


async def _serve(state: StateDir, run_id: str, port: int, ready: Callable[[str], None]) -> None:
    async with serving(state, run_id, port) as address:
        # Before anybody is told: whoever knows that it listens may end it.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            ready(address)
            async for _ in signals:
                break


@contextmanager
def live_thread(state: StateDir, run_id: str, port: int = 0) -> Iterator[str]:
    """The page of a run, served in a thread of its own, for whoever has no event loop: its address.

    Raises:
        UsageError: There is no such run.
        JournalError: Its journal cannot be read.
        HostError: The port is taken.
    """
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(state, run_id, port)) as address:
        yield address
