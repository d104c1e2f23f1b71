"""Failure budgets: how much may go wrong before a run stops starting anything new.

A budget is written `failed>5% after 100`, `unknown>20`, `failed+unknown>3%` or `consecutive>10`, and with an
operation in front where it holds for that one alone: `factory: failed>2% after 50`. A percentage is of the
finished steps, which are those accepted, confirmed, failed or unknown: what was skipped shows nothing of how the
run is going. A step that was accepted and not confirmed counts as unknown. A share is judged from the first
finished step on unless `after` says from which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fleetops.model import OPERATIONS, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PPM: Final = 1_000_000
"""Shares are counted in millionths, so that they compare exactly."""

_PPM_PER_PERCENT: Final = PPM // 100
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)\s*%")
_SHAPE: Final = re.compile(
    r"(?:(?P<operation>\w+)\s*:\s*)?"
    r"(?P<measure>\w+(?:\s*\+\s*\w+)?)\s*>\s*"
    r"(?:(?P<count>\d{1,9})|(?P<percent>[\d.]+\s*%))"
    r"(?:\s+after\s+(?P<after>\d{1,9}))?"
)
_EXAMPLE: Final = "write failed>5% after 100, unknown>20, consecutive>10 or factory: failed>2% after 50"


def parse_percent_ppm(text: str) -> int:
    """A percentage such as `5%` or `0.25%`, in millionths.

    Raises:
        ValueError: It is not a percentage from 0% to 100% with at most four decimals.
    """
    found = _PERCENT.fullmatch(text.strip())
    share_ppm = round(float(found[1]) * _PPM_PER_PERCENT) if found else -1
    if not 0 <= share_ppm <= PPM:
        raise ValueError(f"{text[:40]!r} is not a percentage from 0% to 100% with at most four decimals")
    return share_ppm


def format_percent(share_ppm: int) -> str:
    """A share in millionths as a percentage that `parse_percent_ppm` reads."""
    return f"{share_ppm / _PPM_PER_PERCENT:.4f}".rstrip("0").rstrip(".") + "%"


class Measure(StrEnum):
    """What a budget counts: final outcomes of steps, or how many in a row were failed or unknown."""

    FAILED = "failed"
    UNKNOWN = "unknown"
    FAILED_OR_UNKNOWN = "failed+unknown"
    CONSECUTIVE = "consecutive"


_COUNTED: Final = {
    Measure.FAILED: frozenset({Outcome.FAILED}),
    Measure.UNKNOWN: frozenset({Outcome.UNKNOWN}),
    Measure.FAILED_OR_UNKNOWN: frozenset({Outcome.FAILED, Outcome.UNKNOWN}),
    Measure.CONSECUTIVE: frozenset({Outcome.FAILED, Outcome.UNKNOWN}),
}
_FINISHED: Final = frozenset({Outcome.ACCEPTED, Outcome.CONFIRMED, Outcome.FAILED, Outcome.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit; the run stops once it is exceeded.

    Attributes:
        measure: What is counted.
        over_count: More steps than this exceed it; None where the limit is a share.
        over_ppm: A larger share of the finished steps than this, in millionths, exceeds it; None where it is a count.
        after: How many steps have to be finished before a share is judged.
        operation: The only operation it holds for, or None for all of them together.
    """

    measure: Measure
    over_count: int | None = None
    over_ppm: int | None = None
    after: int = 0
    operation: Operation | None = None

    def __post_init__(self) -> None:
        if (self.over_count is None) is (self.over_ppm is None):
            raise ValueError("a budget has a count or a percentage")
        if self.over_ppm is None and self.after:
            raise ValueError("`after` goes with a percentage: a count is a count from the first step on")
        if self.measure is Measure.CONSECUTIVE and self.over_count is None:
            raise ValueError("`consecutive` goes with a count: write consecutive>10")
        if self.over_ppm is not None and not 0 <= self.over_ppm < PPM:
            raise ValueError("a share of 100% is never exceeded: write a smaller one")

    def __str__(self) -> str:
        scope = f"{self.operation}: " if self.operation else ""
        limit = format_percent(self.over_ppm) if self.over_ppm is not None else str(self.over_count)
        after = f" after {self.after}" if self.after else ""
        return f"{scope}{self.measure}>{limit}{after}"


def parse_budget(text: str) -> Budget:
    """Read a budget such as `failed>5% after 100` or `factory: unknown>0`.

    Raises:
        ValueError: It is not a budget; the message says what to write.
    """
    found = _SHAPE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text[:60]!r} is not a failure budget: {_EXAMPLE}")
    measure = "+".join(sorted(part.strip() for part in found["measure"].split("+")))
    operation = found["operation"]
    return Budget(
        measure=Measure(_one_of(measure, Measure, "a budget counts")),
        over_count=int(found["count"]) if found["count"] else None,
        over_ppm=parse_percent_ppm(found["percent"]) if found["percent"] else None,
        after=int(found["after"] or 0),
        operation=Operation(_one_of(operation, Operation, "the operations are")) if operation else None,
    )


