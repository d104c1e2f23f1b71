"""What is no longer as it was planned: before a run, between two plans, and between a plan and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleetops.errors import InvalidInputError
from fleetops.model import NS_PER_S
from fleetops.plan.assumptions import Part
from fleetops.plan.make import work_of
from fleetops.plan.wording import span
from fleetops.planning import steps_of
from fleetops.scheduler import SCHEDULER_VERSION, StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleetops.journal.views import RunView
    from fleetops.manifest import Manifest
    from fleetops.plan.document import Plan, Work
    from fleetops.policy import Policy

_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs.

    Attributes:
        what: What, such as `policy.rate` or `devices`.
        before: What it was, in words.
        after: What it is now.
    """

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.after}"


def check_plan(
    plan: Plan, manifest: Manifest, policy: Policy, *, base_url: str | None = None, heed_window: bool = True
) -> list[Difference]:
    """What a run would do that the plan does not say; empty where the plan holds.

    Args:
        plan: The plan.
        manifest: The manifest as it is now, read from where the plan says it is.
        policy: The policy in force now.
        base_url: The control plane that is to be used; None where that is the plan's.
        heed_window: Whether the maintenance windows are to count.
    """
    found = []
    if plan.scheduler_version != SCHEDULER_VERSION:
        versions = str(plan.scheduler_version), str(SCHEDULER_VERSION)
        found.append(Difference("scheduler (plan again with this version)", *versions))
    if base_url is not None and plan.base_url and base_url != plan.base_url:
        found.append(Difference("base_url", plan.base_url, base_url))
    if plan.heed_window != heed_window:
        found.append(
            Difference(
                "maintenance windows",
                *("count" if heed else "do not count" for heed in (plan.heed_window, heed_window)),
            )
        )
    found += _of_values("policy", plan.policy, json.loads(policy.to_json()))
    found += _of_work(plan.work, work_of(steps_of(manifest, policy)))
    if plan.manifest.digest != manifest.digest:
        found.append(Difference("manifest", plan.manifest.digest[:12], manifest.digest[:12]))
    if plan.wave_seed != plan.manifest.digest:
        found.append(Difference("wave_seed", plan.manifest.digest[:12], plan.wave_seed[:12]))
    return found


def require_unchanged(
    plan: Plan,
    manifest: Manifest,
    policy: Policy,
    *,
    base_url: str | None = None,
    heed_window: bool = True,
    source: str = "the plan",
) -> None:
    """Refuse a plan that no longer says what a run would do.

    Raises:
        InvalidInputError: With what changed.
    """
    found = check_plan(plan, manifest, policy, base_url=base_url, heed_window=heed_window)
    if found:
        listed = "; ".join(map(str, found[:_LISTED]))
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise InvalidInputError(
            f"{source} no longer holds: {listed}{more}",
            hint="nothing was sent. Plan again and have that approved, or undo what changed",
        )


def diff_plans(old: Plan, new: Plan) -> list[Difference]:
    """What changed from one plan to another: what is to be done, how, and what is expected of it."""
    found = list(_of_values("", _heads(old), _heads(new)))
    found += _of_work(old.work, new.work)
    found += _of_values("policy", old.policy, new.policy)
    found += _of_values("", {"assumptions": str(old.assumptions)}, {"assumptions": str(new.assumptions)})
    found += _of_values("predicted", _said(old), _said(new))
    before, after = ({risk.code: risk.message for risk in plan.risks} for plan in (old, new))
    found += _of_values("risk", before, after)
    return found


def _heads(plan: Plan) -> dict[str, object]:
    return {
        "scheduler_version": plan.scheduler_version,
        "manifest": plan.manifest.path,
        "manifest_digest": plan.manifest.digest[:12],
        "base_url": plan.base_url,
        "heed_window": plan.heed_window,
    }


def _said(plan: Plan) -> dict[str, object]:
    """The predictions that people decide by."""
    said = plan.predictions
    return {
        "makespan": span(said.makespan_s),
        "range": " to ".join(map(span, said.range_s)),
        "start_at": said.start_at,
        "end_at": said.end_at,
        "ended": said.ended,
        "bounded_by": said.bounds[0].name if said.bounds else None,
        "sends": said.sends,
        "outcomes": said.outcomes,
        "peak_disturbed": said.peak_disturbed,
        "windows": len(said.windows) + said.windows_left_out,
        "waves": len(said.waves),
    }


def _of_work(old: Work, new: Work) -> Iterator[Difference]:
    for name in ("devices", "steps", "destructive", "groups"):
        if getattr(old, name) != getattr(new, name):
            yield Difference(name, f"{getattr(old, name):,}", f"{getattr(new, name):,}")
    yield from _of_values("steps", old.operations, new.operations)
    if old.block_rows == new.block_rows and old.blocks != new.blocks:
        pairs = zip(old.blocks, new.blocks, strict=False)
        block = next(
            (at for at, (one, other) in enumerate(pairs) if one != other), min(len(old.blocks), len(new.blocks))
        )
        first = block * old.block_rows + 1
        rows = f"row {first}" if old.block_rows == 1 else f"rows {first} to {first + old.block_rows - 1}"
        yield Difference("first difference in the steps", rows, "other steps or settle times there")


