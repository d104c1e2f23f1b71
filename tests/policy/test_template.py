from __future__ import annotations

import json
from itertools import pairwise

import yaml

from fleetops.policy import DEFAULTS, Policy
from fleetops.policy.template import commented_policy


def test_a_template_with_all_marks_taken_off_is_the_default_policy() -> None:
    lines = commented_policy().splitlines()[2:]
    settings = "\n".join(line.removeprefix("# ") for line in lines if not line.startswith("##"))
    values = yaml.safe_load(settings)
    assert Policy.model_validate(values) == DEFAULTS
    assert set(values) == set(json.loads(DEFAULTS.to_json()))


def test_as_it_is_it_sets_the_default_rate_alone() -> None:
    assert yaml.safe_load(commented_policy()) == {"rate": str(DEFAULTS.rate)}


def test_every_setting_is_described() -> None:
    lines = commented_policy().splitlines()[2:]
    for before, line in pairwise(lines):
        if line.startswith(("# ", "rate:")):
            assert before.startswith(("##", "# ")), line
