"""The report of a run as a page that follows the run while it goes on, in this process or in another one."""

from fleetops.live.server import live_thread, serve_live

__all__ = ["live_thread", "serve_live"]
