from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from fleetops.errors import HostError, UsageError
from fleetops.live import live_thread, server
from fleetops.model import Outcome
from tests.report.journals import RUN_ID, T0, Made, S, make_journal, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


Served = tuple[Made, httpx.Client]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_journal(tmp_path, rows(3))
    made.process(ended_ns=T0 + 9 * S, reason="complete")
    for step in range(3):
        made.attempt(step, "accepted", http_status=200)
        made.result(step, Outcome.ACCEPTED)
    return made


@pytest.fixture
def served(made: Made) -> Iterator[Served]:
    with live_thread(made.state, RUN_ID) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield made, client


def first_event(client: httpx.Client, **asked: Any) -> dict[str, str]:
    """The fields of the first event that says something."""
    with client.stream("GET", "/events", timeout=20, **asked) as reply:
        assert reply.status_code == 200
        fields: dict[str, str] = {}
        for line in reply.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                return fields
            else:
                fields = {}
    raise AssertionError("the stream ended")


def test_the_page_is_read_only_and_knows_two_paths(served: Served) -> None:
    _, client = served
    page = client.get("/")
    assert page.status_code == 200
    assert RUN_ID in page.text
    assert client.head("/").status_code == 200
    assert client.head("/events").headers["content-type"].startswith("text/event-stream")
    for path in ("/", "/events"):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            assert client.request(method, path).status_code == 405
    for path in ("/x", "/../etc/passwd", "/%2e%2e/etc/passwd", "/events/"):
        assert client.get(path).status_code in {404, 307}


def test_every_answer_keeps_browsers_strict(served: Served) -> None:
    _, client = served
    for path in ("/", "/none"):
        headers = client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    stated = re.search(r'Content-Security-Policy" content="([^"]*)"', client.get("/").text)
    assert stated is not None
    assert "default-src 'none'" in stated[1]
    scripts = stated[1].partition("script-src ")[2].partition(";")[0]
    assert scripts
    assert all(source.startswith("'sha256-") for source in scripts.split())


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "0.0.0.0"])
def test_a_name_that_was_made_to_lead_here_gets_nothing(served: Served, host: str) -> None:
    _, client = served
    for path in ("/", "/events"):
        reply = client.get(path, headers={"Host": host})
        assert reply.status_code == 400
        assert RUN_ID not in reply.text
    assert client.get("/", headers={"Host": "localhost:99"}).status_code == 200


def test_other_sites_are_not_told_what_happens(served: Served) -> None:
    _, client = served
    assert client.get("/events", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_events_bring_a_page_of_another_server_up_to_date_and_then_say_only_what_is_new(
    served: Served,
) -> None:
    _, client = served
    event = first_event(client, params={"since": "other-7"})
    assert len(json.loads(event["data"])["rows"]) == 3
    page = json.loads(re.search(r'id="live-data">(.*?)</script>', client.get("/").text)[1])  # type: ignore[index]  # it is there
    again = first_event(client, params={"since": page["version"]}, headers={"Last-Event-ID": "other-7"})
    assert len(json.loads(again["data"])["rows"]) == 3, "what a browser adds by itself is newer than what the page said"


def test_a_connection_on_which_nothing_happens_shows_a_sign_of_life(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = served
    monkeypatch.setattr(server, "_SIGN_OF_LIFE_S", 0.0)
    with client.stream("GET", "/events", timeout=20) as reply:
        assert ": still here" in (line for line in reply.iter_lines())


def test_a_journal_that_cannot_be_read_any_more_is_told_on_the_page(served: Served) -> None:
    made, client = served
    path = made.state.journal_path(RUN_ID)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE attempt")
    reply = client.get("/")
    assert reply.status_code == 503
    assert "damaged" in reply.text or "cannot be read" in reply.text
    assert first_event(client)["event"] == "trouble"


def test_what_cannot_be_served_is_said_at_once(made: Made) -> None:
    with pytest.raises(UsageError, match="there is no run"), live_thread(made.state, "20200101-000000-abcd"):
        pass
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(HostError, match=f"port {port}: Address already in use"),
            live_thread(made.state, RUN_ID, port),
        ):
            pass


@pytest.mark.parametrize("one", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted_also_with_pages_open(
    made: Made, tmp_path: Path, one: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fleetops", "status", RUN_ID, "--serve"],
        env={**os.environ, "FLEETOPS_STATE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert address is not None, said
        with httpx.stream("GET", f"{address[0]}events?since=", trust_env=False) as reply:
            lines = reply.iter_lines()
            assert next(lines).startswith("retry")
            process.send_signal(one)
            assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        out, err = process.communicate()
    assert "Traceback" not in err
    assert out == ""
