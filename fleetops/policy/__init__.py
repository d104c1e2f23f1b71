"""How to run a campaign: the settings, and the pure rules that they drive."""

from fleetops.policy.settings import DEFAULTS, OnFailure, Policy, merged, policy_schema
from fleetops.policy.units import Rate, format_duration, parse_duration_ns, parse_rate

__all__ = [
    "DEFAULTS",
    "OnFailure",
    "Policy",
    "Rate",
    "format_duration",
    "merged",
    "parse_duration_ns",
    "parse_rate",
    "policy_schema",
]
