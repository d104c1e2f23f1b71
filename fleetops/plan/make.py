"""Making a plan: the campaign is simulated with the scheduler of the real run, and what happens is written down."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Protocol

from fleetops.errors import InvalidInputError
from fleetops.model import CODE_OF, DESTRUCTIVE, NS_PER_S, OPERATIONS, Operation, Outcome, Steps
from fleetops.plan.assumptions import AssumedWorld, Assumptions
from fleetops.plan.bounds import Bounds
from fleetops.plan.document import Bound, Happening, ManifestFacts, Plan, Predictions, Remedy, Work
from fleetops.plan.risks import risks_of
from fleetops.plan.timeline import Timeline
from fleetops.plan.variants import changed, parse_variants
from fleetops.plan.wording import moment, plain, span
from fleetops.planning import steps_of
from fleetops.policy.waves import assign
from fleetops.scheduler import Progress, StopReason
from fleetops.simulation import StuckError, simulate
from fleetops.simulation.trace import OUTCOME_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from fleetops.manifest import Manifest
    from fleetops.model import Reason
    from fleetops.plan.document import Risk
    from fleetops.policy import Policy
    from fleetops.policy.window import Window
    from fleetops.simulation import Trace

    Watch = Callable[[Trace], object]

MOST_STEPS_IN_PASSES: Final = 100_000
"""Up to so many steps the range and the remedies are simulated; beyond, the range is made of lower bounds."""

MOST_STEPS_IN_HANDS: Final = 5_000
"""Up to so many steps chance is dealt with by several passes, of which the middle one counts; more even it out."""

HANDS: Final = 7

TIMER_SHARE: Final = 0.01
"""By how much a real run may be shorter than the simulated one: its clock is not the simulation's."""
HOST_SHARE: Final = 0.02
"""By how much it may be longer: commits, timers and a busy host."""
HOST_S: Final = 1.0
"""And by how much besides, however short it is: connections are opened, the journal is closed."""

_DAY_MINUTES: Final = 1440
_MOST_BLOCKS: Final = 256
_MOST_HAPPENINGS: Final = 200
_MOST_REMEDIES: Final = 4
_WORTH_TRYING: Final = 0.3
"""A bound below this share of the makespan is not what keeps the run."""
_GAIN: Final = 0.98
"""What is not at least two in a hundred shorter is no remedy."""


