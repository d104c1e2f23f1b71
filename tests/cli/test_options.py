from __future__ import annotations

from typing import Any

import pytest

from fleetops.cli.options import policy_layer
from fleetops.errors import UsageError
from fleetops.policy import Policy
from fleetops.policy.settings import merged


@pytest.mark.parametrize(
    ("given", "layer"),
    [
        (["confirm.limit=5m"], {"confirm": {"limit": "5m"}}),
        (["breaker.failures=3", "breaker.hold=2"], {"breaker": {"failures": 3, "hold": 2}}),
        (["waves=null", "window=[]"], {"waves": None, "window": []}),
        (["window=02:00-05:00 UTC"], {"window": "02:00-05:00 UTC"}),
        (["gate=failed<=2%, soak 1m"], {"gate": "failed<=2%, soak 1m"}),
        (
            ['confirm.operations=["reboot"]', " preflight = true "],
            {"confirm": {"operations": ["reboot"]}, "preflight": True},
        ),
    ],
)
def test_any_setting_can_be_set(given: list[str], layer: dict[str, Any]) -> None:
    assert policy_layer({"settings": given}) == layer
    Policy.model_validate(layer)


def test_settings_stand_beside_the_options_for_them() -> None:
    chosen = {"settle": ["reboot=2m"], "confirm": True, "settings": ["settle.sync=5s", "confirm.every=1s"]}
    layer = {"settle": {"reboot": "2m", "sync": "5s"}, "confirm": {"enabled": True, "every": "1s"}}
    assert policy_layer(chosen) == layer


def test_every_setting_of_a_policy_can_be_switched_off() -> None:
    asked = {"window": "02:00-05:00 UTC", "waves": "1,100%", "abort_when": "failed>1", "group_cap": 2, "max_devices": 5}
    off = policy_layer({"settings": ["window=[]", "waves=null", "abort_when=[]", "group_cap=null", "max_devices=null"]})
    assert Policy.model_validate(merged(asked, off)) == Policy()


@pytest.mark.parametrize("given", ["confirm.limt=5m", "nonsense", "=5", "breaker=3", "rate", "confirm.limit=soon"])
def test_what_is_no_setting_is_refused_with_what_there_is(given: str) -> None:
    with pytest.raises(UsageError) as raised:
        policy_layer({"settings": [given]})
    assert raised.value.hint
