"""Drives the scheduler of a real run on a virtual clock: for plans, and to show that the promises hold."""

from fleetops.simulation.engine import Order, StuckError, simulate
from fleetops.simulation.trace import Trace
from fleetops.simulation.world import Faults, HostileWorld, Seen, SteadyWorld, World

__all__ = ["Faults", "HostileWorld", "Order", "Seen", "SteadyWorld", "StuckError", "Trace", "World", "simulate"]
