from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fleetops.errors import HostError
from fleetops.sandbox import Sandbox, SandboxConfig
from tests.sandbox.conftest import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.sandbox.conftest import Service

    Serve = Callable[..., AbstractContextManager[Service]]


def test_the_log_file_has_a_line_for_each_request_as_soon_as_it_is_answered(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    with serve(log=log) as service:
        for number in (1, 2):
            service.put()
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            assert lines == [received.row() for received in service.sandbox.requests]
            assert len(lines) == number
    assert "sandbox-token" not in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_log_file_is_added_to_and_outlives_a_reset(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    for _ in range(2):
        with serve(log=log) as service:
            service.put()
            service.client.post(f"{service.root}/sandbox/reset")
            assert service.sandbox.requests == []
    assert [json.loads(line)["serial"] for line in log.read_text().splitlines()] == [FIRST, FIRST]


def test_a_serial_number_that_is_no_text_is_logged_all_the_same(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    with serve(log=log) as service:
        assert service.put("%FF%0A%22").status_code == 404
    [line] = log.read_text().splitlines()
    assert json.loads(line)["serial"] == '\udcff\n"'


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written: No such file"):
        Sandbox(SandboxConfig(log=tmp_path / "none" / "log"))
