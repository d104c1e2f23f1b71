"""A plan as one self-contained page, to be attached to a change ticket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from fleetops.page import Chart, Facts, Notes, Page, Section, Source, Table, Text, render_page
from fleetops.plan.text import bound_name, printable, remedies_title, worded
from fleetops.plan.wording import counted, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetops.page import Part
    from fleetops.plan.document import GroupUse, Plan, Predictions

_MOST_BARS: Final = 30
_MOST_LABEL: Final = 40
_MOST_COLUMNS: Final = 96
_UNITS: Final = ((172_800, 86_400, "days"), (7_200, 3_600, "hours"), (180, 60, "minutes"))


def render_html(plan: Plan) -> str:
    """The plan as an HTML document."""
    said = plan.predictions
    low_s, high_s = said.range_s
    page = Page(
        title=f"Plan: {plan.manifest.campaign}",
        lead=f"{plan.work.devices:,} devices, {plan.work.steps:,} steps, {span(said.makespan_s)} "
        f"(between {span(low_s)} and {span(high_s)}) from {said.start_at}",
        sections=[section for section in _sections(plan) if section.parts],
        footer=f"Plan {plan.digest}, made by fleetops {plan.fleetops_version} (scheduler {plan.scheduler_version}). "
        "Times are in UTC.",
    )
    return render_page(page)


def _sections(plan: Plan) -> Iterator[Section]:
    said, scale = plan.predictions, _Scale(plan.predictions)
    yield Section("What is planned", _overview(plan))
    yield Section("Risks", [Notes([(risk.message, risk.hint) for risk in plan.risks])] if plan.risks else [])
    yield Section("How long it takes", _duration(plan))
    yield Section("What happens when", [_disturbed(said, scale), _answered(said, scale), *_phases(said, scale)])
    yield Section("Groups", _groups(said))
    yield Section("Details", _details(plan))


class _Scale:
    """The unit of time in which a run is drawn, and the moments at which its slices begin."""

    def __init__(self, said: Predictions) -> None:
        whole_s = max(said.settled_s, said.makespan_s)
        _, self.unit_s, self.unit = next((one for one in _UNITS if whole_s >= one[0]), (0, 1, "seconds"))
        self.slice_s = said.series.slice_s
        self.end = self.units(whole_s)

    def units(self, seconds: float) -> float:
        """So many seconds in the unit."""
        return round(seconds / self.unit_s, 4)

    def moments(self, count: int) -> list[float]:
        """When each slice begins."""
        return [self.units(at * self.slice_s) for at in range(count)]

    def axis(self, margin: float = 0.0) -> dict[str, Any]:
        """The axis of time, by a share longer than the run."""
        name = f"{self.unit} from the start"
        return {
            "type": "value",
            "min": 0,
            "max": round(self.end * (1 + margin), 4),
            "name": name,
            "nameLocation": "middle",
            "nameGap": 28,
            "axisLabel": {"showMaxLabel": False},
        }


def _overview(plan: Plan) -> list[Part]:
    work, said = plan.work, plan.predictions
    low_s, high_s = said.range_s
    pairs = [
        ("Devices", f"{work.devices:,}" + (f" in {work.groups:,} groups" if work.groups else "")),
        ("Steps", f"{work.steps:,}"),
        ("Destructive steps", f"{work.destructive:,}"),
        ("Start", said.start_at),
        ("End", f"{said.end_at} ({worded(said.ended)})"),
        ("Takes", f"{span(said.makespan_s)} ({span(low_s)} to {span(high_s)})"),
        ("Last device settled after", span(said.settled_s)),
        ("Disturbed at once, at most", f"{said.peak_disturbed:,} devices"),
        ("Requests", f"{said.sends:,}, {said.most_in_flight:,} under way at once"),
        ("Outcomes", ", ".join(f"{count:,} {worded(name)}" for name, count in said.outcomes.items())),
        ("Manifest", plan.manifest.path),
        ("Service", plan.base_url or "not said"),
    ]
    if said.complete_at:
        pairs.insert(5, ("Complete", f"{said.complete_at}, if resumed in each further window"))
    rows = [(name, count) for name, count in work.operations.items()]
    return [
        Facts([(term, printable(what)) for term, what in pairs]),
        Table("Steps by operation", ("operation", "steps"), rows),
    ]


def _duration(plan: Plan) -> list[Part]:
    said = plan.predictions
    parts: list[Part] = []
    if said.bounds:
        rows = [(bound_name(bound.name), span(bound.at_least_s), printable(bound.explanation)) for bound in said.bounds]
        parts.append(Text(f"It is bounded by {rows[0][0]}. Each of these alone takes at least so long:"))
        parts.append(Table("What it is bounded by", ("what", "at least", "why"), rows))
    if said.remedies:
        shorter = [(remedy.setting, span(remedy.makespan_s)) for remedy in said.remedies]
        parts.append(Table(remedies_title(said), ("setting", "takes"), shorter))
    parts.append(Text(f"Reckoned with: {plan.assumptions}. The range: {said.range_method}."))
    return parts


def _line(name: str, moments: Sequence[float], values: Sequence[int], **more: Any) -> dict[str, Any]:
    points = [list(point) for point in zip(moments, values, strict=True)]
    return {"type": "line", "name": name, "showSymbol": False, "data": points, **more}


def _disturbed(said: Predictions, scale: _Scale) -> Chart:
    values = said.series.disturbed
    moments = scale.moments(len(values))
    return Chart(
        title="Devices disturbed over time",
        description=f"In flight, or left alone to settle. At most {said.peak_disturbed:,} at once, "
        f"{span(said.peak_at_s)} after the start.",
        option={
            "xAxis": scale.axis(),
            "yAxis": {"type": "value", "minInterval": 1},
            "tooltip": {"trigger": "axis"},
            "series": [_line("devices disturbed", moments, values, step="end", areaStyle={"opacity": 0.25})],
        },
        table=Table(
            "Devices disturbed over time",
            (f"{scale.unit} from the start", "devices disturbed at most"),
            list(zip(moments, values, strict=True)),
            folded=True,
        ),
    )


def _summed(counts: Sequence[int], together: int) -> list[int]:
    """Counts of so many slices taken together."""
    return [sum(counts[at : at + together]) for at in range(0, len(counts), together)]


def _answered(said: Predictions, scale: _Scale) -> Chart:
    together = -(-len(said.series.disturbed) // _MOST_COLUMNS)
    answered = {name: _summed(counts, together) for name, counts in said.series.answered.items()}
    moments = scale.moments(len(said.series.disturbed))[::together]
    length = span(said.series.slice_s * together)
    totals = ", ".join(f"{sum(counts):,} {name}" for name, counts in answered.items()) or "none"
    return Chart(
        title="Steps answered over time, by operation",
        description=f"Accepted steps in each {length}: {totals} in all.",
        option={
            "xAxis": scale.axis(),
            "yAxis": {"type": "value", "minInterval": 1},
            "tooltip": {"trigger": "axis"},
            "series": [
                _line(name, moments, counts, step="end", stack="steps", areaStyle={"opacity": 0.7})
                for name, counts in answered.items()
            ],
        },
        table=Table(
            "Steps answered over time",
            (f"{scale.unit} from the start", *answered),
            list(zip(moments, *answered.values(), strict=True)),
            folded=True,
        ),
    )


def _phases(said: Predictions, scale: _Scale) -> Iterator[Part]:
    """Waves and windows as bars on one line of time; without any of them there is nothing to draw."""
    spans = [
        (f"wave {use.wave}", use.start_s, use.end_s)
        for use in said.waves
        if use.start_s is not None and use.end_s is not None
    ]
    waves = len(spans)
    spans += [
        (f"window {number}", max(0.0, use.opens_s), min(use.closes_s, scale.end * scale.unit_s))
        for number, use in enumerate(said.windows, start=1)
        if use.opens_s <= scale.end * scale.unit_s
    ]
    if spans:
        names = [name for name, _, _ in spans]
        starts = [scale.units(start_s) for _, start_s, _ in spans]
        lengths = [scale.units(end_s - start_s) for _, start_s, end_s in spans]
        bar = {"type": "bar", "stack": "span", "barMaxWidth": 22, "barMinHeight": 2}
        kinds = [
            (name, range(first, last)) for name, first, last in (("waves", 0, waves), ("windows", waves, len(spans)))
        ]
        yield Chart(
            title="Waves and windows",
            description=f"{counted(len(said.waves), 'wave')} and {counted(len(said.windows), 'window')}, "
            "from the start of the run until the last device has settled.",
            option={
                # A last window that is used for a moment only is two pixels wide, and has to fit.
                "xAxis": scale.axis(margin=0.01),
                "yAxis": {"type": "category", "inverse": True, "data": names},
                "series": [
                    {**bar, "name": "", "data": starts},
                    *(
                        {**bar, "name": name, "data": [lengths[at] if at in rows else None for at in range(len(spans))]}
                        for name, rows in kinds
                        if rows
                    ),
                ],
            },
            table=Table(
                "When waves and windows begin and end",
                ("what", "begins after", "ends after"),
                [(name, span(start_s), span(end_s)) for name, start_s, end_s in spans],
                folded=True,
            ),
            height_px=min(110 + 34 * len(spans), 1200),
        )
    if said.waves:
        rows = [
            (f"wave {use.wave}", use.devices, use.steps, _after(use.start_s), _after(use.end_s)) for use in said.waves
        ]
        yield Table("Waves", ("wave", "devices", "steps", "starts after", "ends after"), rows)
    if said.windows:
        header = ("opens", "closes", "sends", "steps left over", "devices left over")
        uses = [
            (use.start_at, use.end_at or "never", use.sends, use.left_steps, use.left_devices) for use in said.windows
        ]
        yield Table("Maintenance windows", header, uses, left_out=said.windows_left_out)


def _after(at_s: float | None) -> str:
    return "never" if at_s is None else span(at_s)


def _groups(said: Predictions) -> list[Part]:
    if not said.groups:
        return []
    shown = said.groups[:_MOST_BARS]
    capped = any(use.cap is not None for use in shown)
    series: list[dict[str, Any]] = [
        {"type": "bar", "name": "disturbed at once", "barMaxWidth": 16, "data": [use.peak for use in shown]}
    ]
    if capped:
        series.append({"type": "bar", "name": "cap", "barMaxWidth": 16, "data": [use.cap for use in shown]})
    return [
        Chart(
            title="Load of the groups",
            description=f"The most devices disturbed at once in each of the {len(shown)} groups with the most"
            + (", and how many may be." if capped else "; there is no cap."),
            option={
                "xAxis": {"type": "value", "minInterval": 1},
                "yAxis": {
                    "type": "category",
                    "inverse": True,
                    "data": [_group_name(use)[:_MOST_LABEL] for use in shown],
                },
                "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
                "series": series,
            },
            table=Table(
                "Groups",
                ("group", "devices", "steps", "disturbed at once", "cap", "last settled after"),
                [
                    (
                        _group_name(use),
                        use.devices,
                        use.steps,
                        use.peak,
                        "none" if use.cap is None else use.cap,
                        span(use.end_s),
                    )
                    for use in said.groups
                ],
                folded=True,
                left_out=said.groups_left_out,
            ),
            height_px=80 + (46 if capped else 28) * len(shown),
        )
    ]


def _group_name(use: GroupUse) -> str:
    return printable(use.group) or "(no group)"


def _details(plan: Plan) -> list[Part]:
    said = plan.predictions
    parts: list[Part] = []
    if said.happenings:
        rows = [(span(one.at_s), worded(one.event), printable(one.detail)) for one in said.happenings]
        parts.append(Table("What happens to the run as a whole", ("after", "what", "details"), rows, folded=True))
    parts.append(Source("The policy", json.dumps(plan.policy, indent=2, ensure_ascii=False)))
    return parts