class Campaign(Protocol):
    """What is planned: a manifest and a policy, validated together."""

    @property
    def manifest(self) -> Manifest:
        """The manifest."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""

    @property
    def steps(self) -> Steps:
        """What is to be done."""

    @property
    def excluded(self) -> Mapping[int, Reason]:
        """Devices that are left out, and why."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a campaign would take with another value of a setting.

    Attributes:
        setting: The setting and its value.
        makespan_s: From start to end, in seconds.
        end_at: When it would end.
        ended: Why.
        peak_disturbed: The most devices disturbed at once.
    """

    setting: str
    makespan_s: float
    end_at: str
    ended: str
    peak_disturbed: int


def make_plan(
    campaign: Campaign,
    assumptions: Assumptions,
    *,
    start_ns: int,
    base_url: str = "",
    policy_file: str | None = None,
    options: Mapping[str, Any] | None = None,
    heed_window: bool = True,
    live: Collection[Risk] = (),
    watch: Watch | None = None,
) -> Plan:
    """Simulate a campaign and write down what happens.

    Args:
        campaign: What to do.
        assumptions: How the service is expected to behave.
        start_ns: When it is started, in nanoseconds since the epoch.
        base_url: The control plane, where it is known.
        policy_file: The policy file that took part.
        options: The settings that were given as options, in the shape of a policy file.
        heed_window: Whether the maintenance windows count.
        live: The risks that other runs mean; see `risks_of_live_runs`.
        watch: Is given the trace of every pass as it begins: another thread may look how far it is.

    Raises:
        InvalidInputError: The run would not end.
    """
    manifest, policy, steps = campaign.manifest, campaign.policy, campaign.steps
    passes = _Passes(steps, policy, manifest.digest, start_ns, campaign.excluded, heed_window=heed_window, watch=watch)
    predictions = _predictions(passes, assumptions)
    if len(steps) <= MOST_STEPS_IN_PASSES:
        predictions = predictions.model_copy(update={"remedies": _remedies(campaign, passes, assumptions, predictions)})
    return Plan(
        manifest=ManifestFacts(
            path=plain(manifest.source, 4000), digest=manifest.digest, campaign=plain(manifest.campaign)
        ),
        base_url=base_url,
        policy=json.loads(policy.to_json()),
        policy_file=None if policy_file is None else plain(policy_file, 4000),
        options=dict(options or {}),
        heed_window=heed_window,
        wave_seed=manifest.digest,
        work=work_of(steps),
        assumptions=assumptions,
        predictions=predictions,
        risks=risks_of(steps, policy, assumptions, predictions, live),
    )


def work_of(steps: Steps) -> Work:
    """What there is to do, with digests that show where other steps differ from these."""
    counts = {operation: steps.operation_of.count(CODE_OF[operation]) for operation in OPERATIONS}
    block_rows = max(1, -(-len(steps) // _MOST_BLOCKS))
    return Work(
        devices=len(steps.serials),
        steps=len(steps),
        destructive=sum(counts[operation] for operation in DESTRUCTIVE),
        operations={operation.value: count for operation, count in counts.items() if count},
        groups=len(set(steps.groups) - {""}),
        block_rows=block_rows,
        blocks=tuple(_blocks(steps, block_rows)),
    )


def _blocks(steps: Steps, rows: int) -> Iterable[str]:
    """A digest of each block of so many rows."""
    device_of, serials, groups = steps.device_of, steps.serials, steps.groups
    for first in range(0, len(steps), rows):
        block = slice(first, first + rows)
        devices = device_of[block]
        named = map(groups.__getitem__, devices) if groups else repeat("")
        each = zip(
            map(serials.__getitem__, devices), named, steps.operation_of[block], steps.settle_ns_of[block], strict=False
        )
        yield hashlib.sha256("".join(map(repr, each)).encode()).hexdigest()[:16]


class _Passes:
    """One campaign, simulated under different policies and assumptions."""

    def __init__(
        self,
        steps: Steps,
        policy: Policy,
        seed: str,
        start_ns: int,
        excluded: Mapping[int, Reason],
        *,
        heed_window: bool,
        watch: Watch | None = None,
    ) -> None:
        self.steps = steps
        self.policy = policy
        self.seed = seed
        self._start_ns = start_ns
        self.excluded = excluded
        self.heed_window = heed_window
        self._watch = watch

    @cached_property
    def wave_of(self) -> bytes:
        """The wave of each device, from 0; empty where there are none."""
        if self.policy.waves is None:
            return b""
        return assign(self.policy.waves, self.steps.groups, len(self.steps.serials), self.seed, self.excluded)

    def expected(self, assumptions: Assumptions) -> tuple[Trace, list[Trace]]:
        """The middle one of a few passes, where chance has a part in it and they are quick; and all of them."""
        hands = 1 if assumptions.is_certain or len(self.steps) > MOST_STEPS_IN_HANDS else HANDS
        traces = [self.simulated(assumptions, hand=hand) for hand in range(hands)]
        return sorted(traces, key=lambda trace: trace.makespan_ns)[hands // 2], traces

    def simulated(
        self, assumptions: Assumptions, policy: Policy | None = None, steps: Steps | None = None, *, hand: int = 0
    ) -> Trace:
        """One pass.

        Raises:
            InvalidInputError: It comes to no end.
        """
        steps = steps or self.steps
        try:
            return simulate(
                steps,
                policy or self.policy,
                self.seed.encode(),
                AssumedWorld(assumptions, hand),
                self._start_ns,
                progress=self._left_out(steps),
                patience_ns=0,
                wave_seed=self.seed,
                heed_window=self.heed_window,
                watch=self._watch,
            )
        except StuckError:
            raise InvalidInputError(
                "the campaign cannot be planned: it would not be over within this century",
                hint="look at the rate, the windows and the assumptions: one of them leaves next to no time to send",
            ) from None

    def _left_out(self, steps: Steps) -> Progress | None:
        if not self.excluded:
            return None
        skipped = OUTCOME_CODE[Outcome.SKIPPED]
        return Progress(outcomes=bytes(skipped * (device in self.excluded) for device in steps.device_of))

    def bounds(self, assumptions: Assumptions) -> Bounds:
        """What keeps the campaign from being shorter."""
        return Bounds(self.steps, self.policy, assumptions, self.wave_of, self.excluded)


def _predictions(passes: _Passes, assumptions: Assumptions) -> Predictions:
    policy, steps = passes.policy, passes.steps
    trace, hands = passes.expected(assumptions)
    timeline = Timeline(steps, trace)
    waited = trace
    if trace.ended is StopReason.WINDOW_CLOSED:
        waited = passes.simulated(assumptions, changed(policy, {"at_end": "wait"}))
    windows, windows_left_out = Timeline(steps, waited).windows(policy) if passes.heed_window else ((), 0)
    bounds = passes.bounds(assumptions).all()
    if passes.heed_window and (closed_s := timeline.closed_s(policy)):
        what = f"no window is open for {span(closed_s)} of it"
        bounds = [Bound(name="window", at_least_s=round(closed_s, 3), explanation=what), *bounds]
        bounds.sort(key=lambda bound: -bound.at_least_s)
    range_s, method = _range(passes, assumptions, trace, hands)
    peak, peak_at_s = timeline.peak()
    groups, groups_left_out = timeline.groups(policy.group_cap)
    outcomes = {outcome.value: count for outcome, count in trace.counts().items() if count}
    if left := len(steps) - sum(outcomes.values()):
        outcomes[Outcome.NOT_STARTED.value] = left
    completes_later = waited is not trace and waited.ended is StopReason.COMPLETE
    return Predictions(
        start_at=moment(trace.start_ns),
        first_send_s=_since_start_s(trace, trace.sent_ns[0]) if len(trace) else None,
        end_at=moment(trace.end_ns),
        ended=str(trace.ended),
        makespan_s=_since_start_s(trace, trace.end_ns),
        range_s=range_s,
        range_method=method,
        settled_s=_since_start_s(trace, timeline.settled_ns),
        sends=len(trace),
        outcomes=outcomes,
        most_in_flight=trace.most_in_flight,
        bounds=tuple(bounds),
        remedies=(),
        windows=windows,
        windows_left_out=windows_left_out,
        complete_at=moment(waited.end_ns) if completes_later else None,
        waves=timeline.waves(passes.wave_of, passes.excluded),
        peak_disturbed=peak,
        peak_at_s=peak_at_s,
        groups=groups,
        groups_left_out=groups_left_out,
        happenings=tuple(_happenings(trace)),
        series=timeline.series(),
    )


def _happenings(trace: Trace) -> Iterable[Happening]:
    for notice in trace.notices[:_MOST_HAPPENINGS]:
        yield Happening(
            at_s=_since_start_s(trace, notice.at_ns), event=notice.event.value, detail=plain(notice.detail, 1000)
        )


def _since_start_s(trace: Trace, at_ns: int) -> float:
    return round((at_ns - trace.start_ns) / NS_PER_S, 3)


def _range(
    passes: _Passes, assumptions: Assumptions, expected: Trace, hands: Sequence[Trace]
) -> tuple[tuple[float, float], str]:
    """The shortest and the longest that the run may take, and how that was found."""
    makespan_s = expected.makespan_ns / NS_PER_S
    cases = (assumptions.fast(), assumptions.slow())
    if len(passes.steps) <= MOST_STEPS_IN_PASSES:
        others_s = [passes.simulated(case).makespan_ns / NS_PER_S for case in cases]
        method = "simulated with answers in half and in twice the time, and no and twice the failures"
    else:
        bound_s, *bounds_s = (passes.bounds(case).tightest_s() for case in (assumptions, *cases))
        others_s = [makespan_s * other_s / max(bound_s, 1e-9) for other_s in bounds_s]
        method = "the expected time, scaled by the tightest bound with answers in half and in twice the time"
    others_s += [hand.makespan_ns / NS_PER_S for hand in hands]
    shortest_s, longest_s = min(makespan_s, *others_s), max(makespan_s, *others_s)
    slack = f"less {TIMER_SHARE:.0%}, plus {HOST_SHARE:.0%} and {HOST_S:g} s for timers and the host"
    low_s, high_s = shortest_s * (1 - TIMER_SHARE), longest_s * (1 + HOST_SHARE) + HOST_S
    return (round(low_s, 3), round(high_s, 3)), f"{method}; {slack}"


def _remedies(
    campaign: Campaign, passes: _Passes, assumptions: Assumptions, predictions: Predictions
) -> tuple[Remedy, ...]:
    """What each bound's setting would do if it were twice as generous; one pass each.

    A run that its window cuts short is helped by whatever has it complete before the window closes.
    """
    cut_short = predictions.ended == StopReason.WINDOW_CLOSED
    if predictions.ended != StopReason.COMPLETE and not cut_short:
        return ()
    closed_s = next((bound.at_least_s for bound in predictions.bounds if bound.name == "window"), 0.0)
    open_s = predictions.makespan_s - closed_s
    binding = {bound.name for bound in predictions.bounds if bound.at_least_s >= _WORTH_TRYING * open_s}
    if cut_short:
        binding.add("window")
    tried = []
    for setting, change in _relaxed(passes.policy, binding, assumptions.limit_per_s):
        policy = changed(passes.policy, change)
        trace = passes.simulated(assumptions, policy, steps_of(campaign.manifest, policy))
        shorter = cut_short or trace.makespan_ns < _GAIN * predictions.makespan_s * NS_PER_S
        if trace.ended is StopReason.COMPLETE and shorter:
            tried.append(Remedy(setting=setting, makespan_s=_since_start_s(trace, trace.end_ns)))
    return tuple(sorted(tried, key=lambda remedy: remedy.makespan_s)[:_MOST_REMEDIES])


def _relaxed(
    policy: Policy, binding: Collection[str], limit_per_s: float | None
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Settings that relax bounds: what to write, and the change to the policy."""
    if "throttling" in binding and limit_per_s is not None:
        # What is sent above the limit is refused, and then the whole run holds: a lower rate is faster.
        rate = f"{limit_per_s:.3g}/s"
        yield f"rate: {rate}", {"rate": rate}
    if "rate" in binding:
        rate = f"{2 * policy.rate.count:g}/{policy.rate.unit}"
        yield f"rate: {rate}", {"rate": rate}
    if "concurrency" in binding and policy.concurrency <= 2048:  # noqa: PLR2004 - half of the most there may be
        yield f"concurrency: {2 * policy.concurrency}", {"concurrency": 2 * policy.concurrency}
    if "group_cap" in binding and policy.group_cap is not None:
        cap = policy.group_cap
        wider = str(2 * cap.count) if cap.count else f"{min(100, 2 * (cap.share_ppm or 0) / 10_000):g}%"
        yield f"group_cap: {wider}", {"group_cap": wider}
    if "sequence" in binding or "waves" in binding or "group_cap" in binding:
        settle = {operation.value: policy.settle.after_ns(operation) / 2 / NS_PER_S for operation in Operation}
        yield "settle: half of each", {"settle": settle}
    if "waves" in binding:
        yield "waves: none", {"waves": None}
    if "window" in binding and len(policy.window) == 1 and (longer := _twice_as_long(policy.window[0])):
        yield f"window: {longer}", {"window": str(longer)}


