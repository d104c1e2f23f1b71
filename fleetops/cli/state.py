"""Where the runs are: on this host, and in the database that several hosts share, where one is named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fleetops.errors import UsageError

if TYPE_CHECKING:
    from fleetops.cluster.state import ClusterState
    from fleetops.journal import StateDir

DATABASE = "FLEETOPS_DATABASE_URL"


def state_dir() -> StateDir:
    """The runs that this command can see.

    Raises:
        UsageError: A database is named, and what it takes to read it is not installed.
    """
    from fleetops.journal import StateDir, default_state_dir

    root = default_state_dir(os.environ)
    url = os.environ.get(DATABASE)
    if not url:
        return StateDir(root)
    require_cluster()
    from fleetops.cluster.state import ClusterState

    return ClusterState(root, url)


def shared(state: StateDir, run_id: str) -> ClusterState | None:
    """The state, where the run is one of the database; None where it is one of this host."""
    if not os.environ.get(DATABASE):
        return None
    from fleetops.cluster.state import ClusterState

    return state if isinstance(state, ClusterState) and not state.is_here(run_id) else None


def database_url() -> str:
    """The database that is named.

    Raises:
        UsageError: None is, or what it takes to use it is not installed.
    """
    url = os.environ.get(DATABASE)
    if not url:
        raise UsageError(
            f"there is no {DATABASE} in the environment",
            hint=f"export {DATABASE}=postgresql://ROLE@HOST/DATABASE, with the password in PGPASSFILE",
        )
    require_cluster()
    return url


def require_cluster() -> None:
    """Have a good word for what is not installed.

    Raises:
        UsageError: It is not.
    """
    try:
        import procrastinate  # noqa: F401 - only whether it is there
        import psycopg  # noqa: F401 - as above
    except ImportError:
        raise UsageError(
            f"{DATABASE} is set, and what it takes to use a database is not installed",
            hint='pip install "fleetops[cluster]", or unset it',
        ) from None
