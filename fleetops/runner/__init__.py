"""Drives a run against the real world."""

from fleetops.runner.drive import Runner, Snapshot
from fleetops.runner.event_loop import is_uvloop_wanted, run_in_loop
from fleetops.runner.session import Ended, Session, new_run_id

__all__ = ["Ended", "Runner", "Session", "Snapshot", "is_uvloop_wanted", "new_run_id", "run_in_loop"]