def _one_of(word: str, known: Iterable[str], introduction: str) -> str:
    names = [str(name) for name in known]
    if word in names:
        return word
    nearest = get_close_matches(word, names, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"{introduction} {', '.join(names)}"
    raise ValueError(f"{word[:40]!r} in a failure budget is not known: {hint}")


class BudgetState:
    """Counts final outcomes against the budgets of a run, and remembers the first one that was exceeded.

    A run that is resumed starts with a new state: whoever resumes it has seen what went wrong and chose to go on,
    and outcomes of before would stop it again at once. `totals` is for a run that goes on by itself, such as after
    a crash of the process: it brings back all but how many had failed in a row.
    """

    __slots__ = ("_by_operation", "_spent", "budgets")

    def __init__(self, budgets: Sequence[Budget], totals: Mapping[tuple[int, Outcome], int] | None = None) -> None:
        """Start counting.

        Args:
            budgets: The budgets; where one step exceeds several, the first of them is told.
            totals: How many steps have what outcome, by operation code and outcome.
        """
        self.budgets = tuple(budgets)
        counters = [_Counter(budget) for budget in self.budgets]
        self._by_operation = [
            [counter for counter in counters if counter.budget.operation in {None, operation}]
            for operation in OPERATIONS
        ]
        self._spent: str | None = None
        for (operation, outcome), count in (totals or {}).items():
            for counter in self._by_operation[operation]:
                counter.add(outcome, count)
        self._spent = next((counter.explain() for counter in counters if counter.exceeded()), None)

    def record(self, operation: int, outcome: Outcome, *, watched: bool = False) -> None:
        """Count the outcome of a step of the operation with this code; tell each step once.

        An accepted step may be `watched`: `confirmed` or `not_confirmed` is to be called for it as well.
        """
        if outcome in _FINISHED:
            for counter in self._by_operation[operation]:
                if counter.record(outcome, watched=watched) and self._spent is None:
                    self._spent = counter.explain()

    def confirmed(self, operation: int) -> None:
        """The device of a watched step of the operation with this code has come back."""
        for counter in self._by_operation[operation]:
            counter.confirmed()

    def not_confirmed(self, operation: int) -> None:
        """The device of a watched step has not come back: how it is, is unknown."""
        for counter in self._by_operation[operation]:
            if counter.not_confirmed() and self._spent is None:
                self._spent = counter.explain()

    def spent(self) -> str | None:
        """The first budget that was exceeded, with the figures of that moment; None while there is room."""
        return self._spent


class _Counter:
    """What one budget has seen."""

    __slots__ = ("after", "bad", "budget", "counted", "finished", "in_a_row", "not_back", "over", "over_ppm")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.counted = _COUNTED[budget.measure]
        self.in_a_row = budget.measure is Measure.CONSECUTIVE
        self.after = budget.after
        # A count is a share of nothing on top of a constant, which makes one comparison do for both.
        self.over = PPM * (budget.over_count or 0)
        self.over_ppm = budget.over_ppm or 0
        self.bad = 0
        self.finished = 0
        self.not_back = 0

    def record(self, outcome: Outcome, *, watched: bool) -> bool:
        """Count one finished step; whether the budget is exceeded by it."""
        self.finished += 1
        if outcome in self.counted:
            self.bad += 1
            return self.exceeded()
        if self.in_a_row and not watched:
            self.bad = 0
        # A step that went well makes no share larger, but it may be the one from which the share is judged.
        return self.finished == self.after and self.exceeded()

    def confirmed(self) -> None:
        """A watched step went well for good."""
        if self.in_a_row:
            self.bad = 0

    def not_confirmed(self) -> bool:
        """Take an accepted step for an unknown one; whether the budget is exceeded by it."""
        if Outcome.UNKNOWN not in self.counted:
            return False
        self.bad += 1
        self.not_back += 1
        return self.exceeded()

    def add(self, outcome: Outcome, count: int) -> None:
        """Count the steps of before."""
        if outcome in _FINISHED:
            self.finished += count
            if outcome in self.counted and not self.in_a_row:
                self.bad += count

    def exceeded(self) -> bool:
        return self.finished >= self.after and self.bad * PPM > self.over + self.over_ppm * self.finished

    def explain(self) -> str:
        which = f"{self.budget.operation} steps" if self.budget.operation else "steps"
        what = " or ".join([*sorted(self.counted), *(["not confirmed"] if self.not_back else [])])
        if self.in_a_row:
            return f"{self.budget}: {self.bad} {which} in a row {what}"
        share = f" ({self.bad / self.finished:.2%})" if self.budget.over_ppm is not None else ""
        return f"{self.budget}: {self.bad} of {self.finished} finished {which} {what}{share}"
