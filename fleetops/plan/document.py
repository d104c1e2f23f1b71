"""The plan as a document: what it holds, and how it is frozen so that a change to it is seen."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError

from fleetops.errors import InvalidInputError
from fleetops.plan.assumptions import Assumptions, Part
from fleetops.policy import Policy
from fleetops.scheduler import SCHEDULER_VERSION
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = "fleetops-plan/1"
LARGEST_PLAN: Final = 32 << 20
"""Bytes; a plan of a million steps has some hundred thousand."""

_EXAMPLES: Final = 5

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=4096)]
Count = Annotated[int, Field(ge=0)]


class ManifestFacts(Part):
    """The manifest that was planned.

    Attributes:
        path: Where it is; relative to the plan where it is not absolute.
        digest: SHA-256 of what was read, as `Manifest.digest`.
        campaign: Its name.
    """

    path: Text
    digest: Digest
    campaign: Text


class Work(Part):
    """What there is to do, and in which order.

    Attributes:
        devices: How many devices.
        steps: How many steps.
        destructive: How many of them remove user data or configuration.
        operations: Steps by operation.
        groups: How many groups the devices are in.
        block_rows: Rows of the manifest to a block.
        blocks: A digest of each block's rows (device, group, operation, settle time), so that a change can be located.
    """

    devices: Count
    steps: Count
    destructive: Count
    operations: dict[str, Count]
    groups: Count
    block_rows: Annotated[int, Field(ge=1)]
    blocks: tuple[str, ...]


class Bound(Part):
    """Something that keeps the run from being shorter.

    Attributes:
        name: `rate`, `sequence`, `concurrency`, `group_cap`, `waves`, `throttling` or `window`.
        at_least_s: No run with this setting is shorter, whatever the others.
        explanation: In words.
    """

    name: Text
    at_least_s: float
    explanation: Text


class Remedy(Part):
    """A setting that would make the run shorter, and by how much.

    Attributes:
        setting: What to set, as in a policy.
        makespan_s: What the run would take then.
    """

    setting: Text
    makespan_s: float


class WindowUse(Part):
    """What a maintenance window is used for.

    Attributes:
        start_at: When it opens.
        end_at: When it closes; None where it does not.
        opens_s: When it opens, in seconds from the start; negative where it is open then.
        closes_s: When it closes.
        sends: Requests that are sent in it.
        left_steps: Steps that are without an answer when it closes.
        left_devices: Devices that have such a step.
    """

    start_at: Text
    end_at: Text | None
    opens_s: float
    closes_s: float
    sends: Count
    left_steps: Count
    left_devices: Count


class WaveUse(Part):
    """A wave: how much is in it, and when.

    Attributes:
        wave: Its number, from 1.
        devices: Its devices.
        steps: Their steps.
        start_s: When its first request leaves, in seconds from the start; None where none does.
        end_s: When its last answer is there.
    """

    wave: int
    devices: Count
    steps: Count
    start_s: float | None
    end_s: float | None


class GroupUse(Part):
    """A group's load.

    Attributes:
        group: Its name; empty for the devices without one.
        devices: Its devices.
        steps: Their steps.
        peak: The most of them that are disturbed at once.
        cap: The most that may be; None where there is no cap.
        end_s: When the last of them has settled, in seconds from the start.
    """

    group: Text
    devices: Count
    steps: Count
    peak: Count
    cap: int | None
    end_s: float


class Happening(Part):
    """Something that happens to the run as a whole, `at_s` seconds from the start."""

    at_s: float
    event: Text
    detail: Text


class Series(Part):
    """What happens over time, in slices of equal length.

    Attributes:
        slice_s: The length of a slice, in seconds.
        disturbed: The most devices that are disturbed at once in each slice.
        answered: Steps that are answered in each slice, by operation.
    """

    slice_s: float
    disturbed: tuple[int, ...]
    answered: dict[str, tuple[int, ...]]


class Predictions(Part):
    """What the simulated run did. Times are in seconds from its start.

    Attributes:
        start_at: When it was started.
        first_send_s: When the first request left; None where none did.
        end_at: When it ended.
        ended: Why it ended.
        makespan_s: From start to end, as expected.
        range_s: The shortest and the longest that it may take.
        range_method: How the range was made.
        settled_s: When the last device had settled.
        sends: Requests.
        outcomes: Steps by outcome.
        most_in_flight: Requests under way at once.
        bounds: What keeps it from being shorter, the tightest first.
        remedies: What would shorten it, the best first.
        windows: The maintenance windows that it takes to finish.
        windows_left_out: Further windows that are not listed.
        complete_at: When everything is done, where that takes further windows after the run's end; else None.
        waves: The waves.
        peak_disturbed: The most devices disturbed at once: in flight, or in settle after what may have run.
        peak_at_s: When that was.
        groups: The groups with the largest peaks.
        groups_left_out: Further groups that are not listed.
        happenings: What happened to the run as a whole, the first of it.
        series: What happens over time.
    """

    start_at: Text
    first_send_s: float | None
    end_at: Text
    ended: Text
    makespan_s: Annotated[float, Field(ge=0)]
    range_s: tuple[float, float]
    range_method: Text
    settled_s: float
    sends: Count
    outcomes: dict[str, Count]
    most_in_flight: Count
    bounds: tuple[Bound, ...]
    remedies: tuple[Remedy, ...]
    windows: tuple[WindowUse, ...]
    windows_left_out: Count
    complete_at: Text | None
    waves: tuple[WaveUse, ...]
    peak_disturbed: Count
    peak_at_s: float
    groups: tuple[GroupUse, ...]
    groups_left_out: Count
    happenings: tuple[Happening, ...]
    series: Series


class Risk(Part):
    """Something that whoever approves the plan should know.

    Attributes:
        code: A stable name of the kind of risk.
        message: What it is.
        hint: What to do about it; empty where nothing is to be done.
    """

    code: Text
    message: Text
    hint: Text = ""


class Plan(Part):
    """A campaign, frozen: what is to be done, how, and what is expected to happen.

    Attributes:
        fleetops_version: The version that made it.
        scheduler_version: `SCHEDULER_VERSION` of that.
        manifest: The manifest.
        base_url: The control plane; empty where it was not known.
        policy: The whole policy, every setting spelled out.
        policy_file: The policy file that took part; relative to the plan where it is not absolute.
        options: The settings that were given as options, in the shape of a policy file; they override the file's.
        heed_window: Whether the maintenance windows count.
        wave_seed: What decides which devices are in which wave.
        work: What there is to do.
        assumptions: What the predictions reckon with.
        predictions: What is expected to happen.
        risks: What to know before it is approved.
    """

    schema_name: Literal["fleetops-plan/1"] = Field(SCHEMA, alias="schema")
    fleetops_version: Text = __version__
    scheduler_version: int = SCHEDULER_VERSION
    manifest: ManifestFacts
    base_url: Text
    policy: dict[str, Any]
    policy_file: Text | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    heed_window: bool = True
    wave_seed: Text
    work: Work
    assumptions: Assumptions
    predictions: Predictions
    risks: tuple[Risk, ...]

    @property
    def settings(self) -> Policy:
        """The policy as the rules read it."""
        return Policy.model_validate(self.policy)

    def to_json(self) -> str:
        """The plan as JSON text, sealed; `from_json` reads it back."""
        content = self._content()
        return json.dumps({**content, "seals": _seals(content)}, indent=1, ensure_ascii=False) + "\n"

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return content

    @property
    def digest(self) -> str:
        """SHA-256 of all that the plan says, in hex."""
        return _digest(self._content())

    @classmethod
    def from_json(cls, data: bytes, source: str = "the plan") -> Self:
        """Read what `to_json` wrote.

        The seals show a slip or a hasty edit. Whoever means to deceive can make them anew, so what is approved is the
        plan's digest.

        Args:
            data: The file.
            source: What to call it in messages.

        Raises:
            InvalidInputError: It is not a plan, is not one that this version reads, or was changed since it was frozen.
        """
        content = _object(data, source)
        if content.get("schema") != SCHEMA:
            raise _refusal(source, f"its schema is {content.get('schema')!r:.60}, not {SCHEMA!r}")
        seals = content.pop("seals", None)
        try:
            plan = cls.model_validate(content)
            plan.settings  # noqa: B018 - reading it validates it
            expected = _seals(plan._content())  # noqa: SLF001 - of its own class
        except (ValidationError, RecursionError) as error:
            raise _refusal(source, _first_problem(error)) from None
        if not isinstance(seals, dict):
            raise _refusal(source, "it has no seals: it was cut or edited")
        broken = sorted(name for name in expected.keys() | seals.keys() if expected.get(name) != seals.get(name))
        if broken:
            raise InvalidInputError(
                f"{source} was changed after it was frozen: {', '.join(_inner(broken))}",
                hint="a plan is not edited: change the manifest or the policy and plan again",
            )
        return plan


def _object(data: bytes, source: str) -> dict[str, Any]:
    if len(data) > LARGEST_PLAN:
        raise _refusal(source, f"it is larger than {LARGEST_PLAN >> 20} MiB")
    try:
        content = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _refusal(source, f"it is not JSON ({type(error).__name__ if not str(error) else error})") from None
    if not isinstance(content, dict):
        raise _refusal(source, "it is not a JSON object")
    return content


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _refusal(source: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{source} is not a plan that this version of fleetops reads: {why}",
        hint="make one with `fleetops plan MANIFEST --out PLAN.json`",
    )


def _first_problem(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    details = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, details["loc"]))[:200]
    return f"{where}: {details['msg']}" if where else str(details["msg"])[:200]


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _seals(content: Mapping[str, Any]) -> dict[str, str]:
    """A digest of the whole, and a short one of every setting, so that a change can be named."""
    seals = {"": _digest(content)}
    _seal_below("", content, seals, depth=3)
    return seals


def _seal_below(path: str, value: Mapping[str, Any], seals: dict[str, str], depth: int) -> None:
    for key, inner in value.items():
        name = f"{path}.{key}" if path else key
        seals[name] = _digest(inner)[:16]
        if isinstance(inner, dict) and depth > 1:
            _seal_below(name, inner, seals, depth - 1)


def _inner(names: list[str]) -> list[str]:
    """Of names such as `policy` and `policy.rate` the longer ones, as far as they are listed."""
    inner = [name for name in names if name and not any(other.startswith(f"{name}.") for other in names)]
    shown = inner[:_EXAMPLES] or ["its seals"]
    return [*shown, f"and {len(inner) - _EXAMPLES} more"] if len(inner) > _EXAMPLES else shown
