from __future__ import annotations

import pytest

from fleetops.model import Reason
from fleetops.policy import Policy
from fleetops.policy.exclusion import excluded

SERIALS = ["AB1", "AB2", "CD1", "CD2"]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, set()),
        ({"allow": "AB.*"}, {2, 3}),
        ({"deny": ["AB.*", "CD2"]}, {0, 1, 3}),
        ({"allow": "AB.*", "deny": "..1"}, {0, 2, 3}),
        ({"allow": "AB"}, {0, 1, 2, 3}),  # a pattern is of the whole serial number
        ({"deny": ["AB", "D1"]}, set()),
    ],
)
def test_allow_and_deny_decide_which_devices_are_left_out(settings: dict[str, object], left: set[int]) -> None:
    reasons = excluded(Policy.model_validate(settings), SERIALS)
    assert set(reasons) == left
    assert set(reasons.values()) <= {Reason.EXCLUDED}
