"""A run's figures as the sections of a page."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from fleetops.model import Outcome, Reason
from fleetops.page import Chart, Facts, Notes, Page, Section, Table, Text
from fleetops.plan import compare_with_run
from fleetops.plan.text import printable, worded
from fleetops.plan.wording import counted, span
from fleetops.policy.safety import safety_in_words
from fleetops.report.html.figures import LATENCY_UNIT_S, read_figures
from fleetops.report.summary import rounded_duration, summarise
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fleetops.journal.views import RunView
    from fleetops.page import Panel, Part
    from fleetops.plan import Reckoning
    from fleetops.report.html.figures import Figures, GroupFailures
    from fleetops.report.summary import Summary

_MOST_BARS: Final = 30
_MOST_LABEL: Final = 40
_MOST_GROUPS: Final = 500
_UNITS: Final = ((172_800, 86_400, "days"), (7_200, 3_600, "hours"), (180, 60, "minutes"))
_TONES: Final = {
    Outcome.CONFIRMED: 0,
    Outcome.ACCEPTED: 2,
    Outcome.FAILED: 1,
    Outcome.UNKNOWN: 3,
    Outcome.SKIPPED: 5,
    Outcome.NOT_STARTED: 4,
}
"""Which of the page's colours an outcome has, the same in every chart."""
_EDGES_MS: Final = tuple(step * 10**power for power in range(6) for step in (1, 2, 5))
_PERCENTILES: Final = ((0.5, "median"), (0.9, "90 % within"), (0.99, "99 % within"), (1.0, "longest"))


def report_page(view: RunView, rows: Panel, *, only: str = "", live: Panel | None = None) -> Page:
    """The report on a run as a page.

    Args:
        view: The run.
        rows: The table of its rows.
        only: Which rows are in it, in words; empty for all.
        live: What keeps the page up to date; None where it stays as it is. A live page has the same sections and charts
            however the run stands, so that they can be filled in later.

    Raises:
        JournalError: The journal is damaged.
    """
    figures, summary = read_figures(view), summarise(view)
    sections = [
        Section("How it stands", [*([live] if live else []), *_standing(view, figures, summary)]),
        Section("Progress", _progress(view, figures)),
        Section("Rate and throttling", _rate(view, figures)),
        Section("Latency", _latency(figures, keep=live is not None)),
        Section("Failures", list(_failures(figures, summary, keep=live is not None))),
        Section("Every row", [*([Text(only)] if only else []), rows]),
    ]
    title = summary.campaign or summary.manifest
    return Page(
        title=f"Run: {printable(title)}" if title else f"Run {summary.run_id}",
        lead=f"{summary.run_id}: {worded(summary.state)}, {_shares(summary)}",
        sections=sections,
        footer=f"Made by fleetops {__version__}. Times are in UTC.",
        connects=live is not None,
    )


def _shares(summary: Summary) -> str:
    counts = [f"{count:,} {worded(outcome)}" for outcome, count in summary.outcomes.items() if count]
    return f"{', '.join(counts)} of {counted(summary.steps, 'step')}" if counts else "no steps"


def _standing(view: RunView, figures: Figures, summary: Summary) -> Iterator[Part]:
    pairs = [
        ("State", worded(summary.state)),
        ("Ended", summary.ended),
        ("Devices", f"{figures.devices:,}"),
        ("Steps", f"{summary.steps:,}"),
        ("Started", summary.started_at or ""),
        ("Finished", summary.finished_at or ""),
        ("Took", _took(summary)),
        ("Manifest", summary.manifest),
        ("Manifest's SHA-256", view.facts.digest),
        ("Service", view.facts.base_url),
        ("Exit code", "" if view.live else f"{summary.exit_code.value}"),
        ("Sends per second, lately", f"{view.recent_rate_per_s():.1f}" if view.live else ""),
    ]
    yield Facts([(term, printable(what)) for term, what in pairs if what])
    yield Table(
        "Outcomes",
        ("outcome", "steps", "share", "most frequent reasons"),
        [
            (worded(outcome), count, f"{count / max(1, summary.steps):.1%}", _because(summary, outcome))
            for outcome, count in summary.outcomes.items()
            if count
        ],
    )
    yield Text("What kept it from doing harm, as its last process had it set:")
    yield Facts([(name.capitalize(), printable(words)) for name, words in safety_in_words(view.policy)])
    if summary.next_steps:
        yield Text("Next:")
        yield Notes([(step.command, step.why) for step in summary.next_steps])


