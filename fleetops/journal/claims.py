"""What other runs on this host mean for a run that is about to start: devices they hold, devices that still settle."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from fleetops.errors import FleetopsError, JournalError, RunBusyError
from fleetops.journal.progress import settling_devices, unfinished_serials
from fleetops.journal.store import UNREADABLE, connect, read_facts
from fleetops.policy import Policy
from fleetops.policy.pacing import longest_attempt_ns

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fleetops.journal.clock import RunClock
    from fleetops.journal.state import StateDir

_NAMED: Final = 3


def claim_devices(
    state: StateDir,
    run_id: str,
    base_url: str,
    devices: Callable[[], Mapping[str, int]],
    clock: RunClock,
    *,
    now_ns: int,
    alongside: bool = False,
) -> dict[int, int]:
    """Check that no live run stands in the way of a run; called while `StateDir.claiming` is held.

    Args:
        state: Where the runs are.
        run_id: The run that asks, which does not stand in its own way.
        base_url: Its control plane; devices of other control planes are other devices.
        devices: Gives serial number to device, of the devices that it has yet to do something on; called where
            another run has to do with this one, which is seldom.
        clock: Its clock.
        now_ns: The time now.
        alongside: Whether other runs may be live on the same control plane, as long as they hold none of the devices.

    Returns:
        By device, when it will have settled from what another run told it; settled ones are left out.

    Raises:
        RunBusyError: A live run holds some of the devices, or is there at all.
        JournalError: A live run's journal cannot be read.
    """
    not_before_ns: dict[int, int] = {}
    for other in state.run_ids():
        if other == run_id:
            continue
        live = state.is_live(other)
        try:
            path = state.journal_path(other)
            with closing(connect(path, writable=False, at_rest=not live and not _has_wal(path))) as connection:
                if read_facts(connection).base_url != base_url:
                    continue
                if live:
                    _refuse_shared(other, connection, devices())
                    if not alongside:
                        raise _also_live(other)
                if live or _may_still_settle(connection, clock, now_ns):
                    _take_later(not_before_ns, connection, devices, clock, now_ns)
        except RunBusyError:
            raise
        except (FleetopsError, OSError, *UNREADABLE) as error:
            # A damaged journal of a dead run must not keep every other run from starting.
            if live:
                raise _unreadable(other, error) from None
    return not_before_ns


def _has_wal(path: Path) -> bool:
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _refuse_shared(other: str, connection: sqlite3.Connection, devices: Mapping[str, int]) -> None:
    shared = [serial for serial in unfinished_serials(connection) if serial in devices]
    if shared:
        named = ", ".join(sorted(shared)[:_NAMED]) + (", ..." if len(shared) > _NAMED else "")
        raise RunBusyError(
            f"run {other} is live and holds {len(shared)} of these devices: {named}",
            hint=f"wait for it, or stop it, or leave these devices out; `fleetops status {other}` shows how far it is",
        )


def _also_live(other: str) -> RunBusyError:
    return RunBusyError(
        f"run {other} is live on the same control plane: two runs add up their rates",
        hint=f"wait for it (`fleetops status {other} --watch`), or run `--alongside` it",
    )


def _unreadable(other: str, error: Exception) -> JournalError:
    return JournalError(
        f"run {other} is live, but its journal cannot be read: {error}",
        hint="which devices it holds is not known: wait until it is over, or stop it",
    )


def _may_still_settle(connection: sqlite3.Connection, clock: RunClock, now_ns: int) -> bool:
    """Whether a run that is over ended so recently that a device of it may not have settled."""
    rows = connection.execute("SELECT boot_id, wall_minus_boot_ns, ended_ns, policy FROM process").fetchall()
    longest_ns = int(connection.execute("SELECT value FROM run WHERE key = 'longest_settle_ns'").fetchone()[0])
    last_intent_ns = 0
    if any(ended_ns is None for _, _, ended_ns, _ in rows):
        last_intent_ns = connection.execute("SELECT coalesce(max(intent_ns), 0) FROM attempt").fetchone()[0]
    for boot, wall_minus_boot_ns, ended_ns, policy_json in rows:
        over_ns = ended_ns
        if over_ns is None:
            over_ns = last_intent_ns + longest_attempt_ns(Policy.from_json(policy_json))
        if over_ns + clock.shift_ns(boot, wall_minus_boot_ns) + longest_ns > now_ns:
            return True
    return False


def _take_later(
    not_before_ns: dict[int, int],
    connection: sqlite3.Connection,
    devices: Callable[[], Mapping[str, int]],
    clock: RunClock,
    now_ns: int,
) -> None:
    theirs = settling_devices(connection, clock, now_ns=now_ns).after_any_ns
    if not theirs:
        return
    wanted = devices()
    for device, serial in connection.execute("SELECT device, serial FROM device"):
        mine = wanted.get(serial)
        if mine is not None and device in theirs:
            not_before_ns[mine] = max(not_before_ns.get(mine, 0), theirs[device])
