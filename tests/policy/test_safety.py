from __future__ import annotations

import pytest

from fleetops.policy import Policy
from fleetops.policy.safety import safety_in_words


def test_what_is_not_set_is_said_as_well() -> None:
    assert dict(safety_in_words(Policy())) == {
        "windows": "at any time",
        "waves": "none",
        "budgets": "none",
        "group cap": "none",
        "offline": "send; devices are not looked up before the run",
        "confirm": "none",
        "outage": "after 10 failures in a row, one try every 5s to 1m; the run stops after 1h",
        "throttled": "held for as long as the service says, at most 10m, else for 30s; the run stops after 1h",
        "sent again": "sync, reconf",
        "devices": "all of the manifest",
    }


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        (
            {
                "window": ["02:00-05:00 Europe/Madrid", "sat 22:00-04:00 UTC"],
                "blackout": ["2026-12-24"],
                "at_end": "wait",
            },
            "windows",
            "02:00-05:00 Europe/Madrid; sat 22:00-04:00 UTC; not on 2026-12-24; at the end: wait",
        ),
        ({"window": "02:00-05:00 UTC"}, "windows", "02:00-05:00 UTC; at the end: stop"),
        (
            {"waves": "1%,100%", "gate": "failed<=2%, soak 10m", "on_gate_failed": "pause"},
            "waves",
            "1%,100%; gate: failed<=2%, soak 10m; where it fails: pause",
        ),
        ({"abort_when": ["unknown>20", "sync: consecutive>3"]}, "budgets", "unknown>20; sync: consecutive>3"),
        ({"group_cap": "5%"}, "group cap", "5%"),
        ({"offline": "skip"}, "offline", "skip; devices are looked up before the run"),
        ({"preflight": True}, "offline", "send; devices are looked up before the run"),
        ({"confirm": True}, "confirm", "for 10m after the settle time, every 10s"),
        (
            {"confirm": {"enabled": True, "limit": "90s", "operations": ["reboot", "factory"]}},
            "confirm",
            "for 90s after the settle time, every 10s, after reboot, factory",
        ),
        ({"breaker": {"failures": 0}}, "outage", "no circuit breaker"),
        ({"resend": {"sync": False, "reconf": False}}, "sent again", "nothing that may have run"),
        (
            {"max_devices": 40_000, "allow": "AB.*", "deny": ["AB1", "AB2"]},
            "devices",
            "at most 40,000; only AB.*; not AB1, AB2",
        ),
    ],
)
def test_each_setting_is_said_in_words(settings: dict[str, object], name: str, words: str) -> None:
    assert dict(safety_in_words(Policy.model_validate(settings)))[name] == words
