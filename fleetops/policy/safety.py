"""The safety settings of a policy in words, for whoever approves a campaign or looks back at one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.model import OPERATIONS
from fleetops.policy.fields import format_cap
from fleetops.policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetops.policy.settings import Policy


def safety_in_words(policy: Policy) -> list[tuple[str, str]]:
    """What keeps a campaign from doing harm: each setting and what it says, those that are not set included."""
    return [
        ("windows", _windows(policy)),
        ("waves", _waves(policy)),
        ("budgets", "; ".join(map(str, policy.abort_when)) or "none"),
        ("group cap", format_cap(policy.group_cap) or "none"),
        ("offline", _offline(policy)),
        ("confirm", _confirm(policy)),
        ("outage", _outage(policy)),
        ("throttled", _throttled(policy)),
        (
            "sent again",
            ", ".join(one for one in OPERATIONS if policy.resend.allows(one)) or "nothing that may have run",
        ),
        ("devices", "; ".join(_devices(policy)) or "all of the manifest"),
    ]


def _windows(policy: Policy) -> str:
    if not policy.window:
        return "at any time"
    blackout = f"; not on {', '.join(map(str, policy.blackout))}" if policy.blackout else ""
    return f"{'; '.join(map(str, policy.window))}{blackout}; at the end: {policy.at_end}"


def _waves(policy: Policy) -> str:
    if policy.waves is None:
        return "none"
    return f"{policy.waves}; gate: {policy.gate}; where it fails: {policy.on_gate_failed}"


def _offline(policy: Policy) -> str:
    return f"{policy.offline}; devices are {'' if policy.looks_before else 'not '}looked up before the run"


def _confirm(policy: Policy) -> str:
    confirm = policy.confirm
    if not confirm.enabled:
        return "none"
    after = "" if set(confirm.operations) == set(OPERATIONS) else f", after {', '.join(confirm.operations)}"
    every = format_duration(confirm.every_ns)
    return f"for {format_duration(confirm.limit_ns)} after the settle time, every {every}{after}"


def _outage(policy: Policy) -> str:
    breaker = policy.breaker
    if not breaker.failures:
        return "no circuit breaker"
    holds = f"{format_duration(breaker.hold_ns)} to {format_duration(breaker.longest_hold_ns)}"
    return (
        f"after {breaker.failures} failures in a row, one try every {holds}; the run stops after "
        f"{format_duration(breaker.give_up_ns)}"
    )


def _throttled(policy: Policy) -> str:
    throttling = policy.throttling
    return (
        f"held for as long as the service says, at most {format_duration(throttling.longest_hold_ns)}, else for "
        f"{format_duration(throttling.hold_ns)}; the run stops after {format_duration(throttling.give_up_ns)}"
    )


def _devices(policy: Policy) -> Iterator[str]:
    if policy.max_devices is not None:
        yield f"at most {policy.max_devices:,}"
    if policy.allow:
        yield f"only {', '.join(policy.allow)}"
    if policy.deny:
        yield f"not {', '.join(policy.deny)}"
