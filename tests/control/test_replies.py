from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.control.replies import _decoded, classify, retry_after
from fleetops.model import OPERATIONS, Operation, Reason, Reply, ReplyKind

NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)
K, R = ReplyKind, Reason

TABLE = {
    100: (K.MAYBE, R.BAD_REPLY),
    101: (K.MAYBE, R.BAD_REPLY),
    201: (K.BAD_REPLY, R.BAD_REPLY),
    202: (K.BAD_REPLY, R.BAD_REPLY),
    204: (K.BAD_REPLY, R.BAD_REPLY),
    300: (K.MISDIRECTED, R.MISDIRECTED),
    301: (K.MISDIRECTED, R.MISDIRECTED),
    302: (K.MISDIRECTED, R.MISDIRECTED),
    307: (K.MISDIRECTED, R.MISDIRECTED),
    308: (K.MISDIRECTED, R.MISDIRECTED),
    400: (K.REFUSED, R.INVALID),
    401: (K.TOKEN_REFUSED, R.TOKEN_REFUSED),
    403: (K.TOKEN_REFUSED, R.TOKEN_REFUSED),
    404: (K.REFUSED, R.NOT_FOUND),
    405: (K.REFUSED, R.REJECTED),
    409: (K.REFUSED, R.REJECTED),
    422: (K.REFUSED, R.INVALID),
    429: (K.THROTTLED, R.THROTTLED),
    499: (K.REFUSED, R.REJECTED),
    500: (K.MAYBE, R.SERVER_ERROR),
    501: (K.MAYBE, R.SERVER_ERROR),
    502: (K.MAYBE, R.BAD_GATEWAY),
    503: (K.MAYBE, R.UNAVAILABLE),
    504: (K.MAYBE, R.GATEWAY_TIMEOUT),
    599: (K.MAYBE, R.SERVER_ERROR),
    600: (K.MAYBE, R.BAD_REPLY),
    999: (K.MAYBE, R.BAD_REPLY),
}


def judge(
    status: int,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    cut: Reason | None = None,
    asked: Operation = Operation.REBOOT,
) -> Reply:
    return classify(status, headers or {}, body, cut=cut, asked=asked, now=NOW)


@pytest.mark.parametrize("cut", [None, R.CONNECTION_LOST, R.READ_TIMEOUT, R.BAD_REPLY])
@pytest.mark.parametrize("status", TABLE)
def test_the_status_decides_even_where_the_body_broke_off(status: int, cut: Reason | None) -> None:
    got = judge(status, b'{"id": 1, "operation": "reboot"}', cut=cut)
    assert (got.kind, got.reason, got.http_status) == (*TABLE[status], status)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_200_that_names_the_operation_is_accepted(operation: Operation) -> None:
    got = judge(200, f'{{"id": 12345, "operation": "{operation}"}}'.encode(), asked=operation)
    assert got == Reply(K.ACCEPTED, http_status=200, operation_id="12345")


@pytest.mark.parametrize("asked", OPERATIONS)
@pytest.mark.parametrize("named", OPERATIONS)
def test_200_that_names_another_operation_is_not(asked: Operation, named: Operation) -> None:
    got = judge(200, f'{{"operation": "{named}"}}'.encode(), asked=asked)
    assert (got.kind is K.ACCEPTED) == (asked is named)


@pytest.mark.parametrize(
    ("given_id", "operation_id"),
    [
        ("7", "7"),
        ('"a-b"', "a-b"),
        ("0", "0"),
        ('""', None),
        ("null", None),
        ("true", None),
        ("1.5", None),
        ("[1]", None),
        ('"\\u001b[31mx\\n=1"', "x =1"),
        (f'"{"y" * 200}"', "y" * 99 + "…"),
        ("9" * 200, "9" * 99 + "…"),
    ],
)
def test_the_id_is_taken_where_there_is_one_and_bounded(given_id: str, operation_id: str | None) -> None:
    got = judge(200, f'{{"id": {given_id}, "operation": "reboot"}}'.encode())
    assert (got.kind, got.operation_id) == (K.ACCEPTED, operation_id)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"reboot",
        b'"reboot"',
        b"null",
        b"[]",
        b"{}",
        b'{"id": 1}',
        b'{"operation": null}',
        b'{"operation": "REBOOT"}',
        b'{"operation": "reboot "}',
        b'{"operation": ["reboot"]}',
        b'{"operation": "reboot"',
        b'[{"operation": "reboot"}]',
        b"<html>",
        b"\xff\xfe",
        b'{"operation": "reboot"}{"operation": "reboot"}',
        b'{"id": ' + b"9" * 5000 + b', "operation": "reboot"}',
    ],
)
def test_200_that_does_not_say_what_was_started_may_have_run(body: bytes) -> None:
    got = judge(200, body)
    assert (got.kind, got.reason, got.http_status) == (K.BAD_REPLY, R.BAD_REPLY, 200)
    assert got.detail
    assert got.kind.may_have_run


