"""Plans: what a campaign will do and how long it takes, from the scheduler that then does it."""

from fleetops.plan.assumptions import Assumptions, parse_assumptions
from fleetops.plan.differences import (
    Difference,
    Forecast,
    Reckoning,
    check_plan,
    compare_with_run,
    diff_plans,
    require_unchanged,
)
from fleetops.plan.document import Plan, Risk
from fleetops.plan.files import frozen_for, manifest_path, policy_path, read_plan
from fleetops.plan.learn import learned
from fleetops.plan.make import WhatIf, make_plan, what_if
from fleetops.plan.page import render_html
from fleetops.plan.risks import risks_of_live_runs
from fleetops.plan.text import render_differences, render_text, render_what_if

__all__ = [
    "Assumptions",
    "Difference",
    "Forecast",
    "Plan",
    "Reckoning",
    "Risk",
    "WhatIf",
    "check_plan",
    "compare_with_run",
    "diff_plans",
    "frozen_for",
    "learned",
    "make_plan",
    "manifest_path",
    "parse_assumptions",
    "policy_path",
    "read_plan",
    "render_differences",
    "render_html",
    "render_text",
    "render_what_if",
    "require_unchanged",
    "risks_of_live_runs",
    "what_if",
]
