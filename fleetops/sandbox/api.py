"""The control API as the sandbox speaks it, with the faults that were asked for."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from fleetops.model import Operation
from fleetops.sandbox.config import PREFIX, Busy
from fleetops.sandbox.connections import Connection
from fleetops.sandbox.faults import STARTS, FaultsInForce, draw
from fleetops.sandbox.fleet import Fleet
from fleetops.sandbox.inventory import one_device, page_of_devices
from fleetops.sandbox.log import Received
from fleetops.sandbox.replies import (
    LONGEST_BODY,
    NOT_FOUND,
    Reply,
    faulty,
    header,
    raw_reply,
    read_body,
    refused_method,
    refused_token,
    send_reply,
    until_gone,
    with_slash,
)

if TYPE_CHECKING:
    from fleetops.sandbox.config import SandboxConfig
    from fleetops.sandbox.faults import Fault
    from fleetops.sandbox.log import RequestLog
    from fleetops.sandbox.replies import Receive, Send

_PATH: Final = re.compile(
    rf"{PREFIX}/inventory_device_serial(?P<operates>_operation)?(?:/(?P<serial>[^/]+))?(?P<slash>/?)"
)
_OPERATIONS: Final = {operation.value: operation for operation in Operation}
_FIRST_ID: Final = 10_001
_BUSY: Final = "An operation is already running on this device."


class ControlApi:
    """The API, as an ASGI application.

    Attributes:
        faults: The faults in force.
        token: The token that is accepted.
        fleet: The devices.
        log: What was received.
    """

    def __init__(self, config: SandboxConfig, log: RequestLog) -> None:
        self._config = config
        self._least_s, self._most_s = config.latency_bounds_s
        self.log = log
        self.reset()

    def reset(self) -> None:
        """Be as at the start, with nothing received; what the log's file has it keeps."""
        self.faults = FaultsInForce(self._config.faults)
        self.token = self._config.token
        self.fleet = Fleet(self._config, time.time())
        self.log.entries.clear()
        self._arrivals: Counter[str] = Counter()
        self._requests = 0
        self._next_id = _FIRST_ID
        self._recent_s: deque[float] = deque()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await read_body(receive)
        if body is None:
            return
        path = scope["raw_path"].decode("latin-1")
        port = scope["client"][1] if scope["client"] else 0
        received = Received(time.monotonic_ns(), time.time_ns(), port, scope["method"], path)
        self._requests += 1
        await self._take_time(number := self._requests)
        found = _PATH.fullmatch(path)
        if found is not None and found["serial"]:
            received.serial = _decoded(found["serial"])
        token = header(scope, b"authorization")
        received.authorised = token == f"Bearer {self.token}".encode() and not self.faults.revokes(
            received.serial, number
        )
        if found is None or (found["operates"] and not found["serial"]):
            reply = NOT_FOUND
        elif not found["slash"]:
            reply = with_slash(scope)
        elif not received.authorised:
            reply = refused_token(given=bool(token))
        elif found["operates"]:
            await self._operate(scope, received, body, receive, send)
            return
        else:
            reply = self._inventory(scope, received)
        if reply.late:
            await self._take_time(-number)
        await self._answer(send, received, reply)

    async def _take_time(self, number: int) -> None:
        """Wait for as long as a reply takes."""
        if self._most_s:
            spread_s = self._most_s - self._least_s
            await asyncio.sleep(
                self._least_s + (spread_s * draw(self._config.seed, "latency", number) if spread_s else 0)
            )

    async def _answer(self, send: Send, received: Received, reply: Reply) -> None:
        received.status = reply.status
        received.answered_ns = time.monotonic_ns()
        self.log.add(received)
        await send_reply(send, reply)

    def _inventory(self, scope: Any, received: Received) -> Reply:
        if received.method != "GET":
            return refused_method(received.method, "GET")
        now_s = time.time()
        if received.serial:
            return one_device(self.fleet, received.serial, now_s)
        return page_of_devices(self.fleet, scope, now_s)

    async def _operate(self, scope: Any, received: Received, body: bytes, receive: Receive, send: Send) -> None:
        """A request for an operation by somebody who may ask."""
        self._arrivals[received.serial] += 1
        chance = draw(self._config.seed, received.serial, self._arrivals[received.serial])
        reply = self._refusal(received, body)
        if reply is None:
            fault = self.faults.choose(received.serial, chance)
            if fault is None or fault.kind in STARTS:
                reply = self._start(received)
            if fault is not None and (reply is None or received.processed):
                received.fault = fault.kind
                await self._misbehave(fault, scope, received, receive, send)
                return
        assert reply is not None, "a request without a fault has an answer"  # noqa: S101 - an invariant
        await self._answer(send, received, reply)

    def _refusal(self, received: Received, body: bytes) -> Reply | None:  # noqa: PLR0911 - one return a refusal
        """Why a request is refused before anything is started; None where it is not."""
        if received.method != "PUT":
            return refused_method(received.method, "PUT")
        if self._throttles():
            return Reply(429, {"detail": "Request was throttled."}, {"Retry-After": "1"})
        if len(body) > LONGEST_BODY:
            return Reply(413, {"detail": "Request body is too large."})
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return Reply(400, {"detail": "JSON parse error"})
        if not isinstance(asked, dict) or "operation" not in asked:
            return Reply(422, {"operation": ["This field is required."]})
        received.operation = str(asked["operation"])
        if received.operation not in _OPERATIONS:
            return Reply(400, {"operation": [f'"{received.operation}" is not a valid choice.']})
        if self.fleet.number(received.serial) is None:
            return NOT_FOUND
        return None

    def _throttles(self) -> bool:
        """Whether the request is one too many for this second."""
        limit = self._config.throttle_per_s
        if limit is None:
            return False
        now_s = time.monotonic()
        while self._recent_s and self._recent_s[0] <= now_s - 1:
            self._recent_s.popleft()
        if len(self._recent_s) >= limit:
            return True
        self._recent_s.append(now_s)
        return False

    def _start(self, received: Received) -> Reply:
        number = self.fleet.number(received.serial)
        assert number is not None, "refused otherwise"  # noqa: S101 - an invariant
        taken = self.fleet.start(number, _OPERATIONS[received.operation], received.wall_ns / 1e9)
        received.busy = taken.busy
        if not taken.accepted:
            return Reply(409 if self._config.busy == Busy.CONFLICT else 422, {"detail": _BUSY})
        received.processed = True
        received.operation_id = self._next_id
        self._next_id += 1
        return Reply(200, {"id": received.operation_id, "operation": received.operation})

    async def _misbehave(self, fault: Fault, scope: Any, received: Received, receive: Receive, send: Send) -> None:
        """Give a request what its fault gives, noting it before anything is sent."""
        connection = Connection.of(scope)
        match fault.kind:
            case "hang" | "hang_after":
                self.log.add(received)
                await until_gone(receive)
            case "close_before" | "close_after":
                self.log.add(received)
                connection.close()
            case "reset" | "truncated" | "drip":
                received.status = 200
                received.answered_ns = time.monotonic_ns()
                self.log.add(received)
                await _break_off(fault, connection, received)
            case "slow":
                received.status = 200
                self.log.add(received)
                await asyncio.sleep(2.0 if fault.wait_s is None else fault.wait_s)
                received.answered_ns = time.monotonic_ns()
                await send_reply(send, faulty(fault, received))
            case _:
                await self._answer(send, received, faulty(fault, received))


async def _break_off(fault: Fault, connection: Connection, received: Received) -> None:
    """Send a good reply in part, or piece by piece, and end the connection."""
    content = json.dumps({"id": received.operation_id, "operation": received.operation}).encode()
    whole = raw_reply(content)
    if fault.kind == "drip":
        for byte in whole:
            connection.write(bytes([byte]))
            await asyncio.sleep(0.1 if fault.wait_s is None else fault.wait_s)
        connection.close()
        return
    connection.write(whole[: -len(content) // 2])
    if fault.kind == "truncated":
        connection.close()
        return
    await asyncio.sleep(0.01)  # so that what was sent arrives before the reset
    connection.reset()


def _decoded(segment: str) -> str:
    """A segment of a path, percent-decoded."""
    return unquote_to_bytes(segment).decode("utf-8", "surrogateescape")