def _took(summary: Summary) -> str:
    if summary.took_ns is None:
        return ""
    over = f" in {summary.processes} sittings" if summary.processes > 1 else ""
    return f"{rounded_duration(summary.took_ns)}{over}"


def _because(summary: Summary, which: Outcome) -> str:
    return ", ".join(
        f"{worded(reason)} {count:,}" for (outcome, reason), count in summary.reasons.items() if outcome is which
    )


class _Scale:
    """The unit of time in which a run is drawn."""

    def __init__(self, figures: Figures, least_s: float = 0) -> None:
        self.whole_s = max(figures.length_s, figures.slice_s, least_s)
        _, self._unit_s, self.name = next((one for one in _UNITS if self.whole_s >= one[0]), (0, 1, "seconds"))
        self.column = f"{self.name} from the start"
        self._slice_s = figures.slice_s

    def units(self, seconds: float) -> float:
        """So many seconds in the unit."""
        return round(seconds / self._unit_s, 4)

    def ends(self, slices: int) -> list[float]:
        """When each slice ends; the last one may be cut short."""
        return [self.units(min((at + 1) * self._slice_s, self.whole_s)) for at in range(slices)]

    def begins(self, slices: int) -> list[float]:
        """When each slice begins."""
        return [self.units(at * self._slice_s) for at in range(slices)]

    def axis(self) -> dict[str, Any]:
        """The axis of time."""
        return {
            "type": "value",
            "min": 0,
            "max": self.units(self.whole_s),
            "name": self.column,
            "nameLocation": "middle",
            "nameGap": 28,
            "axisLabel": {"showMaxLabel": False},
        }


def _line(name: str, points: Iterable[tuple[float, float]], **more: Any) -> dict[str, Any]:
    return {"type": "line", "name": name, "showSymbol": False, "data": [list(point) for point in points], **more}


def _progress(view: RunView, figures: Figures) -> list[Part]:
    reckoning = compare_with_run(view)
    planned_s = 0.0 if reckoning is None else reckoning.predicted.makespan_s
    scale = _Scale(figures, planned_s)
    ends = _Scale(figures).ends(len(figures.sends)) if planned_s <= figures.length_s else _ends(figures, scale)
    series = [
        _line(
            worded(outcome),
            [(0, 0), *zip(ends, counts, strict=True)],
            stack="steps",
            areaStyle={"opacity": 0.6},
            tone=_TONES[outcome],
        )
        for outcome, counts in figures.finished.items()
    ]
    if reckoning is not None:
        done = [(0.0, 0), (scale.units(planned_s), view.steps), (scale.units(scale.whole_s), view.steps)]
        series.append(_line("as planned", done, tone=4, lineStyle={"type": "dashed"}))
    header = (scale.column, *map(worded, figures.finished))
    chart = Chart(
        title="Steps with an outcome over time",
        description=f"{_finished(figures)} of {counted(view.steps, 'step')} after {span(figures.length_s)}.",
        option={
            "xAxis": scale.axis(),
            "yAxis": {"type": "value", "minInterval": 1},
            "tooltip": {"trigger": "axis"},
            "series": series,
        },
        table=Table(
            "Steps with an outcome over time",
            header,
            list(zip(ends, *figures.finished.values(), strict=True)),
            folded=True,
        ),
    )
    return [chart, *_against_the_plan(reckoning)]


def _ends(figures: Figures, scale: _Scale) -> list[float]:
    """When each slice ends, on a scale that goes further than the run."""
    slices = len(figures.sends)
    return [scale.units(min((at + 1) * figures.slice_s, figures.length_s)) for at in range(slices)]