def _of_values(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for key in dict.fromkeys((*old, *new)):
        name = f"{path}.{key}" if path else key
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _of_values(name, before, after)
        elif before != after:
            yield Difference(name, _shown(before, there=key in old), _shown(after, there=key in new))


def _shown(value: object, *, there: bool) -> str:
    if not there:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:200]}..."  # noqa: PLR2004 - a line of a terminal or two


class Forecast(Part):
    """What a plan predicted, as the journal of its run keeps it.

    Attributes:
        digest: The plan's.
        makespan_s: As expected.
        range_s: The shortest and the longest.
        ended: Why it would end.
        sends: Requests.
        outcomes: Steps by outcome.
        latency_s: The mean time to an answer that was assumed.
    """

    digest: str
    makespan_s: float
    range_s: tuple[float, float]
    ended: str
    sends: int
    outcomes: dict[str, int]
    latency_s: float

    @classmethod
    def of(cls, plan: Plan) -> Forecast:
        """What a plan predicts."""
        said = plan.predictions
        return cls(
            digest=plan.digest,
            makespan_s=said.makespan_s,
            range_s=said.range_s,
            ended=said.ended,
            sends=said.sends,
            outcomes=said.outcomes,
            latency_s=round(plan.assumptions.mean_latency_s, 6),
        )


@dataclass(frozen=True, slots=True)
class Reckoning:
    """How a prediction and reality compare.

    Attributes:
        predicted: What was predicted.
        makespan_s: How long the run took; None while it is not over.
        deviation: By which share that is more than predicted; None likewise.
        in_range: Whether it is within the predicted range; None likewise.
        processes: How many processes drove it; a prediction is of one.
        sends: Requests.
        outcomes: Steps by outcome.
        latency_s: The mean time to an answer; None where nothing was answered.
    """

    predicted: Forecast
    makespan_s: float | None
    deviation: float | None
    in_range: bool | None
    processes: int
    sends: int
    outcomes: Mapping[str, int]
    latency_s: float | None

    def lines(self) -> Sequence[str]:
        """The comparison in words, a line each."""
        said = self.predicted
        low_s, high_s = said.range_s
        lines = []
        if self.makespan_s is not None and self.deviation is not None:
            verdict = "within" if self.in_range else "outside"
            lines.append(
                f"took {span(self.makespan_s)}, predicted {span(said.makespan_s)} ({self.deviation:+.1%}), "
                f"{verdict} the range of {span(low_s)} to {span(high_s)}"
            )
        if self.processes > 1:
            lines.append(f"{self.processes} processes drove it; the prediction is of a run that is not interrupted")
        lines.append(f"{self.sends:,} requests, predicted {said.sends:,}")
        if self.latency_s is not None:
            lines.append(f"{self.latency_s * 1000:.0f} ms to an answer, assumed {said.latency_s * 1000:.0f} ms")
        for outcome in dict.fromkeys((*said.outcomes, *self.outcomes)):
            real, predicted = self.outcomes.get(outcome, 0), said.outcomes.get(outcome, 0)
            if real != predicted:
                lines.append(f"{real:,} {outcome.replace('_', ' ')}, predicted {predicted:,}")
        return lines


def compare_with_run(view: RunView) -> Reckoning | None:
    """How the run compares with the plan that it was started from; None where it was started without one.

    Raises:
        JournalError: The journal is damaged.
    """
    if not view.facts.plan:
        return None
    with view.reading() as reader:
        predicted = Forecast.model_validate_json(view.facts.plan)
        sends, latency_ns = reader.execute(
            "SELECT count(sent_ns), avg(answered_ns - sent_ns) FROM attempt WHERE sent_ns IS NOT NULL"
        ).fetchone()
    over = bool(view.processes) and view.processes[-1].end_reason in (StopReason.COMPLETE, StopReason.WINDOW_CLOSED)
    took_s = view.took_ns / NS_PER_S if over and view.took_ns is not None else None
    low_s, high_s = predicted.range_s
    return Reckoning(
        predicted=predicted,
        makespan_s=took_s,
        deviation=None if took_s is None else took_s / max(predicted.makespan_s, 1e-9) - 1,
        in_range=None if took_s is None else low_s <= took_s <= high_s,
        processes=len(view.processes),
        sends=sends,
        outcomes={outcome.value: count for outcome, count in view.outcomes.items() if count},
        latency_s=None if latency_ns is None else latency_ns / NS_PER_S,
    )
