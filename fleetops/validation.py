"""A manifest and a policy, validated together: what a campaign is before anything is sent or written."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fleetops.documents import Document
from fleetops.errors import InvalidInputError, Problem, Problems, Severity
from fleetops.manifest import read_manifest
from fleetops.model import OPERATIONS, Operation
from fleetops.planning import steps_of
from fleetops.policy.exclusion import excluded
from fleetops.policy.files import OPTIONS, read_policy_file, resolve_policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

    from fleetops.manifest import Manifest
    from fleetops.model import Reason, Steps
    from fleetops.policy import Policy


@dataclass(frozen=True, slots=True)
class Campaign:
    """A manifest and a policy, validated together.

    Attributes:
        manifest: The manifest.
        policy: The policy in force: the defaults, the manifest's own, the policy file's, the options'.
        steps: What is to be done.
        excluded: Devices that the policy's `allow` and `deny` leave out, and why.
        policy_file: The policy file that took part, as it was named; None without one.
        options: The settings that were given on top, in the shape of a policy file.
    """

    manifest: Manifest
    policy: Policy
    steps: Steps
    excluded: Mapping[int, Reason]
    policy_file: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> Problems:
        """What does not stop the campaign."""
        return self.manifest.warnings

    @property
    def devices(self) -> int:
        """How many devices are to be sent to."""
        return len(self.steps.serials) - len(self.excluded)

    def steps_by_operation(self) -> dict[Operation, int]:
        """How many steps each operation has that it occurs in."""
        counts = {operation: self.steps.operation_of.count(code) for code, operation in enumerate(OPERATIONS)}
        return {operation: count for operation, count in counts.items() if count}

    def destructive_devices(self) -> int:
        """How many devices lose data or configuration."""
        steps = self.steps
        codes = bytes(code for code, operation in enumerate(OPERATIONS) if operation.destructive)
        if not any(code in steps.operation_of for code in codes):
            return 0
        pairs = zip(steps.device_of, steps.operation_of, strict=True)
        return len({device for device, code in pairs if code in codes and device not in self.excluded})


def validate(
    source: str | Path,
    *,
    policy_file: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    stdin: BinaryIO | None = None,
) -> Campaign:
    """Read and check a manifest and its policy; nothing is sent and nothing is written.

    Args:
        source: The manifest: a path, or `-` for standard input.
        policy_file: A policy in YAML or TOML; it overrides what the manifest says.
        options: Settings that override both, in the shape of a policy file.
        stdin: What `-` reads; by default the process's standard input.

    Raises:
        InvalidInputError: With all the problems that were found.
    """
    layers = [Document(OPTIONS, dict(options or {}))]
    if policy_file is not None:
        layers.insert(0, read_policy_file(policy_file))
    pattern = next(
        (layer.values["serial_pattern"] for layer in reversed(layers) if layer.has(["serial_pattern"])), None
    )
    manifest = read_manifest(str(source), serial_pattern=pattern if isinstance(pattern, str) else None, stdin=stdin)
    if manifest.policy is not None:
        layers.insert(0, manifest.policy)
    policy = resolve_policy(layers)
    steps = steps_of(manifest, policy)
    campaign = Campaign(
        manifest,
        policy,
        steps,
        excluded(policy, steps.serials),
        None if policy_file is None else str(policy_file),
        dict(options or {}),
    )
    _check_size(campaign)
    _warn(campaign)
    return campaign


def _check_size(campaign: Campaign) -> None:
    most = campaign.policy.max_devices
    if most is not None and campaign.devices > most:
        raise _invalid(
            campaign,
            "too-many-devices",
            f"the campaign has {campaign.devices:,} devices, more than the {most:,} that are allowed",
            "check that this is the right manifest; --max-devices raises the limit",
        )


def _warn(campaign: Campaign) -> None:
    """Add to the manifest's warnings what of the policy comes to nothing on its devices."""
    policy, serials = campaign.policy, campaign.steps.serials
    found = [
        (f"the {name} pattern {pattern!r} matches no device", "it has to match a whole serial number: AB.*")
        for name, patterns in (("allow", policy.allow), ("deny", policy.deny))
        for pattern in patterns
        if not any(map(re.compile(pattern).fullmatch, serials))
    ]
    if serials and not campaign.devices:
        found.append(("every device is left out: nothing is sent", "look at `allow` and `deny`"))
    if policy.group_cap is not None and not any(campaign.steps.groups):
        found.append(("there is a group cap, and no device has a group", "name the groups in a column `group`"))
    found += _hopeless_gates(campaign)
    for message, hint in found:
        problem = Problem(Severity.WARNING, "no-effect", message, campaign.manifest.source, hint=hint)
        campaign.warnings.add(problem)


def _hopeless_gates(campaign: Campaign) -> list[tuple[str, str]]:
    """Waves that are too small for their gate ever to pass."""
    policy, steps = campaign.policy, campaign.steps
    if policy.waves is None or not campaign.devices:
        return []
    longest = max(Counter(steps.device_of).values())
    needed = policy.gate.min_sample
    ends = policy.waves.ends(campaign.devices)
    few = [
        (wave, end - before)
        for wave, (before, end) in enumerate(pairwise((0, *ends)), start=1)
        if wave < len(ends) and (end - before) * longest < needed
    ]
    hint = "make the wave larger, or lower `after` in the gate"
    return [
        (f"wave {wave} lets in {size:,} of the devices: too few for the {needed:,} finished steps of its gate", hint)
        for wave, size in few
    ]


def _invalid(campaign: Campaign, code: str, message: str, hint: str) -> InvalidInputError:
    problems = Problems()
    problems.add(Problem(Severity.ERROR, code, message, campaign.manifest.source, hint=hint))
    return InvalidInputError(message, problems=problems)
