"""What earlier processes left of a run, as a scheduler takes it up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fleetops.model import Reason, Steps
    from fleetops.policy import Policy


@dataclass(slots=True)
class Trouble:
    """What an open step has behind it, kept only for steps whose first send did not settle the matter.

    Attributes:
        sends: Attempts that left.
        failures: Those of them that count against the retries.
        first_ns: When the first one left.
        may_have_run: Why it may have run already; None where it cannot have.
    """

    sends: int = 0
    failures: int = 0
    first_ns: int = 0
    may_have_run: Reason | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What earlier processes left of a run.

    Attributes:
        outcomes: Final outcomes by step, each an index into `OUTCOMES` plus one; 0 where the step is open.
            Empty where all are.
        troubles: Open steps that were sent before, those in `lost` included.
        lost: Open steps with an intent and no answer; each has to be answered before anything is sent.
        not_before_ns: By device, when its settle time after an earlier step ends; not needed of a device at its end.
        disturbed_until_ns: By device, when it will have settled from whatever may have run on it, open steps included:
            these back off for a shorter time, but to its group the device is disturbed.
        hold_until_ns: When the run's hold ends.
        unconfirmed: Accepted steps that nobody has looked for since, or not with success, and when each was sent.
        gate_waived: Whether the operator goes on after a wave that did not pass its gate.
        left_out_since: Devices that were left out after the run had begun. They keep their places in the waves, since
            those of the others must not change.
        opened_ns: A moment in the opening of a window that the run was started in, where that is over by now; None
            where it is to wait for a window first.
    """

    outcomes: bytes | bytearray = b""
    troubles: Mapping[int, Trouble] = field(default_factory=dict)
    lost: Collection[int] = ()
    not_before_ns: Mapping[int, int] = field(default_factory=dict)
    disturbed_until_ns: Mapping[int, int] = field(default_factory=dict)
    hold_until_ns: int = 0
    unconfirmed: Mapping[int, int] = field(default_factory=dict)
    gate_waived: bool = False
    left_out_since: Collection[int] = frozenset()
    opened_ns: int | None = None


def finished_steps_matter(steps: Steps, policy: Policy) -> bool:
    """Whether anything of the run has to wait for a device to settle from a step that has its outcome.

    Where each device has one step, nothing follows on it, unless that is seen in the inventory or by its group. Then a
    run need not be held up by looking at all that it has done.
    """
    return len(steps) > len(steps.serials) or policy.group_cap is not None or policy.confirm.enabled
