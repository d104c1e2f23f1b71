"""The control plane: what sends operations and reads the inventory. The only place that knows HTTP."""

from __future__ import annotations

from fleetops.control.base_url import DEFAULT_BASE_URL, parse_base_url
from fleetops.control.client import ClientSettings
from fleetops.control.http import HttpControlPlane
from fleetops.control.inventory import HttpInventory, InventoryError
from fleetops.control.lookup import find_devices
from fleetops.control.protocol import ControlPlane, Device, DeviceFilter, Inventory
from fleetops.control.token import Token, read_token

__all__ = [
    "DEFAULT_BASE_URL",
    "ClientSettings",
    "ControlPlane",
    "Device",
    "DeviceFilter",
    "HttpControlPlane",
    "HttpInventory",
    "Inventory",
    "InventoryError",
    "Token",
    "find_devices",
    "parse_base_url",
    "read_token",
]
