"""The same campaign under other settings: one policy for each value of a setting that is to be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleetops.documents import Document
from fleetops.errors import InvalidInputError, UsageError
from fleetops.model import Operation
from fleetops.policy.files import resolve_policy
from fleetops.policy.settings import Policy, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_VARIANTS: Final = 20

_EXAMPLE: Final = "write rate=10/s,20/s,40/s; values that have commas in them are separated by `;`"


@dataclass(frozen=True, slots=True)
class Variant:
    """A policy with one setting changed.

    Attributes:
        setting: What was changed, such as `rate=20/s`.
        policy: The policy with it.
    """

    setting: str
    policy: Policy


def changed(policy: Policy, change: Mapping[str, Any]) -> Policy:
    """A policy with some settings changed, in the shape of a policy file."""
    return Policy.model_validate(merged(json.loads(policy.to_json()), change))


def parse_variants(text: str, policy: Policy) -> list[Variant]:
    """Read what to compare, such as `rate=10/s,20/s` or `retries.attempts=1,5`; `settle=` sets it for every operation.

    Raises:
        UsageError: It cannot be read, or a value is none for that setting.
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    texts = [value.strip() for value in values.split(";" if ";" in values else ",")]
    if not equals or not name or not all(texts):
        raise UsageError(f"{text[:60]!r} does not say what to compare", hint=_EXAMPLE)
    if len(texts) > MOST_VARIANTS:
        raise UsageError(f"{len(texts)} values are too many to compare", hint=f"give {MOST_VARIANTS} at most")
    return [Variant(f"{name}={value}", _with(policy, name, value)) for value in texts]


def _with(policy: Policy, name: str, value: str) -> Policy:
    change: Any = {operation.value: value for operation in Operation} if name == "settle" else _typed(value)
    for key in reversed(name.split(".")):
        change = {key: change}
    layers = [Document("the policy", json.loads(policy.to_json())), Document("--what-if", change)]
    try:
        return resolve_policy(layers)
    except InvalidInputError as error:
        problem = error.problems.listed[0]
        raise UsageError(f"{name}={value[:40]}: {problem.message}", hint=problem.hint or _EXAMPLE) from None


def _typed(value: str) -> object:
    """Text as a policy file would have it: `none` and yes or no mean what they say there."""
    return {"none": None, "true": True, "false": False}.get(value.lower(), value)