def _finished(figures: Figures) -> str:
    totals = [f"{counts[-1]:,} {worded(outcome)}" for outcome, counts in figures.finished.items()]
    return ", ".join(totals) or "None"


def _against_the_plan(reckoning: Reckoning | None) -> Iterator[Part]:
    if reckoning is None:
        yield Text("The run was started without a plan to compare it with.")
        return
    low_s, high_s = reckoning.predicted.range_s
    yield Text(
        f"Planned: {span(reckoning.predicted.makespan_s)} ({span(low_s)} to {span(high_s)}), drawn at an even pace."
    )
    yield Notes([(line, "") for line in reckoning.lines()])


def _rate(view: RunView, figures: Figures) -> list[Part]:
    scale, rate = _Scale(figures), view.policy.rate
    begins = scale.begins(len(figures.sends))
    last_s = figures.length_s - figures.slice_s * (len(figures.sends) - 1)
    lengths_s = [*[figures.slice_s] * (len(figures.sends) - 1), max(last_s, figures.slice_s / 2)]
    by_name = {
        "sent": [round(count / s, 3) for count, s in zip(figures.sends, lengths_s, strict=True)],
        "answered with 429": [round(count / s, 3) for count, s in zip(figures.throttled, lengths_s, strict=True)],
    }
    throttled = sum(figures.throttled)
    asked = rate.per_s
    series = [
        _line(name, zip(begins, values, strict=True), step="end", tone=tone)
        for tone, (name, values) in enumerate(by_name.items())
    ]
    limit = [(0.0, asked), (scale.units(scale.whole_s), asked)]
    series.append(_line("asked for at most", limit, tone=5, lineStyle={"type": "dotted"}))
    events = [(span(at_s), worded(event), printable(detail)) for at_s, event, detail in figures.events]
    return [
        Chart(
            title="Requests per second over time",
            description=f"{counted(sum(figures.sends), 'request')}, {throttled:,} of them answered with 429, "
            f"at no more than {rate}.",
            option={
                "xAxis": scale.axis(),
                "yAxis": {"type": "value"},
                "tooltip": {"trigger": "axis"},
                "series": series,
            },
            table=Table(
                "Requests per second over time",
                (scale.column, *by_name),
                list(zip(begins, *by_name.values(), strict=True)),
                folded=True,
            ),
        ),
        Table(
            "What happened to the run as a whole",
            ("after", "what", "details"),
            events or [("", "nothing out of the ordinary", "")],
            left_out=figures.events_left_out,
        ),
    ]


def _latency(figures: Figures, *, keep: bool) -> list[Part]:
    answers = sum(count for _, count in figures.latencies)
    if not answers and not keep:
        return [Text("Nothing was answered.")]
    buckets = _buckets(figures.latencies)
    names = list(buckets)
    known = [(name, _milliseconds(_percentile(figures.latencies, share))) for share, name in _PERCENTILES]
    return [
        Facts(known if answers else [("Answers", "none so far")]),
        Chart(
            title="Time from a request to its answer",
            description=f"{counted(answers, 'answer')} of any kind"
            + (f", half of them within {known[0][1]}." if answers else "."),
            option={
                "xAxis": {"type": "category", "data": names},
                "yAxis": {"type": "value", "minInterval": 1},
                "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
                "series": [{"type": "bar", "name": "answers", "barCategoryGap": "10%", "data": list(buckets.values())}],
            },
            table=Table("Time to an answer", ("within", "answers"), list(buckets.items()), folded=True),
        ),
    ]