@pytest.mark.parametrize("reason", [R.READ_TIMEOUT, R.CONNECTION_LOST])
def test_200_whose_body_was_lost_is_a_lost_reply(reason: Reason) -> None:
    got = judge(200, b'{"id": 1, "operation": "reboot"}', cut=reason)
    assert (got.kind, got.reason, got.http_status) == (K.MAYBE, reason, 200)


def test_200_whose_body_is_too_long_cannot_be_understood() -> None:
    assert judge(200, b'{"id": 1, "operation": "reboot"}', cut=R.BAD_REPLY).kind is K.BAD_REPLY


def test_a_redirect_says_where_to() -> None:
    assert judge(301, headers={"location": "https://else.example/\x1b[2J"}).detail == "301 to https://else.example/"
    assert judge(301).detail == "301 without a Location"


def test_details_are_redacted_before_and_after_they_are_cleaned() -> None:
    def redact(text: str) -> str:
        return text.replace("secret", "[token]")

    for body in (b"secret", b"sec\x1b[0mret", b'{"detail": "\\u0073ecret"}'):
        got = classify(400, {}, body, asked=Operation.SYNC, now=NOW, redact=redact)
        assert got.detail == "[token]"


@given(
    st.integers(100, 999),
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(["location", "retry-after"]), st.text()),
)
@settings(deadline=None)
def test_anything_is_judged_and_its_detail_is_fit_for_a_report(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    got = judge(status, body, headers)
    assert got.detail.isprintable()
    assert len(got.detail) <= 300
    assert (got.kind is K.ACCEPTED) == (got.reason is None)


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("9" * 5000, 1e9),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Saturday, 01-Mar-25 12:00:30 GMT", 30.0),
        ("Sat Mar  1 12:00:30 2025", 30.0),
        ("Sat, 01 Mar 2025 13:00:30 +0100", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
        (None, None),
        ("", None),
        ("-1", None),
        ("+5", None),
        ("soon", None),
        ("1e3", None),
        ("0x10", None),
        ("inf", None),
        ("nan", None),
        ("12, 34", None),
        ("\N{ARABIC-INDIC DIGIT FIVE}", None),
        ("Sat, 99 Mar 2025 12:00:00 GMT", None),
        ("Sat, 01 Mar 99999 12:00:00 GMT", None),
        ("Sat, 01 Mar 2025 12:00:00 +999999999", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, wait_s: float | None) -> None:
    assert retry_after(value, NOW) == wait_s


@given(
    st.text(max_size=40) | st.from_regex(r"[A-Za-z]{3}, \d{1,2} [A-Za-z]{3} \d{1,5} \d\d:\d\d:\d\d [A-Z+\-0-9]{1,6}")
)
@settings(deadline=None)
def test_any_retry_after_is_a_finite_wait_or_none(value: str) -> None:
    wait_s = retry_after(value, NOW)
    assert wait_s is None or 0 <= wait_s <= 1e9


def test_retry_after_is_passed_on_with_429_and_503_only() -> None:
    headers = {"retry-after": "9"}
    told = {status: judge(status, headers=headers).retry_after_s for status in TABLE}
    assert {status for status, wait_s in told.items() if wait_s is not None} == {429, 503}


@given(
    st.sampled_from(
        [b'{"id": 12345, "operation": "reboot"}', b'{"id":"\\u00e9","operation":"sync","x":[-0,2.5e3,null]}']
    ),
    st.data(),
)
def test_a_body_is_read_as_json_reads_it_however_it_is_damaged(body: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(body)))
        body = body[:at] + data.draw(st.binary(max_size=2)) + body[at + data.draw(st.integers(0, 2)) :]
    try:
        expected = repr(json.loads(body))
    except ValueError:
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            _decoded(body)
    else:
        assert repr(_decoded(body)) == expected
