"""What goes into a journal and what comes out of it, independent of how it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleetops.model import Reason, Reply, Steps
    from fleetops.policy import Policy
    from fleetops.scheduler import Effect, Notice, Progress


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run is, fixed when it is created.

    Attributes:
        run_id: Its name, which sorts by time.
        manifest: The manifest as the user named it.
        digest: SHA-256 of the manifest's bytes, in hex.
        campaign: The manifest's own title; empty where it has none.
        base_url: The control plane.
        created_ns: When it was created.
        carried_columns: The names of the manifest's other columns.
        plan: What was predicted, as JSON, where the run was started from a plan; else empty.
    """

    run_id: str
    manifest: str
    digest: str
    campaign: str
    base_url: str
    created_ns: int
    carried_columns: tuple[str, ...] = ()
    plan: str = ""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is to be created.

    Attributes:
        facts: What it is.
        policy: How it is to be run.
        steps: What it is to do.
        notes: The manifest's notes by step; empty where there are none.
        carried: The cells of the carried columns by step, each a JSON list; empty where there are no such columns.
        skipped: Devices that are not to be sent to, and why.
    """

    facts: RunFacts
    policy: Policy
    steps: Steps
    notes: Sequence[str] = ()
    carried: Iterable[str] = ()
    skipped: Mapping[int, Reason] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as its journal has it, ready for a scheduler.

    Attributes:
        facts: What it is.
        policy: The policy of the last process that drove it.
        steps: What it is to do.
        progress: What was done so far.
    """

    facts: RunFacts
    policy: Policy
    steps: Steps
    progress: Progress


class Journal(Protocol):
    """What a runner needs from where a run is kept.

    An intent is durable when `intend` returns. What `answered` and `withdrawn` note becomes durable soon, and
    before any intent that is asked for after it.
    """

    async def intend(self, step: int, attempt: int, now_ns: int) -> None:
        """Make it durable that `step` may be sent from now on.

        Raises:
            JournalError: It is not durable; the step must not be sent.
        """

    def withdrawn(self, step: int, attempt: int) -> None:
        """The intended attempt did not leave."""

    def answered(
        self,
        step: int,
        attempt: int,
        *,
        sent_ns: int | None,
        answered_ns: int,
        reply: Reply,
        effects: Sequence[Effect],
    ) -> None:
        """Note what came of an attempt, and what that changed; `sent_ns` is None where it is not known."""

    def confirmed(self, effects: Sequence[Effect], now_ns: int) -> None:
        """Note what a look into the inventory changed."""

    def happened(self, notices: Sequence[Notice]) -> None:
        """Note what happened to the run as a whole."""

    async def serve(self) -> None:
        """Write what is noted until cancelled."""

    async def close(self, *, now_ns: int, reason: str, detail: str) -> None:
        """Write what is left and note why this process ends.

        Raises:
            JournalError: Something noted is not durable.
        """
