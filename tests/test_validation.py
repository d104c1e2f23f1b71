from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.errors import InvalidInputError
from fleetops.model import Operation
from fleetops.validation import validate

if TYPE_CHECKING:
    from pathlib import Path


def test_a_campaign_is_a_manifest_and_the_policy_of_all_layers(tmp_path: Path) -> None:
    source = tmp_path / "m.yaml"
    source.write_text(
        "policy: {rate: 1/s, burst: 3, concurrency: 2}\n"
        "sequences:\n  - {devices: [A, B], operations: [factory, sync]}\n"
    )
    policy = tmp_path / "p.toml"
    policy.write_text('rate = "2/s"\nconcurrency = 4\n')
    campaign = validate(str(source), policy_file=policy, options={"rate": "3/s", "deny": "B"})
    assert (str(campaign.policy.rate), campaign.policy.burst, campaign.policy.concurrency) == ("3/s", 3, 4)
    assert campaign.steps_by_operation() == {Operation.FACTORY: 2, Operation.SYNC: 2}
    assert (campaign.devices, campaign.destructive_devices()) == (1, 1)


def test_a_serial_pattern_of_the_options_counts_for_the_manifest(tmp_path: Path) -> None:
    source = str(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("serial_number,operation\na/b,sync\n")
    with pytest.raises(InvalidInputError):
        validate(source)
    assert validate(source, options={"serial_pattern": "[a-z/]+"}).devices == 1


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({}, []),
        (
            {"allow": ["A.*", "X.*"], "deny": "AB9"},
            ["the allow pattern 'X.*' matches", "the deny pattern 'AB9' matches"],
        ),
        ({"deny": ".*"}, ["every device is left out"]),
        ({"group_cap": 2}, ["there is a group cap, and no device has a group"]),
        (
            {"waves": "1,100%", "gate": "failed<=1%, after 2"},
            ["wave 1 lets in 1 of the devices: too few for the 2 finished"],
        ),
        ({"waves": "1,100%", "gate": "failed<=1%"}, []),
        ({"waves": "100%", "gate": "failed<=1%, after 9"}, []),
    ],
)
def test_what_of_the_policy_comes_to_nothing_is_warned_of(
    options: dict[str, object], messages: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "m.csv"
    source.write_text("serial_number,operation\nAB1,reboot\nAB2,reboot\n", encoding="utf-8")
    warnings = validate(str(source), options=options).warnings
    assert not warnings.errors
    assert [problem.code for problem in warnings.listed] == ["no-effect"] * len(messages)
    for problem, message in zip(warnings.listed, messages, strict=True):
        assert problem.message.startswith(message)
        assert problem.hint


@pytest.mark.parametrize("pattern", ["AB*", "A*1", "*", "AB-*"])
def test_a_pattern_of_a_shell_is_refused(pattern: str, tmp_path: Path) -> None:
    source = tmp_path / "m.csv"
    source.write_text("serial_number,operation\nAB1,reboot\n", encoding="utf-8")
    with pytest.raises(InvalidInputError) as raised:
        validate(str(source), options={"deny": pattern})
    (problem,) = raised.value.problems.listed
    assert "regular expression" in problem.message
