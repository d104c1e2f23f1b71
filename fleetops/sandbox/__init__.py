"""A local control plane with faults on demand, as a real server on a real socket."""

from fleetops.sandbox.config import Busy, SandboxConfig
from fleetops.sandbox.faults import FAULTS, Fault, parse_fault
from fleetops.sandbox.log import Received
from fleetops.sandbox.server import Sandbox, run_sandbox, sandbox_thread

__all__ = [
    "FAULTS",
    "Busy",
    "Fault",
    "Received",
    "Sandbox",
    "SandboxConfig",
    "parse_fault",
    "run_sandbox",
    "sandbox_thread",
]
