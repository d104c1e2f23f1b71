from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.campaigns import Connection, resume, run
from fleetops.control import read_token
from fleetops.errors import UsageError
from fleetops.journal import StateDir
from fleetops.model import Outcome
from fleetops.sandbox import SandboxConfig, sandbox_thread
from fleetops.validation import validate

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = {"rate": "200/s", "settle": {"sync": 0}}


def manifest(tmp_path: Path, *rows: str) -> str:
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["serial_number,operation", *rows]) + "\n")
    return str(path)


def test_a_campaign_runs_and_is_resumed_from_python(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    campaign = validate(manifest(tmp_path, "ZQ000000001,sync", "ZQ000000002,sync"), options=OPTIONS)
    with sandbox_thread(SandboxConfig(devices=5)) as (base_url, sandbox):
        token = read_token({"FLEETOPS_TOKEN": "wrong"})
        first = run(campaign, Connection(base_url=base_url, token=token), state)
        assert first.exit_code == 4
        assert first.outcomes[Outcome.NOT_STARTED] == 2
        good = read_token({"FLEETOPS_TOKEN": "sandbox-token"})
        second = resume(first.run_id, state, token=good, options={"rate": "100/s"})
        assert second.exit_code == 0
        assert second.outcomes[Outcome.ACCEPTED] == 2
        third = resume(first.run_id, state, token=good)
        assert third.reason is None
        assert sum(received.processed for received in sandbox.requests) == 2


def test_a_factory_reset_needs_consent(tmp_path: Path) -> None:
    campaign = validate(manifest(tmp_path, "ZQ000000001,factory", "ZQ000000001,sync"))
    connection = Connection(base_url="http://127.0.0.1:9", token=read_token({"FLEETOPS_TOKEN": "x"}))
    with pytest.raises(UsageError, match="1 device to"):
        run(campaign, connection, StateDir(tmp_path / "state"))
    assert not (tmp_path / "state").exists()
    assert "token" not in repr(connection)


def test_an_event_loop_that_is_not_there_leaves_no_run_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = validate(manifest(tmp_path, "ZQ000000001,sync"))
    connection = Connection(base_url="http://127.0.0.1:9", token=read_token({"FLEETOPS_TOKEN": "x"}))
    monkeypatch.setenv("FLEETOPS_EVENT_LOOP", "twisted")
    with pytest.raises(UsageError, match="twisted"):
        run(campaign, connection, StateDir(tmp_path / "state"))
    assert not (tmp_path / "state").exists()