def _twice_as_long(window: Window) -> Window | None:
    """The window with twice its length; None where that is the whole day or more."""
    length = (window.end_minute - window.start_minute) % _DAY_MINUTES or _DAY_MINUTES
    if 2 * length >= _DAY_MINUTES:
        return None
    return replace(window, end_minute=(window.start_minute + 2 * length) % _DAY_MINUTES or _DAY_MINUTES)


def what_if(
    campaign: Campaign,
    assumptions: Assumptions,
    text: str,
    *,
    start_ns: int,
    heed_window: bool = True,
    watch: Watch | None = None,
) -> list[WhatIf]:
    """What a campaign would take with other values of a setting, one pass each.

    Args:
        campaign: What to do.
        assumptions: How the service is expected to behave.
        text: What to compare, such as `rate=10/s,20/s,40/s`.
        start_ns: When it is started, in nanoseconds since the epoch.
        heed_window: Whether the maintenance windows count.
        watch: As of `make_plan`.

    Raises:
        UsageError: `text` cannot be read.
        InvalidInputError: With one of the values the run would not end.
    """
    rows = []
    for variant in parse_variants(text, campaign.policy):
        steps = steps_of(campaign.manifest, variant.policy)
        passes = _Passes(
            steps,
            variant.policy,
            campaign.manifest.digest,
            start_ns,
            campaign.excluded,
            heed_window=heed_window,
            watch=watch,
        )
        trace = passes.simulated(assumptions)
        peak, _ = Timeline(steps, trace).peak()
        makespan_s = _since_start_s(trace, trace.end_ns)
        rows.append(WhatIf(variant.setting, makespan_s, moment(trace.end_ns), str(trace.ended), peak))
    return rows
