"""A run's journal on a virtual clock: what is durable when, and what a crash leaves of it.

Rows and rules are those of `fleetops.journal`: notes gather while a commit runs, the next commit writes them all
or none, and whoever takes the run up afterwards sees only what was written. A test holds `progress` to what the
real store makes of the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fleetops.model import GOOD, NS_PER_S, OUTCOMES, Outcome, Reason, ReplyKind
from fleetops.policy.pacing import longest_attempt_ns
from fleetops.scheduler import Finish, Hold, Progress, Skip, StopReason, Trouble
from fleetops.scheduler.progress import finished_steps_matter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleetops.model import Reply, Steps
    from fleetops.policy import Policy
    from fleetops.scheduler import Effect

_COUNTS_AS_FAILURE: Final = frozenset({ReplyKind.NOT_REACHED, ReplyKind.MAYBE})


@dataclass(slots=True)
class Attempt:
    """A row of the journal's table of the same name.

    Attributes:
        process: Which process drove the run, from 0.
        intent_ns: When the intent was noted.
        sent_ns: When it left; None where that is not known.
        answered_ns: When its answer came; None where none was recorded.
        kind: What the answer means; None where none was recorded.
        reason: The answer's word for the report.
    """

    process: int
    intent_ns: int
    sent_ns: int | None = None
    answered_ns: int | None = None
    kind: ReplyKind | None = None
    reason: Reason | None = None


@dataclass(slots=True)
class Answer:
    """What came of an attempt."""

    step: int
    attempt: int
    sent_ns: int | None
    answered_ns: int
    reply: Reply


@dataclass(slots=True)
class Result:
    """A step's final outcome."""

    step: int
    outcome: Outcome
    reason: Reason | None
    finished_ns: int


