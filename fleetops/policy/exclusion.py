"""Which devices a policy leaves out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleetops.model import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.policy.settings import Policy


def excluded(policy: Policy, serials: Sequence[str]) -> dict[int, Reason]:
    """The devices that the policy's `allow` and `deny` leave out.

    Args:
        policy: The policy; its patterns have to match a whole serial number.
        serials: Serial number by device.
    """
    allow = [re.compile(pattern) for pattern in policy.allow]
    deny = [re.compile(pattern) for pattern in policy.deny]
    if not allow and not deny:
        return {}
    return {
        device: Reason.EXCLUDED
        for device, serial in enumerate(serials)
        if (allow and not any(pattern.fullmatch(serial) for pattern in allow))
        or any(pattern.fullmatch(serial) for pattern in deny)
    }
