"""How runs stand that never were."""

from __future__ import annotations

from fleetops.journal.views import Failure
from fleetops.model import Outcome, Reason
from fleetops.report.progress import Standing
from fleetops.runner import Snapshot

T = 1_767_322_800_000_000_000
"""2026-01-02T03:00:00Z."""

FAILURES = tuple(Failure(step, f"SN{step:04}", "reboot", Outcome.FAILED, Reason.NOT_FOUND, T) for step in range(1, 15))
SNAPSHOT = Snapshot(
    outcomes={**dict.fromkeys(Outcome, 0), Outcome.ACCEPTED: 1190, Outcome.FAILED: 8},
    steps=6000,
    in_flight=12,
    waiting=300,
    ready=4000,
    sends=1300,
    per_s=20.0,
    asked_per_s=20.0,
    waits_for=None,
    wait_ns=None,
    wave=(1, 1),
    detail="",
    stopping=None,
    notices=(),
    failures=FAILURES,
)
STANDING = Standing(
    run_id="20260102-030405-6f7a",
    campaign="batch 14",
    steps=6000,
    outcomes=SNAPSHOT.outcomes,
    elapsed_s=65,
    left_s=600,
    planned_s=None,
    sent_per_s=18.4,
    per_s=20.0,
    asked_per_s=20.0,
    in_flight=12,
    waiting=300,
    ready=4000,
    wave=(1, 1),
    window=None,
    now_ns=T,
    waits_for=None,
    wait_s=None,
    stopping=None,
    failures=FAILURES,
)
