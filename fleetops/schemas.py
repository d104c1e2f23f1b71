"""JSON Schemas (draft 2020-12) of what the command line reads and prints, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from fleetops.errors import ExitCode, Severity
from fleetops.journal.views import RunState
from fleetops.manifest import manifest_schema
from fleetops.model import Operation, Outcome
from fleetops.plan import Plan
from fleetops.policy import policy_schema
from fleetops.scheduler import StopReason

if TYPE_CHECKING:
    from collections.abc import Callable


class _Document(BaseModel):
    """Further keys may come with a later fleetops; those that are there stay."""

    model_config = ConfigDict(extra="allow")


class AgainstPlan(_Document):
    """What a plan predicted, and what came of it."""

    digest: str = Field(description="The plan's.")
    predicted_s: float
    range_s: tuple[float, float] = Field(description="The shortest and the longest that was predicted.")
    took_s: float | None = Field(description="Null while the run is not over.")
    deviation: float | None = Field(description="By which share it took longer than predicted.")
    in_range: bool | None
    predicted_sends: int
    sends: int


class ReportedRun(_Document):
    """The run as a whole, also where only steps of some outcomes are listed."""

    run_id: str
    campaign: str
    manifest: str = Field(description="As the user named it.")
    manifest_sha256: str
    base_url: str
    created_at: str
    state: RunState
    exit_code: ExitCode
    started_at: str | None
    finished_at: str | None
    outcomes: dict[Outcome, int] = Field(description="Steps by outcome.")
    policy: dict[str, Any] = Field(description="The settings that the run goes on with, as in a policy file.")
    plan: AgainstPlan | None = Field(description="How it compares with the plan it was started from, if it was.")


class ReportedStep(_Document):
    """A row of the manifest, and what became of it."""

    row: int = Field(ge=1, description="Its place in the manifest, from 1.")
    serial_number: str
    operation: Operation
    group: str | None
    outcome: Outcome
    reason: str | None
    http_status: int | None
    operation_id: str | None = Field(description="What the service calls the operation.")
    attempts: int = Field(ge=0)
    first_sent_at: str | None
    finished_at: str | None
    duration_s: float | None = Field(description="From the first send to the outcome, in seconds.")
    detail: str | None = Field(description="In the words of the service or the connection.")
    note: str | None
    carried: dict[str, str] = Field(description="The other columns of the manifest.")


class Report(_Document):
    """What `fleetops report RUN_ID --format json` prints."""

    version: Literal["fleetops-report/1"] = Field(alias="schema")
    run: ReportedRun
    steps: list[ReportedStep]


class ListedRun(_Document):
    """A run on this host."""

    run_id: str
    state: RunState
    manifest: str
    campaign: str
    started_at: str | None
    finished_at: str | None
    outcomes: dict[Outcome, int] = Field(description="Steps by outcome; empty where the journal cannot be read.")
    trouble: str | None = Field(description="Why the journal cannot be read.")


class Runs(RootModel[list[ListedRun]]):
    """What `fleetops runs --format json` prints, newest first."""


class ReasonCount(_Document):
    """How many steps have an outcome for a reason."""

    outcome: Outcome
    reason: str
    steps: int


class NextCommand(_Document):
    """Something to do next."""

    command: str
    why: str


class Status(_Document):
    """What `fleetops status RUN_ID --format json` prints; with `--watch` in each line."""

    run_id: str
    campaign: str
    manifest: str
    state: RunState
    ended: str = Field(description="Why the last process ended; empty where it runs, died, or is complete.")
    steps: int
    outcomes: dict[Outcome, int]
    reasons: list[ReasonCount]
    started_at: str | None
    finished_at: str | None
    took_ns: int | None = Field(description="In nanoseconds.")
    processes: int = Field(description="How many processes have driven it.")
    exit_code: ExitCode
    next_steps: list[NextCommand]
    now: list[str] = Field(description="What it does and waits for, for people; empty where no process drives it.")


class FoundProblem(_Document):
    """One thing that is wrong, and where."""

    severity: Severity
    code: str = Field(description="A stable name of the kind of problem, such as unknown-operation.")
    file: str
    line: int | None
    column: int | None
    message: str
    hint: str | None


class UnlistedProblems(_Document):
    """How many problems of a kind there are beyond those that are listed."""

    severity: Severity
    code: str
    count: int


class Validation(_Document):
    """What `fleetops validate MANIFEST --format json` prints."""

    valid: bool
    devices: int | None = Field(None, description="Not there where the manifest cannot be read as a whole.")
    steps: int | None = None
    operations: dict[Operation, int] | None = Field(None, description="Steps by operation.")
    errors: int
    warnings: int
    problems: list[FoundProblem] = Field(description="The first 50 of each code; `errors` and `warnings` count all.")
    unlisted: list[UnlistedProblems] = Field(description="The codes of which there are more, and how many more.")


class Compared(_Document):
    """What a campaign would take with another value of a setting."""

    setting: str = Field(description="The setting and its value, such as rate=20/s.")
    makespan_s: float
    end_at: str
    ended: StopReason = Field(description="Why it would end.")
    peak_disturbed: int = Field(description="The most devices disturbed at once.")


class WhatIf(RootModel[list[Compared]]):
    """What `fleetops plan MANIFEST --what-if SETTING=... --format json` prints, in the order of the values."""


class Changed(_Document):
    """Something that differs between two plans, in words."""

    what: str = Field(description="Such as policy.rate or devices.")
    before: str
    after: str


class PlanDifferences(RootModel[list[Changed]]):
    """What `fleetops plan --diff OLD NEW --format json` prints; empty where nothing changed."""


_OUTPUTS: Final[dict[str, type[BaseModel]]] = {
    "plan": Plan,
    "plan-diff": PlanDifferences,
    "report": Report,
    "runs": Runs,
    "status": Status,
    "validate": Validation,
    "what-if": WhatIf,
}
_INPUTS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "manifest": lambda: manifest_schema(policy_schema()),
    "policy": policy_schema,
}
_SEALS: Final = {
    "type": "object",
    "description": "A digest of each part by its path, so that a change shows.",
    "additionalProperties": {"type": "string"},
}
DOCUMENTS: Final = (*_INPUTS, *_OUTPUTS)
"""The names of the schemas there are."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a document.

    Raises:
        KeyError: `name` is none of `DOCUMENTS`.
    """
    if name in _INPUTS:
        return _INPUTS[name]()
    schema = _OUTPUTS[name].model_json_schema(by_alias=True, mode="serialization")
    if name == "plan":
        schema["properties"]["seals"] = _SEALS
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
