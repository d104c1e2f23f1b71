from __future__ import annotations

import asyncio

import pytest

from fleetops.errors import UsageError
from fleetops.runner import run_in_loop
from fleetops.runner.event_loop import LOOP_VARIABLE


async def loop_module(*words: str) -> str:
    return " ".join([type(asyncio.get_running_loop()).__module__.partition(".")[0], *words])


def test_uvloop_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvloop")
    monkeypatch.delenv(LOOP_VARIABLE, raising=False)
    assert run_in_loop(loop_module, "it", "is") == "uvloop it is"


def test_the_environment_chooses_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOP_VARIABLE, "asyncio")
    assert run_in_loop(loop_module) == "asyncio"


def test_an_event_loop_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOP_VARIABLE, "twisted")
    with pytest.raises(UsageError, match="twisted"):
        run_in_loop(loop_module)