def _buckets(latencies: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Answers by the time that they took, in steps of 1, 2 and 5; from the first step that is taken to the last."""
    edges = [round(edge_ms / 1000 / LATENCY_UNIT_S) for edge_ms in _EDGES_MS]
    counts = [0] * (len(edges) + 1)
    at = 0
    for units, count in latencies:
        while at < len(edges) and units >= edges[at]:
            at += 1
        counts[at] += count
    taken = [at for at, count in enumerate(counts) if count]
    lows = [0, *_EDGES_MS]
    if not taken:
        return {}
    return {
        f"{_short(lows[at])} to {_short(lows[at + 1])}" if at < len(edges) else f"over {_short(lows[at])}": counts[at]
        for at in range(taken[0], taken[-1] + 1)
    }


def _short(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds // 1000} s"  # noqa: PLR2004 - 1 s


def _percentile(latencies: Sequence[tuple[int, int]], share: float) -> float:
    """The time within which that share of the answers was there, in seconds."""
    if not latencies:
        return 0.0
    sums = list(accumulate(count for _, count in latencies))
    return (
        next(units for (units, _), up_to in zip(latencies, sums, strict=True) if up_to >= share * sums[-1])
        * LATENCY_UNIT_S
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _failures(figures: Figures, summary: Summary, *, keep: bool) -> Iterator[Part]:
    wrong: dict[tuple[Outcome, Reason], int] = {
        (outcome, reason): count
        for (outcome, reason), count in summary.reasons.items()
        if outcome in {Outcome.FAILED, Outcome.UNKNOWN} and reason is not Reason.IN_FLIGHT
    }
    if not wrong and not keep:
        yield Text("Nothing failed, and nothing is unknown.")
        return
    yield _by_reason(wrong)
    if figures.grouped:
        yield _by_group(figures)


def _by_reason(wrong: Mapping[tuple[Outcome, Reason], int]) -> Chart:
    rows = [(f"{worded(outcome)}: {worded(reason)}", count) for (outcome, reason), count in wrong.items()]
    return Chart(
        title="Failures by reason",
        description=f"{counted(sum(wrong.values()), 'step')} failed or may have run."
        if wrong
        else "Nothing failed, and nothing is unknown.",
        option={
            "xAxis": {"type": "value", "minInterval": 1},
            "yAxis": {"type": "category", "inverse": True, "data": [name for name, _ in rows]},
            "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
            "series": [
                {
                    "type": "bar",
                    "name": name,
                    "stack": "steps",
                    "barMaxWidth": 22,
                    "tone": _TONES[which],
                    "data": [count if outcome is which else None for (outcome, _), count in wrong.items()],
                }
                for which, name in ((Outcome.FAILED, "failed"), (Outcome.UNKNOWN, "unknown"))
            ],
        },
        table=Table("Failures by reason", ("outcome and reason", "steps"), rows, folded=True),
        height_px=min(110 + 34 * max(1, len(rows)), 640),
    )


def _by_group(figures: Figures) -> Chart:
    shown = figures.groups[:_MOST_BARS]
    return Chart(
        title="Failures by group",
        description=f"{counted(len(figures.groups), 'group')} with failures"
        + (f"; the {len(shown)} with the most of them are drawn." if len(figures.groups) > len(shown) else "."),
        option={
            "xAxis": {"type": "value", "minInterval": 1},
            "yAxis": {
                "type": "category",
                "inverse": True,
                "data": [_group_name(one)[:_MOST_LABEL] for one in shown],
            },
            "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
            "series": [
                {
                    "type": "bar",
                    "name": outcome.value,
                    "stack": "steps",
                    "barMaxWidth": 18,
                    "tone": _TONES[outcome],
                    "data": counts,
                }
                for outcome, counts in (
                    (Outcome.FAILED, [one.failed for one in shown]),
                    (Outcome.UNKNOWN, [one.unknown for one in shown]),
                )
            ],
        },
        table=Table(
            "Failures by group",
            ("group", "failed", "unknown", "steps", "share"),
            [
                (
                    _group_name(one),
                    one.failed,
                    one.unknown,
                    one.steps,
                    f"{(one.failed + one.unknown) / one.steps:.1%}",
                )
                for one in figures.groups[:_MOST_GROUPS]
            ],
            folded=True,
            left_out=max(0, len(figures.groups) - _MOST_GROUPS),
        ),
        height_px=90 + 28 * max(1, len(shown)),
    )


def _group_name(one: GroupFailures) -> str:
    return printable(one.group) or "(no group)"
