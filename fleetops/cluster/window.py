"""When the chunks of a run may be handed out: a run whose window is closed waits in the database, not on a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.policy.window import Calendar
from fleetops.scheduler.openings import Openings

if TYPE_CHECKING:
    from fleetops.policy import Policy


def starts_ns(policy: Policy, now_ns: int, *, heed_window: bool) -> int:
    """When a run may begin: now, or when the next window opens."""
    if not policy.window or not heed_window:
        return now_ns
    calendar = Calendar(policy.window, policy.blackout)
    if calendar.opening(now_ns) is not None:
        return now_ns
    opening = calendar.next_opening(now_ns)
    return now_ns if opening is None else opening.start_ns


def goes_on_ns(policy: Policy, now_ns: int, settle_ns: int) -> int | None:
    """When a run goes on whose window has shut out all that is left; None where nothing would fit into any window.

    Args:
        policy: How it is run.
        now_ns: The time now.
        settle_ns: The shortest settle time of the steps that are next.
    """
    openings = Openings(policy)
    openings.enter(now_ns)
    return openings.next_start_ns(now_ns, settle_ns)


def opened_ns(policy: Policy, started_ns: int, now_ns: int) -> int | None:
    """The moment at which a run was started, where the opening that this was in is over.

    A chunk that is taken up only then has missed its window, and does not wait for another one.
    """
    opening = Calendar(policy.window, policy.blackout).opening(started_ns) if policy.window else None
    return started_ns if opening is not None and opening.end_ns <= now_ns else None
