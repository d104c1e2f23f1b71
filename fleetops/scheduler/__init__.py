"""The pure core of a run: the state machine that the runner and the simulation both drive."""

from typing import Final

from fleetops.scheduler.instructions import (
    Done,
    Effect,
    Event,
    Finish,
    Hold,
    Instruction,
    Notice,
    Retry,
    Send,
    Skip,
    Stop,
    StopReason,
    Wait,
    WaitFor,
)
from fleetops.scheduler.machine import Scheduler
from fleetops.scheduler.progress import Progress, Trouble
from fleetops.scheduler.watchlist import Look

SCHEDULER_VERSION: Final = 2
"""Counts up whenever the scheduler decides something differently: a plan made by another one no longer holds."""

__all__ = [
    "SCHEDULER_VERSION",
    "Done",
    "Effect",
    "Event",
    "Finish",
    "Hold",
    "Instruction",
    "Look",
    "Notice",
    "Progress",
    "Retry",
    "Scheduler",
    "Send",
    "Skip",
    "Stop",
    "StopReason",
    "Trouble",
    "Wait",
    "WaitFor",
]
