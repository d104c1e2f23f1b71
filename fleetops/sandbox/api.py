"""The control API as the sandbox speaks it: operations and inventory, with the faults that were asked for."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

from fleetops.model import Operation
from fleetops.sandbox.config import PREFIX
from fleetops.sandbox.faults import choose, draw
from fleetops.sandbox.fleet import parse_filter
from fleetops.sandbox.log import Received

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fleetops.sandbox.config import SandboxConfig
    from fleetops.sandbox.connections import Connections
    from fleetops.sandbox.faults import Fault
    from fleetops.sandbox.fleet import Fleet
    from fleetops.sandbox.log import RequestLog

    Send = Callable[[Any], Awaitable[None]]
    Receive = Callable[[], Awaitable[Any]]

OPERATION_PATH: Final = f"{PREFIX}/inventory_device_serial_operation/"
INVENTORY_PATH: Final = f"{PREFIX}/inventory_device_serial/"

_LONGEST_BODY: Final = 1 << 20
_PAGE: Final = 25
_LARGEST_PAGE: Final = 500
_HTML: Final = "<html><head><title>{0} {1}</title></head><body><h1>{0} {1}</h1><hr>nginx</body></html>"
_GATEWAY: Final = {
    "error_500": (500, "Internal Server Error"),
    "bad_gateway": (502, "Bad Gateway"),
    "unavailable": (503, "Service Unavailable"),
    "gateway_timeout": (504, "Gateway Time-out"),
}
_STARTS: Final = frozenset(
    {"gateway_timeout", "slow", "hang_after", "close_after", "reset", "bad_json", "wrong_operation", "truncated"}
    | {"oversized", "drip"}
)
"""Faults that come after the operation was started."""
_OTHER: Final = {"reboot": "sync"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: JSON, or HTML where it is text."""

    status: int
    body: Any
    headers: Mapping[str, str] | None = None


