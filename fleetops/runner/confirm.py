"""Looks for devices in the inventory until they have come back, while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import anyio

from fleetops.control import DeviceFilter, InventoryError, find_devices
from fleetops.errors import AbortedError, FleetopsError
from fleetops.model import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetops.control import Device, Inventory
    from fleetops.journal import Journal, RunClock
    from fleetops.model import Steps
    from fleetops.scheduler import Effect, Look, Scheduler

_NOTHING: Final = 0.2
"""How often, in seconds, it is looked whether there is a device to look for."""


@dataclass(frozen=True, slots=True)
class Confirmer:
    """Confirms accepted steps.

    Attributes:
        scheduler: Says which devices to look for, and is told of what was seen.
        journal: Is told what that changed.
        inventory: Where to look.
        clock: The run's clock.
        steps: The campaign's steps.
        changed: Called with what was seen changes, which may let something be sent, or stop the run.
        fail: Called where the inventory cannot be used at all, with why.
    """

    scheduler: Scheduler
    journal: Journal
    inventory: Inventory
    clock: RunClock
    steps: Steps
    changed: Callable[[Sequence[Effect]], None]
    fail: Callable[[FleetopsError], None]

    async def watch(self) -> None:
        """Look for devices until cancelled."""
        while True:
            due_ns = self.scheduler.next_look_ns
            now_ns = self.clock.now_ns()
            if due_ns is None or due_ns > now_ns:
                soon_s = _NOTHING if due_ns is None else min(_NOTHING, (due_ns - now_ns) / NS_PER_S)
                await anyio.sleep(soon_s)
                continue
            await self._look_for(self.scheduler.looks(now_ns))

    async def _look_for(self, looks: Sequence[Look]) -> None:
        found: dict[str, Device] | None = None
        try:
            found = await self._find(looks)
        except InventoryError:
            # It may be better by the next look, and says nothing of the devices.
            pass
        except FleetopsError as error:
            self.fail(error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has to end in good order
            # Its own words are left out: they may quote the request, and the token with it.
            self.fail(
                AbortedError(
                    f"the inventory's client failed: {type(error).__name__}",
                    hint="`fleetops resume` goes on with the run",
                )
            )
            return
        for look in looks:
            if found is None:
                self._seen(look, up=None)
            else:
                device = found.get(self.steps.serials[look.device])
                changed_ns = None if device is None else device.last_status_change_ns
                self._seen(look, up=device is not None and device.status is True, changed_ns=changed_ns)

    async def _find(self, looks: Sequence[Look]) -> dict[str, Device]:
        """What the inventory has of the devices, by serial number; those that have not come back may be left out."""
        since_ns = min(look.sent_ns for look in looks)
        came_back = DeviceFilter(
            status=True, last_status_change_from=datetime.fromtimestamp(since_ns // NS_PER_S, tz=UTC)
        )
        return await find_devices(self.inventory, [self.steps.serials[look.device] for look in looks], came_back)

    def _seen(self, look: Look, *, up: bool | None, changed_ns: int | None = None) -> None:
        now_ns = self.clock.now_ns()
        effects = self.scheduler.seen(look, up=up, changed_ns=changed_ns, now_ns=now_ns)
        if effects:
            self.journal.confirmed(effects, now_ns)
            self.changed(effects)
