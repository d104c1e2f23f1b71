"""What is durable: intents before sends, answers after them, and what a resume or another run has to know."""

from fleetops.journal.claims import claim_devices
from fleetops.journal.clock import RunClock
from fleetops.journal.commands import Action, Command, Heard, Inbox, ask
from fleetops.journal.making import create_journal
from fleetops.journal.records import Journal, Loaded, NewRun, RunFacts
from fleetops.journal.state import RunLock, StateDir, default_state_dir
from fleetops.journal.store import RunStore

__all__ = [
    "Action",
    "Command",
    "Heard",
    "Inbox",
    "Journal",
    "Loaded",
    "NewRun",
    "RunClock",
    "RunFacts",
    "RunLock",
    "RunStore",
    "StateDir",
    "ask",
    "claim_devices",
    "create_journal",
    "default_state_dir",
]
