from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.crash.rig import Rig, SandboxProcess, kill

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = 60
"""Of the campaign that is killed."""


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox") / "requests.jsonl", devices=DEVICES, faults=()) as served:
        yield served


@pytest.fixture(scope="session")
def killed(sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A campaign whose process was killed in the middle; `early` in its folder is the state from some time before."""
    rig = Rig(tmp_path_factory.mktemp("killed"), sandbox)
    rig.write(devices=DEVICES)
    process = rig.start()
    rig.wait_for_arrivals(process, DEVICES // 3)
    shutil.copytree(rig.folder / "state", rig.folder / "early")
    rig.wait_for_arrivals(process, DEVICES // 3)
    assert kill(process), "it was done too soon"
    rig.take_snapshot()
    rig.earlier = rig.arrivals()
    return rig