class ControlApi:
    """The API, as an ASGI application.

    Attributes:
        faults: The faults in force.
        token: The token that is accepted.
        log: What was received.
    """

    def __init__(self, config: SandboxConfig, fleet: Fleet, log: RequestLog, connections: Connections) -> None:
        self._config = config
        self._fleet = fleet
        self._connections = connections
        self._arrivals: Counter[str] = Counter()
        self._operations = 0
        self._recent: deque[float] = deque()
        self.faults: tuple[Fault, ...] = config.faults
        self.token = config.token
        self.log = log

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await _body(receive)
        if body is None:
            return
        raw_path: bytes = scope["raw_path"].partition(b"?")[0]
        received = Received(
            time.monotonic_ns(), time.time_ns(), scope["client"][1], scope["method"], raw_path.decode("latin-1")
        )
        if self._config.latency_s:
            await asyncio.sleep(self._config.latency_s)
        received.authorised = _header(scope, b"authorization") == f"Bearer {self.token}".encode()
        if received.path.startswith(OPERATION_PATH):
            await self._operate(scope, received, body, receive, send)
            return
        reply = self._inventory(scope, received)
        received.status = reply.status
        self.log.add(received)
        await _answer(send, reply)

    async def _operate(self, scope: Any, received: Received, body: bytes, receive: Receive, send: Send) -> None:
        """A PUT of an operation, or what is taken for one."""
        received.serial = _segment(received.path.removeprefix(OPERATION_PATH))
        self._operations += 1
        self._arrivals[received.serial] += 1
        number = draw(self._config.seed, received.serial, self._arrivals[received.serial])
        fault = choose(self.faults, received.serial, number, self._operations)
        reply = self._refusal(received, body, fault)
        if reply is None and (fault is None or fault.kind in _STARTS):
            reply = self._start(received)
        if fault is not None and (reply is None or received.processed):
            received.fault = fault.kind
            await self._misbehave(fault, scope, received, receive, send)
            return
        assert reply is not None, "a request without a fault has an answer"  # noqa: S101 - an invariant
        received.status = reply.status
        self.log.add(received)
        await _answer(send, reply)

    def _refusal(self, received: Received, body: bytes, fault: Fault | None) -> Reply | None:  # noqa: PLR0911 - one return a refusal
        """Why a request is refused before anything is started; None where it is not."""
        revoked = fault is not None and fault.kind == "revoke_token"
        if revoked or not received.authorised:
            received.authorised = False
            return Reply(401, {"detail": "Invalid token."}, {"WWW-Authenticate": "Bearer"})
        if not received.path.endswith("/"):
            return Reply(301, "", {"Location": f"{received.path}/"})
        if received.method != "PUT":
            return Reply(405, {"detail": f'Method "{received.method}" not allowed.'}, {"Allow": "PUT"})
        if self._throttles():
            return Reply(429, {"detail": "Request was throttled."}, {"Retry-After": "1"})
        try:
            asked = json.loads(body)
        except ValueError:
            return Reply(400, {"detail": "JSON parse error"})
        if not isinstance(asked, dict) or "operation" not in asked:
            return Reply(422, {"operation": ["This field is required."]})
        received.operation = str(asked["operation"])
        if received.operation not in set(Operation):
            return Reply(400, {"operation": [f'"{received.operation}" is not a valid choice.']})
        if self._fleet.number(received.serial) is None:
            return Reply(404, {"detail": "Not found."})
        return None

    def _throttles(self) -> bool:
        """Whether the request is one too many for this second."""
        limit = self._config.throttle_per_s
        if limit is None:
            return False
        now_s = time.monotonic()
        while self._recent and self._recent[0] <= now_s - 1:
            self._recent.popleft()
        if len(self._recent) >= limit:
            return True
        self._recent.append(now_s)
        return False

    def _start(self, received: Received) -> Reply:
        number = self._fleet.number(received.serial)
        assert number is not None, "refused otherwise"  # noqa: S101 - an invariant
        taken = self._fleet.start(number, Operation(received.operation), received.wall_ns / 1e9)
        received.busy = taken.busy
        if not taken.accepted:
            status = 409 if self._config.busy.value == "conflict" else 422
            return Reply(status, {"detail": "An operation is already running on this device."})
        received.processed = True
        received.operation_id = 10_000 + self._operations
        return Reply(200, {"id": received.operation_id, "operation": received.operation})

    async def _misbehave(self, fault: Fault, scope: Any, received: Received, receive: Receive, send: Send) -> None:
        connections = self._connections
        good = json.dumps({"id": received.operation_id, "operation": received.operation}).encode()
        if fault.kind in {"hang", "hang_after"}:
            self.log.add(received)
            await _until_gone(receive)
        elif fault.kind in {"close_before", "close_after"}:
            self.log.add(received)
            connections.close(scope)
        elif fault.kind in {"reset", "truncated"}:
            received.status = 200
            self.log.add(received)
            connections.write(scope, _head(len(good)) + good[: len(good) // 2])
            if fault.kind == "truncated":
                connections.close(scope)
            else:
                await asyncio.sleep(0.01)
                connections.reset(scope)
        elif fault.kind == "drip":
            received.status = 200
            self.log.add(received)
            for byte in _head(len(good)) + good:
                connections.write(scope, bytes([byte]))
                await asyncio.sleep(0.1 if fault.wait_s is None else fault.wait_s)
            connections.close(scope)
        else:
            if fault.kind == "slow":
                await asyncio.sleep(2.0 if fault.wait_s is None else fault.wait_s)
            reply = _faulty(fault, received)
            received.status = reply.status
            self.log.add(received)
            await _answer(send, reply)

    def _inventory(self, scope: Any, received: Received) -> Reply:
        """A read of the inventory, or a path that there is nothing at."""
        if not received.path.startswith(INVENTORY_PATH):
            return Reply(404, {"detail": "Not found."})
        if not received.authorised:
            return Reply(401, {"detail": "Invalid token."}, {"WWW-Authenticate": "Bearer"})
        if not received.path.endswith("/"):
            return Reply(301, "", {"Location": f"{received.path}/"})
        if received.method != "GET":
            return Reply(405, {"detail": f'Method "{received.method}" not allowed.'}, {"Allow": "GET"})
        now_s = time.time()
        segment = received.path.removeprefix(INVENTORY_PATH)
        if segment:
            received.serial = _segment(segment)
            number = self._fleet.number(received.serial)
            return (
                Reply(404, {"detail": "Not found."}) if number is None else Reply(200, self._fleet.row(number, now_s))
            )
        return self._page(scope, now_s)

    def _page(self, scope: Any, now_s: float) -> Reply:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        try:
            wanted = parse_filter(query)
            limit = min(int(query.get("limit") or _PAGE), _LARGEST_PAGE)
            offset = int(query.get("offset") or 0)
        except ValueError as error:
            return Reply(400, {str(error.args[0])[:60]: ["Enter a valid value."]})
        if limit < 1 or offset < 0:
            return Reply(400, {"limit": ["Enter a valid value."]})
        numbers = list(self._fleet.rows(wanted, now_s))

        def page(at: int) -> str:
            host = _header(scope, b"host").decode("latin-1")
            return f"http://{host}{INVENTORY_PATH}?{urlencode({**query, 'limit': limit, 'offset': at})}"

        return Reply(
            200,
            {
                "count": len(numbers),
                "next": page(offset + limit) if offset + limit < len(numbers) else None,
                "previous": page(max(0, offset - limit)) if offset else None,
                "results": [self._fleet.row(number, now_s) for number in numbers[offset : offset + limit]],
            },
        )


def _faulty(fault: Fault, received: Received) -> Reply:
    """The answer of a fault that is one."""
    good = {"id": received.operation_id, "operation": received.operation}
    wait_s = 1 if fault.wait_s is None else max(0, round(fault.wait_s))
    throttled = {"detail": f"Request was throttled. Expected available in {wait_s} seconds."}
    replies = {
        "throttle": Reply(429, throttled, {"Retry-After": str(wait_s)}),
        "throttle_date": Reply(429, throttled, {"Retry-After": formatdate(time.time() + wait_s + 1, usegmt=True)}),
        "throttle_bare": Reply(429, throttled),
        "slow": Reply(200, good),
        "bad_json": Reply(200, '{"id": 1, "operation": '),
        "wrong_operation": Reply(200, good | {"operation": _OTHER.get(received.operation, "reboot")}),
        "oversized": Reply(200, good | {"padding": "x" * (4 << 20)}),
        "redirect": Reply(302, "", {"Location": "https://login.example/"}),
        "not_found": Reply(404, {"detail": "Not found."}),
        "refuse": Reply(400, {"detail": "Invalid request."}),
    }
    if fault.kind in _GATEWAY:
        status, words = _GATEWAY[fault.kind]
        return Reply(status, _HTML.format(status, words))
    return replies[fault.kind]


async def _body(receive: Receive) -> bytes | None:
    """A request's body; None where it never came to its end."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > _LONGEST_BODY:
            return body


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, reply: Reply) -> None:
    is_text = isinstance(reply.body, str)
    content = reply.body.encode() if is_text else json.dumps(reply.body).encode()
    kind = b"application/json" if not is_text or reply.status == 200 else b"text/html"  # noqa: PLR2004 - OK
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in (reply.headers or {}).items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _head(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


def _header(scope: Any, name: bytes) -> bytes:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), b"")


def _segment(path: str) -> str:
    """The first segment of a path, decoded."""
    return unquote_to_bytes(path.partition("/")[0]).decode("utf-8", "surrogateescape")
