"""What whoever approves a plan should know before it runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetops.errors import FleetopsError
from fleetops.journal.progress import unfinished_serials
from fleetops.journal.readonly import connect_readonly
from fleetops.journal.store import read_facts
from fleetops.model import CODE_OF, DESTRUCTIVE, OPERATIONS, Operation
from fleetops.plan.document import Risk
from fleetops.plan.wording import counted, plain
from fleetops.policy.settings import Offline
from fleetops.scheduler import StopReason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fleetops.journal import StateDir
    from fleetops.model import Steps
    from fleetops.plan.assumptions import Assumptions
    from fleetops.plan.document import Predictions
    from fleetops.policy import Policy

_NAMED: Final = 3
_RESTORING: Final = (CODE_OF[Operation.SYNC], CODE_OF[Operation.RECONF])
_MANY_DEVICES: Final = 100


def risks_of(
    steps: Steps, policy: Policy, assumptions: Assumptions, predictions: Predictions, live: Collection[Risk] = ()
) -> tuple[Risk, ...]:
    """The risks of a campaign; `live` are those that come from other runs."""
    return (
        *_of_the_end(predictions),
        *live,
        *_of_resets(steps),
        *_of_resends(steps, policy),
        *_of_devices(policy, len(steps.serials)),
        *_of_groups(predictions),
        *_of_the_service(policy, assumptions),
    )


def risks_of_live_runs(state: StateDir, base_url: str, serials: Collection[str]) -> list[Risk]:
    """What live runs on the same control plane mean: devices that they hold, and a rate that adds up."""
    wanted = frozenset(serials)
    risks = []
    for run_id in state.run_ids():
        if not state.is_live(run_id):
            continue
        try:
            with closing(connect_readonly(state.journal_path(run_id))) as connection:
                if read_facts(connection).base_url != base_url:
                    continue
                shared = sorted(serial for serial in unfinished_serials(connection) if serial in wanted)
        except (sqlite3.Error, FleetopsError) as error:
            risks.append(Risk(code="unreadable-run", message=plain(f"live run {run_id} cannot be read: {error}", 1000)))
            continue
        held = f" and holds {counted(len(shared), 'device')} of this plan: {_some(shared)}" if shared else ""
        risks.append(
            Risk(
                code="shared-devices" if shared else "live-run",
                message=f"run {run_id} is live on the same control plane{held}",
                hint="wait for it, or leave its devices out" if shared else "two runs add up their rates: wait for it",
            )
        )
    return risks


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _of_the_end(predictions: Predictions) -> Iterator[Risk]:
    if predictions.ended == StopReason.WINDOW_CLOSED:
        left = predictions.windows[0].left_steps if predictions.windows else predictions.outcomes.get("not_started", 0)
        yield Risk(
            code="window-too-short",
            message=f"the window closes with {counted(left, 'step')} left over",
            hint="set `at_end: wait`, resume in the next window, or make the campaign smaller or faster",
        )
    elif predictions.ended != StopReason.COMPLETE:
        yield Risk(
            code="ends-early",
            message=f"under these assumptions the run ends early: {predictions.ended.replace('_', ' ')}",
            hint="see what stops it in the plan's events",
        )


def _of_resets(steps: Steps) -> Iterator[Risk]:
    """Factory resets that nothing follows on the device: it is left without its configuration."""
    device_of = np.asarray(steps.device_of, dtype=np.int64)
    code_of = np.frombuffer(steps.operation_of, dtype=np.uint8)
    rows = np.arange(len(steps))
    last_reset, last_restored = np.full(len(steps.serials), -1), np.full(len(steps.serials), -1)
    reset = np.isin(code_of, [CODE_OF[operation] for operation in DESTRUCTIVE])
    np.maximum.at(last_reset, device_of[reset], rows[reset])
    restored = np.isin(code_of, _RESTORING)
    np.maximum.at(last_restored, device_of[restored], rows[restored])
    bare = np.flatnonzero(last_reset > last_restored)
    if len(bare):
        named = _some([steps.serials[device] for device in bare[: _NAMED + 1]])
        yield Risk(
            code="reset-without-sync",
            message=f"{counted(len(bare), 'device')} left without sync or reconf after a factory reset: {named}",
            hint="add a sync or reconf step after the reset",
        )


def _of_resends(steps: Steps, policy: Policy) -> Iterator[Risk]:
    for operation in OPERATIONS:
        count = steps.operation_of.count(CODE_OF[operation])
        harmless = operation in {Operation.SYNC, Operation.RECONF}
        if not count or harmless:
            continue
        if policy.resend.allows(operation):
            yield Risk(
                code="resend",
                message=f"a {operation} whose reply is lost is sent again, so a device may do it twice "
                f"({counted(count, 'step')})",
                hint=f"set `resend: {{{operation}: false}}` to leave such a step unknown instead",
            )


def _of_devices(policy: Policy, devices: int) -> Iterator[Risk]:
    if policy.offline is Offline.SEND:
        yield Risk(
            code="offline-devices",
            message="devices that are offline are sent to as well: such an operation may run whenever the device is "
            "back, later than the maintenance window",
            hint="set `offline: skip` or `offline: fail` to have the inventory read before the run",
        )
    if devices > _MANY_DEVICES and policy.waves is None and not policy.abort_when:
        yield Risk(
            code="no-brake",
            message=f"{counted(devices, 'device')} without waves and without a failure budget: "
            "nothing stops the run where the operation does harm",
            hint='add `waves: "1%,10%,100%"` or `abort_when: failed>5% after 100`',
        )


def _of_groups(predictions: Predictions) -> Iterator[Risk]:
    whole = [use for use in predictions.groups if use.group and use.devices > 1 and use.peak == use.devices]
    if whole:
        named = _some([use.group for use in whole[: _NAMED + 1]])
        number = f"{counted(len(whole), 'group')}" + (" or more" if predictions.groups_left_out else "")
        yield Risk(
            code="whole-group",
            message=f"in {number} every device is disturbed at the same time: {named}",
            hint="set `group_cap`, such as 2 or 10%",
        )


def _of_the_service(policy: Policy, assumptions: Assumptions) -> Iterator[Risk]:
    if assumptions.limit_per_s is not None and assumptions.limit_per_s < policy.rate.per_s:
        yield Risk(
            code="rate-above-limit",
            message=f"the rate {policy.rate} is above the {assumptions.limit_per_s:g}/s that the service takes",
            hint=f"a rate just below {assumptions.limit_per_s:g}/s is faster: nothing is lost to holds",
        )
