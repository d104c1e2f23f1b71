"""Manifests: bytes to rows, with every problem found and not just the first."""

from fleetops.manifest.manifest import Manifest, read_manifest
from fleetops.manifest.schema import manifest_schema

__all__ = ["Manifest", "manifest_schema", "read_manifest"]
