"""What the sandbox answers, and how a body is read and a reply is sent over ASGI."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fleetops.sandbox.faults import Fault
    from fleetops.sandbox.log import Received

    Send = Callable[[Any], Awaitable[None]]
    Receive = Callable[[], Awaitable[Any]]

LONGEST_BODY: Final = 1 << 20

_OVERSIZE: Final = 4 << 20
_HTML: Final = "<html><head><title>{0} {1}</title></head><body><h1>{0} {1}</h1><hr>nginx</body></html>"
_GATEWAY: Final = {
    "error_500": (500, "Internal Server Error"),
    "bad_gateway": (502, "Bad Gateway"),
    "unavailable": (503, "Service Unavailable"),
    "gateway_timeout": (504, "Gateway Time-out"),
}
_OTHER: Final = {"reboot": "sync"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: JSON, or HTML where it is text.

    Attributes:
        status: The status.
        body: The body.
        headers: Further headers.
        late: Whether it takes its time once more.
    """

    status: int
    body: Any
    headers: Mapping[str, str] | None = None
    late: bool = False


NOT_FOUND: Final = Reply(404, {"detail": "Not found."})


def refused_token(*, given: bool) -> Reply:
    """The answer to a request whose token is wrong, or that has none."""
    words = "Invalid token." if given else "Authentication credentials were not provided."
    return Reply(401, {"detail": words}, {"WWW-Authenticate": "Bearer"})


def refused_method(method: str, allowed: str) -> Reply:
    """The answer to a request with another method."""
    return Reply(405, {"detail": f'Method "{method}" not allowed.'}, {"Allow": allowed})


def with_slash(scope: Any) -> Reply:
    """The answer to a path that lacks its trailing slash."""
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return Reply(301, "", {"Location": f"{path}/" + (f"?{query}" if query else "")})


def faulty(fault: Fault, received: Received) -> Reply:  # noqa: C901, PLR0911 - a table
    """The answer of a fault that is one."""
    if fault.kind in _GATEWAY:
        status, words = _GATEWAY[fault.kind]
        after = {"Retry-After": str(round(fault.wait_s))} if fault.wait_s is not None else None
        return Reply(status, _HTML.format(status, words), after)
    good = {"id": received.operation_id, "operation": received.operation}
    wait_s = 1 if fault.wait_s is None else round(fault.wait_s)
    throttled = {"detail": f"Request was throttled. Expected available in {wait_s} seconds."}
    match fault.kind:
        case "throttle":
            return Reply(429, throttled, {"Retry-After": str(wait_s)})
        case "throttle_date":
            # A date has whole seconds: a second more, or it may be over before it is read.
            return Reply(429, throttled, {"Retry-After": formatdate(time.time() + wait_s + 1, usegmt=True)})
        case "throttle_bare":
            return Reply(429, throttled)
        case "bad_json":
            return Reply(200, '{"id": 1, "operation": ')
        case "wrong_operation":
            return Reply(200, good | {"operation": _OTHER.get(received.operation, "reboot")})
        case "oversized":
            return Reply(200, good | {"padding": "x" * _OVERSIZE})
        case "redirect":
            return Reply(302, "", {"Location": "https://login.example/"})
        case "not_found":
            return NOT_FOUND
        case "refuse":
            return Reply(400, {"detail": "Invalid request."})
        case "forbid":
            return Reply(403, {"detail": "You do not have permission to perform this action."})
    return Reply(200, good)


async def read_body(receive: Receive) -> bytes | None:
    """A request's body, or as much of it as shows that it is too long; None where it never came to its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > LONGEST_BODY:
            return bytes(body)


async def until_gone(receive: Receive) -> None:
    """Wait until the other end has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_reply(send: Send, reply: Reply) -> None:
    """Answer a request."""
    is_text = isinstance(reply.body, str)
    content = reply.body.encode() if is_text else json.dumps(reply.body).encode()
    kind = b"application/json" if not is_text or reply.status == 200 else b"text/html"  # noqa: PLR2004 - OK
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
    headers += [(name.lower().encode(), value.encode()) for name, value in (reply.headers or {}).items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def raw_reply(content: bytes) -> bytes:
    """A good reply as it is on the wire, the last of its connection: else the next request would be lost with it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content


def header(scope: Any, name: bytes) -> bytes:
    """A header of a request, by its name in lower case; empty where it has none."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), b"")
