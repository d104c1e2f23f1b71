"""The version of fleetops."""

__version__ = "0.1.0"
