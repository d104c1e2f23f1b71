"""What earlier runs measured of the service becomes what the next plan reckons with."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetops.errors import FleetopsError
from fleetops.journal.readonly import connect_readonly
from fleetops.journal.store import read_facts
from fleetops.model import NS_PER_S, ReplyKind
from fleetops.plan.assumptions import Assumptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.journal import StateDir

LEAST_ANSWERS: Final = 20
"""A run with fewer answers says too little of the service."""
MOST_ANSWERS: Final = 20_000
QUANTILES: Final = 41

_RUNS_LOOKED_AT: Final = 100
_ANSWERS: Final = (
    "SELECT sent_ns, answered_ns, kind, intent_ns FROM (SELECT sent_ns, answered_ns, kind, intent_ns FROM attempt "
    "WHERE sent_ns IS NOT NULL AND answered_ns IS NOT NULL ORDER BY sent_ns DESC LIMIT ?) ORDER BY sent_ns"
)


class Answer(NamedTuple):
    """One answered attempt, as the journal has it.

    Attributes:
        sent_ns: When it left.
        answered_ns: When its answer was there.
        kind: What the answer meant.
        intent_ns: When its intent was noted.
    """

    sent_ns: int
    answered_ns: int
    kind: str
    intent_ns: int


def learned(state: StateDir, base_url: str) -> Assumptions | None:
    """What the newest run with enough answers measured of the service at `base_url`; None where there is none.

    Journals that cannot be read are passed over.
    """
    for run_id in state.run_ids()[:_RUNS_LOOKED_AT]:
        try:
            with closing(connect_readonly(state.journal_path(run_id))) as connection:
                if read_facts(connection).base_url != base_url:
                    continue
                rows = [Answer(*row) for row in connection.execute(_ANSWERS, (MOST_ANSWERS,))]
        except (FleetopsError, OSError, sqlite3.Error, KeyError, TypeError, ValueError):
            continue
        found = measured(rows, run_id)
        if found is not None:
            return found
    return None


def measured(rows: Sequence[Answer], run_id: str) -> Assumptions | None:
    """What answers say of the service; None where there are too few.

    Args:
        rows: The answers, in the order of the sends.
        run_id: The run they are of.
    """
    answered = [row for row in rows if row.kind not in {ReplyKind.NOT_REACHED, ReplyKind.THROTTLED}]
    if len(answered) < LEAST_ANSWERS:
        return None
    latencies_ns = sorted(row.answered_ns - row.sent_ns for row in answered)
    last = len(latencies_ns) - 1
    failing = sum(row.kind in {ReplyKind.MAYBE, ReplyKind.NOT_REACHED} for row in rows)
    tried = sum(row.kind != ReplyKind.THROTTLED for row in rows)
    limit_per_s, retry_after_s = _throttling(rows)
    return Assumptions(
        latency_s=tuple(
            round(max(0, latencies_ns[at * last // (QUANTILES - 1)]) / NS_PER_S, 6) for at in range(QUANTILES)
        ),
        failing=round(failing / tried, 6),
        limit_per_s=limit_per_s,
        retry_after_s=retry_after_s,
        host_s=round(max(0.0, median(row.sent_ns - row.intent_ns for row in rows) / NS_PER_S), 6),
        run_id=run_id,
        samples=len(rows),
    )


def _throttling(rows: Sequence[Answer]) -> tuple[float | None, float]:
    """What the service took in the second before each volley of 429s, and how long the run then held."""
    sent_ns = [row.sent_ns for row in rows]
    taken, holds_s = [], []
    volley_until_ns = 0
    for at, row in enumerate(rows):
        if row.kind != ReplyKind.THROTTLED or row.sent_ns < volley_until_ns:
            continue
        first = bisect_left(sent_ns, row.sent_ns - NS_PER_S)
        taken.append(sum(other.kind != ReplyKind.THROTTLED for other in rows[first:at]))
        after = bisect_left(sent_ns, row.answered_ns)
        if after < len(rows):
            holds_s.append((sent_ns[after] - row.answered_ns) / NS_PER_S)
        volley_until_ns = sent_ns[after] if after < len(rows) else row.answered_ns
    if not taken:
        return None, 1.0
    return max(0.1, float(median(taken))), round(median(holds_s), 3) if holds_s else 1.0
