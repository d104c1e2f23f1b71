"""What a reply of the control plane means for its step.

| status | kind | reason |
|---|---|---|
| 200 that names the operation asked for | accepted | |
| 200 whose body never came to its end | maybe | read_timeout, connection_lost |
| any other 200, or 2xx | bad_reply | bad_reply |
| 3xx | misdirected | misdirected |
| 400, 422 | refused | invalid |
| 401, 403 | token_refused | token_refused |
| 404 | refused | not_found |
| 429 | throttled | throttled |
| other 4xx | refused | rejected |
| 500, 502, 503, 504 | maybe | server_error, bad_gateway, unavailable, gateway_timeout |
| other 5xx | maybe | server_error |
| anything else | maybe | bad_reply |

The status decides even where the body broke off, except for 200: there the body has to name what was started. The id
of the operation may be missing; it goes into the report and nothing depends on it.
"""

from __future__ import annotations

import json
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic_core import from_json

from fleetops.control.wording import bounded, printable, words_of
from fleetops.model import Reason, Reply, ReplyKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from fleetops.model import Operation

    class SupportsGet(Protocol):
        """What has headers by name."""

        def get(self, name: str, /) -> str | None:
            """The value of a header, None where it is not there."""


_OK: Final = HTTPStatus.OK.value
_LONGEST_OPERATION_ID: Final = 100
_USUAL_OPERATION_ID: Final = 10**18
_ACCEPTED: Final = ReplyKind.ACCEPTED
_new: Final = tuple.__new__
"""Makes a named tuple in half the time, where one is made for every reply."""
_LONGEST_RETRY_AFTER_S: Final = 1e9
"""About thirty years: beyond it a number says no more, and stays exact and finite below."""

_SECONDS: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)

_KINDS: Final[dict[int, tuple[ReplyKind, Reason]]] = {
    HTTPStatus.BAD_REQUEST: (ReplyKind.REFUSED, Reason.INVALID),
    HTTPStatus.UNPROCESSABLE_ENTITY: (ReplyKind.REFUSED, Reason.INVALID),
    HTTPStatus.UNAUTHORIZED: (ReplyKind.TOKEN_REFUSED, Reason.TOKEN_REFUSED),
    HTTPStatus.FORBIDDEN: (ReplyKind.TOKEN_REFUSED, Reason.TOKEN_REFUSED),
    HTTPStatus.NOT_FOUND: (ReplyKind.REFUSED, Reason.NOT_FOUND),
    HTTPStatus.TOO_MANY_REQUESTS: (ReplyKind.THROTTLED, Reason.THROTTLED),
    HTTPStatus.BAD_GATEWAY: (ReplyKind.MAYBE, Reason.BAD_GATEWAY),
    HTTPStatus.SERVICE_UNAVAILABLE: (ReplyKind.MAYBE, Reason.UNAVAILABLE),
    HTTPStatus.GATEWAY_TIMEOUT: (ReplyKind.MAYBE, Reason.GATEWAY_TIMEOUT),
}
_KINDS_BY_CLASS: Final = {
    2: (ReplyKind.BAD_REPLY, Reason.BAD_REPLY),
    3: (ReplyKind.MISDIRECTED, Reason.MISDIRECTED),
    4: (ReplyKind.REFUSED, Reason.REJECTED),
    5: (ReplyKind.MAYBE, Reason.SERVER_ERROR),
}
_LOST_WORDS: Final = {
    Reason.READ_TIMEOUT: "the time was up in the middle of the reply",
    Reason.CONNECTION_LOST: "the connection was lost in the middle of the reply",
}
_SAYS_WHEN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def _unchanged(text: str) -> str:
    return text


def classify(
    status: int,
    headers: SupportsGet,
    body: bytes,
    *,
    cut: Reason | None = None,
    asked: Operation,
    now: datetime | None = None,
    redact: Callable[[str], str] = _unchanged,
) -> Reply:
    """What the reply to one PUT means.

    Args:
        status: The status of the final reply.
        headers: Its headers, by names in lower case.
        body: Its body, or as much of it as was read.
        cut: Why `body` is not the whole body; None where it is.
        asked: The operation that was asked for.
        now: The time, aware, for a `Retry-After` that is a date; without it such a one says nothing.
        redact: Takes secrets out of text that goes into the report.
    """
    if status == _OK and cut is None:
        accepted = _accepted(body, asked, redact)
        if accepted is not None:
            return accepted

    if status == _OK:
        if cut in _LOST_WORDS:
            return Reply(ReplyKind.MAYBE, cut, status, detail=_LOST_WORDS[cut])
        return Reply(
            ReplyKind.BAD_REPLY, Reason.BAD_REPLY, _OK, detail=_said(_why_bad(body, asked, whole=cut is None), redact)
        )
    kind, reason = _KINDS.get(status, _KINDS_BY_CLASS.get(status // 100, (ReplyKind.MAYBE, Reason.BAD_REPLY)))
    if kind is ReplyKind.MISDIRECTED:
        location = headers.get("location")
        detail = f"{status} to {location}" if location else f"{status} without a Location"
    elif reason is Reason.BAD_REPLY:
        detail = f"{status} is not an answer to this request: {words_of(body)}".rstrip(": ")
    else:
        detail = words_of(body)
    retry_after_s = retry_after(headers.get("retry-after"), now) if status in _SAYS_WHEN else None
    return Reply(kind, reason, status, detail=_said(detail, redact), retry_after_s=retry_after_s)


def _accepted(body: bytes, asked: Operation, redact: Callable[[str], str]) -> Reply | None:
    """What a 200 means whose body says that what was asked for was started; None where it does not say so."""
    try:
        answer = _decoded(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or answer.get("operation") != asked:
        return None
    return _new(Reply, (_ACCEPTED, None, _OK, _operation_id(answer.get("id"), redact), "", None))


def _why_bad(body: bytes, asked: Operation, *, whole: bool) -> str:
    """What is wrong with the body of a 200 that does not say what was asked for."""
    if not whole:
        return f"the reply is too long or badly framed, after {len(body)} bytes: {words_of(body)}"
    if not body.strip():
        return "the reply has no body"
    try:
        _decoded(body)
    except (ValueError, RecursionError):
        return f"the reply is not JSON: {words_of(body)}"
    return f"the reply does not name the operation {asked}: {words_of(body)}"


def _said(text: str, redact: Callable[[str], str]) -> str:
    # Before the cleaning, which shortens, and after it, which may join what was apart.
    return bounded(redact(printable(redact(text))))


def _decoded(body: bytes) -> Any:
    """The JSON value in `body`; raises as `json.loads` does.

    pydantic's reader takes a third of the time. It also takes less (no UTF-16, no lone surrogates): that is read again.
    """
    try:
        return from_json(body)
    except ValueError:
        return json.loads(body)


def _operation_id(value: Any, redact: Callable[[str], str]) -> str | None:
    if type(value) is int and 0 <= value <= _USUAL_OPERATION_ID:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return bounded(_said(str(value), redact), _LONGEST_OPERATION_ID) or None


def retry_after(value: str | None, now: datetime | None) -> float | None:
    """The seconds that a `Retry-After` asks to wait (RFC 9110, section 10.2.3), or None where it says nothing.

    A moment that has passed is 0; a negative number says nothing. The result is finite; the caller caps it.

    Args:
        value: The header, in seconds or as an HTTP date.
        now: The time, aware, that a date is compared with; without it a date says nothing.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        wait_s = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
            moment_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if now is None:
            return None
        wait_s = moment_s - now.timestamp()
    return min(max(wait_s, 0.0), _LONGEST_RETRY_AFTER_S)
