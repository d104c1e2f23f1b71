"""stub"""

from fleetops.plan.document import Plan


def render_html(plan: Plan) -> str:
    return ""
