"""Journals as runs leave them, made with the journal's own functions."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from fleetops.journal import NewRun, RunFacts, StateDir, create_journal
from fleetops.journal.store import connect
from fleetops.model import NS_PER_S, Operation, Steps
from fleetops.policy import Policy

if TYPE_CHECKING:
    from pathlib import Path

BASE_URL = "https://control.example/api/v1"
START_NS = 1_769_990_400 * NS_PER_S

Sent = tuple[float, float, str]
"""When a request was sent and answered, in seconds from the start, and what the answer meant."""


def leave_run(
    state: StateDir,
    run_id: str,
    sent: list[Sent],
    *,
    base_url: str = BASE_URL,
    serials: list[str] | None = None,
    plan: str = "",
    took_s: float | None = None,
) -> Path:
    """A run whose steps were sent like that; the accepted ones have their outcome."""
    state.prepare()
    names = serials or [f"CPE{number:06}" for number in range(max(1, len(sent)))]
    steps = Steps.of([(name, Operation.SYNC, 0) for name in names])
    facts = RunFacts(run_id, "night.csv", "0" * 64, "night", base_url, START_NS, plan=plan)
    path = state.journal_path(run_id)
    create_journal(path, NewRun(facts, Policy(), steps))
    with closing(connect(path, writable=True)) as connection:
        ended_ns = None if took_s is None else START_NS + round(took_s * NS_PER_S)
        connection.execute(
            "INSERT INTO process VALUES (1, 1, '0', '', 0, ?, '{}', ?, ?, '')",
            (START_NS, ended_ns, None if ended_ns is None else "complete"),
        )
        for step, (sent_s, answered_s, kind) in enumerate(sent):
            sent_ns, answered_ns = (START_NS + round(at_s * NS_PER_S) for at_s in (sent_s, answered_s))
            connection.execute(
                "INSERT INTO attempt (step, attempt, process, intent_ns, sent_ns, answered_ns, kind) "
                "VALUES (?, 1, 1, ?, ?, ?, ?)",
                (step, sent_ns - 4_000_000, sent_ns, answered_ns, kind),
            )
            if kind == "accepted":
                connection.execute("INSERT INTO result VALUES (?, 'accepted', NULL, ?, 1)", (step, answered_ns))
    return path
