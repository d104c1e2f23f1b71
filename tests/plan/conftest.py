from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from fleetops.plan import Assumptions, Plan, make_plan
from fleetops.validation import Campaign, validate

if TYPE_CHECKING:
    from pathlib import Path

MONDAY_NS = 1_769_990_400_000_000_000
"""2026-02-02T00:00:00Z, a Monday."""

Rows = Sequence[tuple[str, str] | tuple[str, str, str]]
MakeCampaign = Callable[..., Campaign]
MakePlan = Callable[..., Plan]


def rows_of(devices: int, *operations: str, groups: int = 0) -> Rows:
    return [
        (f"CPE{number:06}", operation, f"olt{number % groups}" if groups else "")
        for number in range(devices)
        for operation in operations
    ]


@pytest.fixture
def campaign_of(tmp_path: Path) -> MakeCampaign:
    def make(rows: Rows, policy: Mapping[str, Any] | None = None, name: str = "night.csv") -> Campaign:
        path = tmp_path / name
        text = "".join(f"{','.join((*row, '')[:3])}\n" for row in rows)
        path.write_text(f"serial_number,operation,group\n{text}")
        return validate(str(path), options=policy)

    return make


@pytest.fixture
def plan_of(campaign_of: MakeCampaign) -> MakePlan:
    def make(
        rows: Rows, policy: Mapping[str, Any] | None = None, assumptions: Assumptions | None = None, **more: Any
    ) -> Plan:
        name = more.pop("name", "night.csv")
        more.setdefault("start_ns", MONDAY_NS)
        return make_plan(
            campaign_of(rows, policy, name),
            assumptions or Assumptions(latency_s=(0.1,), host_s=0),
            options=policy,
            **more,
        )

    return make