@dataclass(slots=True)
class Batch:
    """What one commit writes, in the order in which it is applied."""

    withdrawn: list[tuple[int, int]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    intents: list[tuple[int, int, int]] = field(default_factory=list)
    hold_until_ns: int | None = None

    def __bool__(self) -> bool:
        return bool(self.withdrawn or self.answers or self.results or self.intents or self.hold_until_ns is not None)


@dataclass(slots=True)
class Process:
    """A process that drove the run.

    Attributes:
        policy: What it went by.
        started_ns: When it began.
        ended_ns: When it ended; None where it died.
        end_reason: Why.
    """

    policy: Policy
    started_ns: int
    ended_ns: int | None = None
    end_reason: StopReason | None = None


class ModelJournal:
    """The journal of one run, through all the processes that drive it.

    Attributes:
        attempts: Durable attempts, by step and attempt.
        results: Durable final outcomes by step.
        landed_ns: By step and attempt, each moment at which an intent became durable.
        finished_ns: By step, when its outcome became durable.
        commits: Every batch that became durable, with the process that wrote it.
        processes: Those that drove it.
        hold_until_ns: The durable hold; None where there was none.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._batch = Batch()
        self._writing: Batch | None = None
        self.attempts: dict[tuple[int, int], Attempt] = {}
        self.results: dict[int, Result] = {}
        self.landed_ns: dict[tuple[int, int], list[int]] = {}
        self.finished_ns: dict[int, int] = {}
        self.commits: list[tuple[int, Batch]] = []
        self.processes: list[Process] = []
        self.hold_until_ns: int | None = None

    def begin(self, policy: Policy, now_ns: int) -> None:
        """A process drives the run from now on."""
        self.processes.append(Process(policy, now_ns))

    def intend(self, step: int, attempt: int, now_ns: int) -> None:
        """Note an intent."""
        self._batch.intents.append((step, attempt, now_ns))

    def withdrawn(self, step: int, attempt: int) -> None:
        """Note that an intended attempt did not leave."""
        intents = self._batch.intents
        intents[:] = [intent for intent in intents if intent[:2] != (step, attempt)]
        self._batch.withdrawn.append((step, attempt))

    def answered(self, answer: Answer, effects: Iterable[Effect]) -> None:
        """Note what came of an attempt, and what that changed."""
        self._batch.answers.append(answer)
        self.confirmed(effects, answer.answered_ns)

    def confirmed(self, effects: Iterable[Effect], now_ns: int) -> None:
        """Note what an answer or a look into the inventory changed."""
        batch = self._batch
        for effect in effects:
            if isinstance(effect, Finish):
                batch.results.append(Result(effect.step, effect.outcome, effect.reason, now_ns))
            elif isinstance(effect, Skip):
                batch.results.extend(Result(step, Outcome.SKIPPED, effect.reason, now_ns) for step in effect.steps)
            elif isinstance(effect, Hold):
                batch.hold_until_ns = effect.until_ns

    @property
    def has_notes(self) -> bool:
        """Whether something waits for the next commit."""
        return bool(self._batch)

    @property
    def is_writing(self) -> bool:
        """Whether a commit runs."""
        return self._writing is not None

    def start_commit(self) -> None:
        """The next commit begins; what is noted from here on waits for the one after."""
        self._writing, self._batch = self._batch, Batch()

    def end_commit(self, now_ns: int) -> Sequence[tuple[int, int, int]]:
        """The commit that runs is durable; the intents it held."""
        batch, self._writing = self._writing, None
        assert batch is not None, "a commit runs"  # noqa: S101 - an invariant of the engine
        self._apply(batch, now_ns)
        return batch.intents

    def crash(self, now_ns: int, *, commit_made_it: bool) -> None:
        """The process dies: what is noted is gone, and the commit that runs made it to the disk or did not."""
        if self._writing is not None and commit_made_it:
            self._apply(self._writing, now_ns)
        self._writing, self._batch = None, Batch()

    def close(self, now_ns: int, reason: StopReason) -> None:
        """The process ends in good order; everything noted was written."""
        self.processes[-1].ended_ns = now_ns
        self.processes[-1].end_reason = reason

    def _apply(self, batch: Batch, now_ns: int) -> None:
        process = len(self.processes) - 1
        for key in batch.withdrawn:
            if key in self.attempts and self.attempts[key].answered_ns is None:
                del self.attempts[key]
        for answer in batch.answers:
            row = self.attempts[answer.step, answer.attempt]
            row.sent_ns, row.answered_ns = answer.sent_ns, answer.answered_ns
            row.kind, row.reason = answer.reply.kind, answer.reply.reason
        for result in batch.results:
            self._check_open(result)
            self.results[result.step] = result
            self.finished_ns[result.step] = now_ns
        for step, attempt, intent_ns in batch.intents:
            assert (step, attempt) not in self.attempts, "one intent an attempt"  # noqa: S101 - as above
            self.attempts[step, attempt] = Attempt(process, intent_ns)
            self.landed_ns.setdefault((step, attempt), []).append(now_ns)
        if batch.hold_until_ns is not None:
            self.hold_until_ns = batch.hold_until_ns
        self.commits.append((process, batch))

    def _check_open(self, result: Result) -> None:
        before = self.results.get(result.step)
        if before is None:
            return
        unconfirmed = before.outcome is Outcome.ACCEPTED and before.reason is None
        if not (unconfirmed and result.outcome in GOOD):
            raise AssertionError(f"step {result.step} was {before.outcome} and becomes {result.outcome}")

    def progress(self, now_ns: int) -> Progress:
        """What whoever takes the run up now goes on from."""
        outcomes = bytearray(len(self._steps))
        for step, result in self.results.items():
            outcomes[step] = OUTCOMES.index(result.outcome) + 1
        troubles: dict[int, Trouble] = {}
        lost: list[int] = []
        for (step, _), row in sorted(self.attempts.items()):
            if step in self.results:
                continue
            trouble = troubles.setdefault(step, Trouble(first_ns=now_ns))
            if row.kind is None:
                lost.append(step)
                continue
            trouble.sends += 1
            trouble.failures += row.kind in _COUNTS_AS_FAILURE
            if row.kind.may_have_run:
                trouble.may_have_run = row.reason
        finished = not self.processes or finished_steps_matter(self._steps, self.processes[-1].policy)
        return Progress(
            outcomes=outcomes,
            troubles=troubles,
            lost=lost,
            not_before_ns=self.settling(now_ns, of_open_steps=False) if finished else {},
            disturbed_until_ns=self.settling(now_ns, of_open_steps=True, finished=finished),
            hold_until_ns=self._held_until_ns(now_ns),
            unconfirmed=self._unconfirmed(),
            gate_waived=bool(self.processes) and self.processes[-1].end_reason is StopReason.GATE_FAILED,
        )

    def _unconfirmed(self) -> dict[int, int]:
        """Accepted steps that nobody has looked for with success: the last of their device that was tried."""
        confirm = self.processes[-1].policy.confirm if self.processes else None
        if confirm is None or not confirm.enabled:
            return {}
        tried = self.results.keys() | {step for step, _ in self.attempts}
        latest = {self._steps.device_of[step]: step for step in sorted(tried)}
        return {
            step: row.sent_ns
            for (step, _), row in sorted(self.attempts.items())
            if row.kind is ReplyKind.ACCEPTED
            and row.sent_ns is not None
            and latest[self._steps.device_of[step]] == step
            and self.results[step].outcome is Outcome.ACCEPTED
            and self.results[step].reason is None
            and self._steps.operation(step) in confirm.operations
        }

    def _held_until_ns(self, now_ns: int) -> int:
        if not self.processes:
            return 0
        last = self.processes[-1]
        spacing_ns = round(NS_PER_S / min(1.0, last.policy.rate.per_s))
        # An attempt without an answer left at some time before now.
        sent_ns = (row.sent_ns or row.answered_ns or now_ns for row in self.attempts.values())
        quiet_until_ns = max(sent_ns, default=0) + spacing_ns
        longest_ns = max(last.policy.throttling.longest_hold_ns, spacing_ns)
        return min(max(quiet_until_ns, self.hold_until_ns or 0), now_ns + longest_ns)

    def settling(self, now_ns: int, *, of_open_steps: bool, finished: bool = True) -> dict[int, int]:
        """By device, when it will have settled from what it was last told; settled ones are left out.

        Args:
            now_ns: The time now.
            of_open_steps: Whether steps without an outcome count: towards other runs they do.
            finished: Whether the others count.
        """
        not_before_ns: dict[int, int] = {}
        for (step, _), row in self.attempts.items():
            if not (row.kind is None or row.kind.may_have_run):
                continue
            if not (finished if step in self.results else of_open_steps):
                continue
            over_ns = row.answered_ns
            if over_ns is None:
                over_ns = row.intent_ns + longest_attempt_ns(self.processes[row.process].policy)
            settle_ns = self._steps.settle_ns_of[step]
            if over_ns + settle_ns > now_ns:
                device = self._steps.device_of[step]
                not_before_ns[device] = max(not_before_ns.get(device, 0), min(over_ns, now_ns) + settle_ns)
        return not_before_ns
