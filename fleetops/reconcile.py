"""What became of steps whose reply was lost: evidence from the inventory, or an operator's word, on record."""

from __future__ import annotations

import getpass
import os
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from fleetops.control import DeviceFilter, find_devices
from fleetops.errors import UsageError
from fleetops.journal.evidence import Finding, record_findings, sent_to_since, unknown_steps
from fleetops.journal.store import no_such_run
from fleetops.model import NS_PER_S, Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fleetops.control import Device, Inventory
    from fleetops.journal import StateDir
    from fleetops.journal.evidence import UnknownStep


class Assumption(StrEnum):
    """What an operator decides about steps that nothing else is known of."""

    EXECUTED = "executed"
    NOT_EXECUTED = "not-executed"


def judge(step: UnknownStep, device: Device | None, usual_ns: int) -> Finding:
    """What the inventory's view of a device says of a step that may have run.

    The device's last change between up and down is evidence where it came after the step was sent, and soon enough to
    be its doing. It is none where another operation followed, which may as well have caused it.

    Args:
        step: The step.
        device: The device as the inventory has it; None where it is not among those that changed since.
        usual_ns: Within what time after being sent an operation shows.
    """
    changed_ns = None if device is None else device.last_status_change_ns
    if device is None or changed_ns is None:
        return Finding(step, Outcome.UNKNOWN, None, "the inventory shows no change of the device since it was sent")
    state = "up" if device.status else "down"
    seen = f"{state}, last changed at {_moment(changed_ns)}, sent at {_moment(step.sent_ns)}"
    if changed_ns <= step.sent_ns:
        whole_second = changed_ns % NS_PER_S == 0 and changed_ns > step.sent_ns - NS_PER_S
        doubt = "in the same second, so perhaps before" if whole_second else "no change since"
    elif step.followed:
        doubt = "a later operation may have caused it"
    elif changed_ns > step.sent_ns + usual_ns:
        doubt = "too late to be its doing"
    elif not device.status:
        doubt = "it went down and has not come back"
    else:
        return Finding(step, Outcome.CONFIRMED, None, f"{seen}: it went down and came back")
    return Finding(step, Outcome.UNKNOWN, None, f"{seen}: {doubt}")


def decide(step: UnknownStep, assumption: Assumption, operator: str) -> Finding:
    """What an operator's word makes of a step that may have run."""
    if assumption is Assumption.EXECUTED:
        return Finding(step, Outcome.ACCEPTED, Reason.ASSUMED, f"{operator} decided that it was executed")
    return Finding(step, Outcome.FAILED, Reason.ASSUMED, f"{operator} decided that it was not executed")


async def reconcile(
    state: StateDir, run_id: str, inventory: Inventory, *, limit_ns: int, serials: Sequence[str] = ()
) -> list[Finding]:
    """Look for evidence on a run's unknown steps, and put it on record.

    Args:
        state: Where the runs are.
        run_id: The run, which no process may be driving.
        inventory: Where to look.
        limit_ns: How long after its settle time a device may have taken to come back.
        serials: Only these devices; all where there are none.

    Returns:
        What was found, in manifest order.

    Raises:
        RunBusyError: A process drives the run.
        AbortedError: The inventory cannot be read.
        JournalError: The journal cannot be read or written.
        UsageError: There is no such run, or no step of one of the devices is unknown.
    """
    with _held(state, run_id) as path:
        steps = _chosen(run_id, unknown_steps(path), serials)
        if not steps:
            return []
        since = datetime.fromtimestamp(min(step.sent_ns for step in steps) // NS_PER_S, tz=UTC)
        devices = await find_devices(
            inventory, sorted({step.serial for step in steps}), DeviceFilter(last_status_change_from=since)
        )
        followed = sent_to_since(state, run_id, {step.serial: step.sent_ns for step in steps})
        findings = [
            judge(
                replace(step, followed=step.followed or step.serial in followed),
                devices.get(step.serial),
                step.settle_ns + limit_ns,
            )
            for step in steps
        ]
        record_findings(path, findings)
        return findings


def assume(state: StateDir, run_id: str, assumption: Assumption, *, serials: Sequence[str] = ()) -> list[Finding]:
    """Decide by hand about a run's unknown steps, on record with the operator's login name.

    Raises:
        RunBusyError: A process drives the run.
        JournalError: The journal cannot be read or written.
        UsageError: There is no such run, or no step of one of the devices is unknown.
    """
    with _held(state, run_id) as path:
        findings = [decide(step, assumption, _operator()) for step in _chosen(run_id, unknown_steps(path), serials)]
        record_findings(path, findings)
        return findings


@contextmanager
def _held(state: StateDir, run_id: str) -> Iterator[Path]:
    """Hold a run, so that nobody resumes it meanwhile; its journal.

    Raises:
        RunBusyError: A process drives it.
        UsageError: There is no such run.
    """
    path = state.journal_path(run_id)
    if not path.exists():
        raise no_such_run(run_id)
    lock = state.lock_run(run_id)
    try:
        yield path
    finally:
        lock.release()


def _chosen(run_id: str, steps: list[UnknownStep], serials: Sequence[str]) -> list[UnknownStep]:
    """The steps of these devices, of all where there are none.

    Raises:
        UsageError: No step of one of the devices is unknown.
    """
    others = set(serials) - {step.serial for step in steps}
    if others:
        raise UsageError(
            f"run {run_id} has no unknown step of {', '.join(sorted(others))}",
            hint=f"`fleetops report {run_id} --outcome unknown` lists those that it has",
        )
    return [step for step in steps if not serials or step.serial in serials]


def _operator() -> str:
    """The login name of whoever decides; the number of the user where it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _moment(moment_ns: int) -> str:
    return datetime.fromtimestamp(moment_ns // NS_PER_S, tz=UTC).isoformat().replace("+00:00", "Z")
