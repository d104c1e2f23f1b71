"""The pure core of a run: the state machine that the runner and the simulation both drive."""

from fleetops.scheduler.instructions import (
    Done,
    Effect,
    Finish,
    Hold,
    Instruction,
    Retry,
    Send,
    Skip,
    Stop,
    StopReason,
    Wait,
)
from fleetops.scheduler.machine import Progress, Scheduler, Trouble

__all__ = [
    "Done",
    "Effect",
    "Finish",
    "Hold",
    "Instruction",
    "Progress",
    "Retry",
    "Scheduler",
    "Send",
    "Skip",
    "Stop",
    "StopReason",
    "Trouble",
    "Wait",
]
