from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.rig import ClusterRig
from tests.crash.rig import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def rig(tmp_path: Path, database: str) -> Iterator[ClusterRig]:
    """A campaign for workers; faults of the sandbox none."""
    with SandboxProcess(tmp_path / "requests.jsonl", devices=400, faults=()) as sandbox:
        made = ClusterRig(tmp_path, sandbox, database)
        yield made
        made.end_workers()
