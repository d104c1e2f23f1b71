"""The database that several hosts share: how it is reached, and that its tables are of this version."""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Final

import psycopg
import psycopg_pool
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fleetops.errors import HostError, JournalError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend

VARIABLE: Final = "FLEETOPS_DATABASE_URL"
UNREACHABLE: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg_pool.PoolTimeout, OSError)
"""What is raised where the database is not there now, and may be again."""

_CONNECT_S: Final = 5
_NEVER: Final = None
"""When statements are prepared. Behind a pooler a name may stand for what another client prepared under it, and to
prepare saves less than a tenth of a millisecond."""
_UPGRADE: Final = "`fleetops database` makes or upgrades them, as a role that may create tables"
_LOCAL: Final = ("", "localhost", "127.0.0.1", "::1")


def database_url(env: Mapping[str, str]) -> str:
    """Where the database is, from the environment; empty where none is named."""
    return env.get(VARIABLE, "")


@cache
def conninfo(url: str) -> str:
    """How to connect, from a URL or from what libpq calls a connection string.

    The certificate of another host is verified unless the URL says otherwise.

    Raises:
        UsageError: It is neither.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        # Its own words may quote the password.
        raise UsageError(
            f"{VARIABLE} is not the address of a PostgreSQL database",
            hint="write postgresql://ROLE@HOST:PORT/DATABASE, and keep the password in PGPASSFILE",
        ) from None
    host = str(given.get("host") or "")
    if not host.startswith("/") and host not in _LOCAL and "sslmode" not in given:
        given |= {"sslmode": "verify-full"}
        given.setdefault("sslrootcert", "system")
    given.setdefault("connect_timeout", _CONNECT_S)
    given.setdefault("application_name", "fleetops")
    # A host that is gone without a word is noticed before a lease is over.
    keepalive = {"keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3, "tcp_user_timeout": 5000}
    return make_conninfo("", **{**keepalive, **given})


def shown(url: str) -> str:
    """The database in words, without a secret."""
    given = conninfo_to_dict(conninfo(url))
    return f"{given.get('dbname', '')} at {given.get('host', 'the local socket')}"


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection for a command that reads or changes a little.

    Raises:
        UsageError: There is no such database.
        JournalError: It cannot be reached, or it fails.
    """
    where = conninfo(url)
    try:
        with psycopg.connect(where, autocommit=True, prepare_threshold=_NEVER) as connection:
            yield connection
    except psycopg.errors.UndefinedTable:
        raise UsageError(f"the database {shown(url)} has no tables of fleetops", hint=_UPGRADE) from None
    except psycopg.Error as error:
        raise JournalError(
            f"the database {shown(url)} cannot be used: {first_line(error)}",
            hint=_advice(error, f"check {VARIABLE}, the rights of its role, and that the server is up"),
        ) from None


def _advice(error: BaseException, usual: str) -> str:
    """What to do about what the database said."""
    if "startup parameter" in str(error):
        return (
            f"a pooler is in between, which takes no `options`: leave them out of {VARIABLE}, and give the role its "
            "settings with ALTER ROLE ... SET"
        )
    return usual


async def is_pooled(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether something between here and the server hands out its sessions, as PgBouncer does.

    Such a thing gives each client a process number of its own making.
    """
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def no_such_run(run_id: str) -> UsageError:
    """What to say where neither this host nor the database has that run."""
    return UsageError(
        f"there is no run {run_id} on this host, nor in the database", hint="`fleetops runs` lists those there are"
    )


def first_line(error: BaseException) -> str:
    """The first line of what the database said: the others quote the statement."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def make_pool(url: str, *, size: int) -> psycopg_pool.AsyncConnectionPool[Any]:
    """Connections for a process that lasts; to be opened in its event loop.

    Args:
        url: The database.
        size: How many connections at most.
    """
    return psycopg_pool.AsyncConnectionPool(
        conninfo(url),
        min_size=1,
        max_size=size,
        timeout=_CONNECT_S,
        reconnect_timeout=0,
        open=False,
        configure=_autocommit,
        kwargs={"prepare_threshold": _NEVER},
    )


async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    # Not among the arguments of a connection: the queue opens one more with the same, and sets it by itself.
    await connection.set_autocommit(True)


def upgrade(url: str) -> list[str]:
    """Make the tables, or bring those of an earlier version up to this one; the names of what was applied.

    Raises:
        HostError: The database cannot be reached, or the role may not.
    """
    import yoyo  # noqa: PLC0415 - only where tables are made
    from procrastinate.schema import SchemaManager  # noqa: PLC0415 - as above

    applied: list[str] = []
    with connected(url) as connection:
        row = connection.execute("SELECT current_user, has_schema_privilege(current_schema(), 'CREATE')").fetchone()
    if row is not None and not row[1]:
        # Without this, it is the first table missing that would be complained of.
        raise HostError(f"the role {row[0]} may not create tables in {shown(url)}", hint=_UPGRADE)
    try:
        backend = _backend(url)
        with closing(backend.connection), as_file(files("fleetops.cluster").joinpath("migrations")) as ours:
            backend.init_database()
            with backend.lock():
                # The queue's tables come with migrations of its own, in the same form.
                for folder in (SchemaManager.get_migrations_path(), str(ours)):
                    wanted = backend.to_apply(yoyo.read_migrations(folder))
                    backend.apply_migrations(wanted)
                    applied += [migration.id for migration in wanted]
    except (psycopg.Error, OSError) as error:
        raise HostError(
            f"the tables in {shown(url)} cannot be made: {first_line(error)}",
            hint="name a role that may create tables in that database",
        ) from None
    return applied


def _backend(url: str) -> PostgresqlPsycopgBackend:
    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend  # noqa: PLC0415 - as above
    from yoyo.connections import DatabaseURI  # noqa: PLC0415 - as above

    given: dict[str, Any] = {k: value for k, value in conninfo_to_dict(conninfo(url)).items() if value is not None}
    database = given.pop("dbname", None)
    given["prepare_threshold"] = _NEVER
    return PostgresqlPsycopgBackend(
        DatabaseURI("postgresql+psycopg", None, None, None, None, database, given), "fleetops_migration"
    )
