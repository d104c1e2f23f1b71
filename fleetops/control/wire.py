"""One connection, one request at a time: what has been handed over to be sent, and what comes back."""

from __future__ import annotations

import asyncio
import select
from math import inf
from typing import TYPE_CHECKING, Final, cast

import httpx

from fleetops.control.parsing import ReplyParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetops.control.parsing import Received

_NOT_SENT: Final = "the connection was closed before anything was sent"


class Wire(asyncio.Protocol):
    """An open connection.

    Args:
        gone: Called once it is closed for good.
    """

    def __init__(self, gone: Callable[[Wire], None]) -> None:
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._parser = ReplyParser()
        self._poll = select.poll()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_s = inf
        self._idle_since_s = 0.0
        self._spoiled = False
        self._encrypted = False

    @property
    def busy(self) -> bool:
        """Whether a reply is waited for."""
        return self._waiter is not None

    @property
    def usable(self) -> bool:
        """Whether a request may be sent: the last reply ended cleanly, and nothing has been received since."""
        return not (self._spoiled or self._transport.is_closing())

    def quiet(self) -> bool:
        """Whether nothing, not even a close, waits in the socket of a usable connection to be received."""
        return not self._poll.poll(0)

    def idle_s(self) -> float:
        """For how long it has been idle."""
        return self._loop.time() - self._idle_since_s

    def close(self) -> None:
        """Close in good order: TLS says goodbye."""
        self._spoiled = True
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._spoiled = True
        self._transport.abort()

    async def ask(
        self, request: bytes, *, most_bytes: int, timeout_s: float | None = None, no_body: bool = False
    ) -> Received:
        """Send a request and wait for its reply.

        Args:
            request: All of it.
            most_bytes: Of the reply's body.
            timeout_s: For the whole reply; None for ever.
            no_body: Whether the reply has none, whatever its headers say.

        Raises:
            httpx.ConnectError: Nothing was sent.
            httpx.WriteError, httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError: Something may have been,
                and the reply did not come as far as the end of its headers.

        Whatever is raised, the connection is closed.
        """
        if not self.usable:
            self.abort()
            raise httpx.ConnectError(_NOT_SENT)
        self._parser.expect(most_bytes, no_body=no_body)
        waiter = self._waiter = self._loop.create_future()
        self._transport.write(request)
        if not self._encrypted and self._transport.is_closing():
            # The one send that was tried has failed as a whole. Below TLS there may be several.
            self._waiter = None
            raise httpx.ConnectError(_NOT_SENT)
        self._set_deadline(timeout_s)
        try:
            await waiter
            return self._parser.result()
        except BaseException:
            self._waiter = None
            self.abort()
            raise

    def _set_deadline(self, timeout_s: float | None) -> None:
        """One timer serves many requests: it looks, when it fires, whether the deadline has moved."""
        self._deadline_s = inf if timeout_s is None else self._loop.time() + timeout_s
        if self._timer is not None:
            if self._timer.when() <= self._deadline_s:
                return
            self._timer.cancel()
            self._timer = None
        if self._deadline_s < inf:
            self._timer = self._loop.call_at(self._deadline_s, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() >= self._deadline_s:
            self._parser.fail(httpx.ReadTimeout("the reply did not end in time"))
            self._wake()
        elif self._deadline_s < inf:
            self._timer = self._loop.call_at(self._deadline_s, self._look_at_deadline)

    def _wake(self) -> None:
        """The reply has ended: the connection is kept only where it did so properly, after all of the request."""
        if self._parser.keep_alive and not self._transport.get_write_buffer_size():
            self._idle_since_s = self._loop.time()
        else:
            self._spoiled = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._encrypted = transport.get_extra_info("ssl_object") is not None
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Something has come: a part of the reply, or what nobody has asked for."""
        if self._waiter is None:
            self.abort()
        elif self._parser.feed(data):
            self._wake()

    def eof_received(self) -> None:
        """The other side has closed."""
        self._spoiled = True
        if self._waiter is not None:
            self._parser.end_of_stream()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._spoiled = True
        if self._timer is not None:
            self._timer.cancel()
        if exc is None:
            self.eof_received()
        elif self._waiter is not None:
            error = (httpx.WriteError if isinstance(exc, BrokenPipeError) else httpx.ReadError)(str(exc))
            error.__cause__ = exc
            self._parser.fail(error)
            self._wake()
        self._gone(self)
