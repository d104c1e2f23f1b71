"""A plan as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetops.plan.wording import counted, span
from fleetops.policy.safety import safety_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fleetops.plan.differences import Difference
    from fleetops.plan.document import Plan, Predictions
    from fleetops.plan.make import WhatIf

_MOST_ROWS: Final = 12
_BOUND_NAMES: Final = {
    "rate": "the rate",
    "sequence": "the longest sequence",
    "concurrency": "the concurrency",
    "group_cap": "the group cap",
    "waves": "the waves",
    "throttling": "the service's own limit",
    "window": "the maintenance window",
}


def render_text(plan: Plan) -> str:
    """The plan as text, ending with a line break."""
    return "\n".join(_lines(plan)) + "\n"


def bound_name(name: str) -> str:
    """What a bound is called in a sentence."""
    return _BOUND_NAMES.get(name, name)


def remedies_title(said: Predictions) -> str:
    """What the remedies are good for: a run that its window cuts short is helped by what has it complete."""
    return "What would have it complete" if said.ended == "window_closed" else "What would shorten it"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Rows under a header, the first column to the left and the others to the right; the last is not padded."""
    cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(header))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in range(1, len(row)))]).rstrip()
        for row in cells
    ]


def printable(text: str) -> str:
    """Text without what would move the cursor or change its meaning on a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def worded(name: str) -> str:
    """A name as it reads in a sentence."""
    return name.replace("_", " ")


def render_what_if(rows: Sequence[WhatIf]) -> str:
    """What a campaign would take with other settings, as a table."""
    header = ("setting", "takes", "ends at", "disturbed at once", "ends as")
    body = [
        (row.setting, span(row.makespan_s), row.end_at, f"{row.peak_disturbed:,}", worded(row.ended)) for row in rows
    ]
    return "\n".join(table(header, body)) + "\n"


def render_differences(differences: Sequence[Difference]) -> str:
    """What changed, a line each."""
    if not differences:
        return "nothing changed\n"
    return "\n".join(printable(str(difference)) for difference in differences) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    work, said = plan.work, plan.predictions
    destructive = f", {work.destructive:,} of them destructive" if work.destructive else ""
    yield f"Plan for {printable(plan.manifest.campaign)} ({printable(plan.manifest.path)})"
    yield f"  digest       {plan.digest}"
    if plan.base_url:
        yield f"  service      {printable(plan.base_url)}"
    yield f"  devices      {work.devices:,}" + (f" in {counted(work.groups, 'group')}" if work.groups else "")
    yield f"  steps        {work.steps:,}{destructive}"
    yield f"               {', '.join(f'{count:,} {name}' for name, count in work.operations.items())}"
    yield f"  start        {said.start_at}" + _first_send(said)
    yield f"  end          {said.end_at} ({worded(said.ended)})"
    yield f"  settled      {span(said.settled_s)} after the start, every device"
    if said.complete_at:
        yield f"  complete     {said.complete_at}, if resumed in each further window"
    low_s, high_s = said.range_s
    yield f"  takes        {span(said.makespan_s)}, between {span(low_s)} and {span(high_s)}"
    yield f"  reckoned     {plan.assumptions}"
    yield f"  range        {printable(said.range_method)}"
    yield f"  sends        {said.sends:,}, {said.most_in_flight:,} under way at once"
    yield f"  outcomes     {', '.join(f'{count:,} {worded(name)}' for name, count in said.outcomes.items())}"
    yield f"  disturbed    {said.peak_disturbed:,} devices at once at most, {span(said.peak_at_s)} after the start"
    yield ""
    yield "Safety"
    for name, words in safety_in_words(plan.settings):
        yield f"  {name:<12} {printable(words)}"
    yield from _bounds(said)
    yield from _parts(said)
    if plan.risks:
        yield ""
        yield "Risks"
        for risk in plan.risks:
            yield f"  - {printable(risk.message)}"
            if risk.hint:
                yield f"    hint: {risk.hint}"


def _first_send(said: Predictions) -> str:
    if said.first_send_s is None:
        return ", nothing is sent"
    return f", first send after {span(said.first_send_s)}" if said.first_send_s >= 1 else ""


def _bounds(said: Predictions) -> Iterator[str]:
    if not said.bounds:
        return
    yield ""
    yield f"Bounded by {bound_name(said.bounds[0].name)}"
    rows = [(bound_name(bound.name), span(bound.at_least_s), printable(bound.explanation)) for bound in said.bounds]
    yield from _left(("what", "at least", "why"), rows)
    if said.remedies:
        yield ""
        yield remedies_title(said)
        yield from _left(("setting", "takes"), [(remedy.setting, span(remedy.makespan_s)) for remedy in said.remedies])


def _left(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """As `table`, all to the left."""
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    for row in (header, *rows):
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _parts(said: Predictions) -> Iterator[str]:
    if said.windows:
        rows = [
            (use.start_at, use.end_at or "never", f"{use.sends:,}", f"{use.left_steps:,}", f"{use.left_devices:,}")
            for use in said.windows
        ]
        header = ("opens", "closes", "sends", "steps left", "devices left")
        yield from _section("Windows", header, rows, said.windows_left_out)
    if said.waves:
        rows = [
            (f"{use.wave}", f"{use.devices:,}", f"{use.steps:,}", _after(use.start_s), _after(use.end_s))
            for use in said.waves
        ]
        yield from _section("Waves", ("wave", "devices", "steps", "starts after", "ends after"), rows, 0)
    if said.groups:
        rows = [
            (
                use.group or "(no group)",
                f"{use.devices:,}",
                f"{use.steps:,}",
                f"{use.peak:,}",
                "-" if use.cap is None else f"{use.cap:,}",
            )
            for use in said.groups
        ]
        header = ("group", "devices", "steps", "disturbed at once", "cap")
        yield from _section("Groups", header, rows, said.groups_left_out)


def _after(at_s: float | None) -> str:
    return "never" if at_s is None else span(at_s)


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left_out: int) -> Iterator[str]:
    yield ""
    yield title
    yield from table(header, rows[:_MOST_ROWS])
    if more := left_out + len(rows) - min(len(rows), _MOST_ROWS):
        yield f"  and {more:,} more"
