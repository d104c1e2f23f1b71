"""Where the runs are: on this host, and in the database that several hosts share, where one is named.

Nothing of what it takes to use a database is loaded where none is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleetops.errors import UsageError

if TYPE_CHECKING:
    from fleetops.cluster.state import ClusterState
    from fleetops.journal import StateDir

DATABASE: Final = "FLEETOPS_DATABASE_URL"


def state_dir(root: Path | str | None = None, database: str | None = None) -> StateDir:
    """The runs that can be seen from here.

    Args:
        root: Where the journals of this host are; None for the usual place.
        database: The database; None for the one that the environment names, if any.

    Raises:
        UsageError: A database is named, and what it takes to read it is not installed.
    """
    from fleetops.journal import StateDir, default_state_dir  # noqa: PLC0415 - `--help` needs none

    here = default_state_dir(os.environ) if root is None else Path(root)
    url = database or os.environ.get(DATABASE)
    if not url:
        return StateDir(here)
    require_cluster()
    from fleetops.cluster.state import ClusterState  # noqa: PLC0415 - only where a database is named

    return ClusterState(here, url)


def shared(state: StateDir, run_id: str) -> ClusterState | None:
    """The state, where the run is one of a database; None where it is one of this host."""
    if "fleetops.cluster.state" not in sys.modules:
        # Nobody has named a database, and there is no need to load what it takes to use one.
        return None
    from fleetops.cluster.state import ClusterState  # noqa: PLC0415 - as above

    return state if isinstance(state, ClusterState) and not state.is_here(run_id) else None


def database_url(given: str | None = None) -> str:
    """The database that is named.

    Args:
        given: The database; None for the one that the environment names.

    Raises:
        UsageError: None is, or what it takes to use it is not installed.
    """
    url = given or os.environ.get(DATABASE)
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
        import procrastinate  # noqa: F401, PLC0415 - only whether it is there
        import psycopg  # noqa: F401, PLC0415 - as above
    except ImportError:
        raise UsageError(
            "a database is named, and what it takes to use one is not installed",
            hint=f'pip install "fleetops[cluster]", or unset {DATABASE}',
        ) from None
