from __future__ import annotations

from typing import Any

import pytest

from fleetops.sandbox import SandboxConfig


def test_the_token_is_not_shown() -> None:
    assert "t0ken" not in repr(SandboxConfig(token="t0ken"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"devices": -1}, "-1 devices"),
        ({"devices": 10**9}, "their serial numbers have 9 digits"),
        ({"offline": 1.5}, "offline is a share from 0 to 1, not 1.5"),
        ({"pending": -0.1}, "pending is a share from 0 to 1, not -0.1"),
        ({"latency_s": -1.0}, "a latency from -1 s to -1 s cannot be"),
        ({"latency_s": (2.0, 1.0)}, "a latency from 2 s to 1 s cannot be"),
    ],
)
def test_a_sandbox_that_cannot_be_says_why(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SandboxConfig(**settings)
