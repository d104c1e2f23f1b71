"""A PostgreSQL server of the tests' own, on a private socket and port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import psycopg

from fleetops.cluster.database import upgrade

USUAL: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
"""Where Debian puts the server's programs, which are not on the path."""
_USER: Final = "nobody"
_SMALL: Final = ("-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c", "log_min_messages=fatal")


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where they are not installed."""
    found = shutil.which("initdb")
    if found is not None and shutil.which("postgres"):
        return Path(found).resolve().parent
    return USUAL[-1] if USUAL else None


class ServerError(Exception):
    """The server did not start."""


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def own(folder: Path) -> None:
    """Give a folder to the user that servers run as."""
    if os.getuid() == 0:
        shutil.chown(folder, _USER)


def as_user() -> dict[str, object]:
    """What has a process run as that user: servers of databases refuse to run as root."""
    if os.getuid():
        return {}
    user = pwd.getpwnam(_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@dataclass
class PostgresServer:
    """A server with a data directory of its own; a superuser `owner` may connect without a password from this host.

    Attributes:
        folder: Where its files are, which its user owns.
        port: Where it listens on the loopback address.
        durable: Whether a commit is on the disk when it is over; slower, and what a crash harness wants.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fleetops-postgres-", dir="/tmp")))
    port: int = field(default_factory=free_port)
    durable: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _databases: int = 0

    @property
    def url(self) -> str:
        """The database `fleetops`, over TCP."""
        return self._address("fleetops")

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        binaries = programs()
        assert binaries is not None
        own(self.folder)
        options = ["--username=owner", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        self._run([str(binaries / "initdb"), f"--pgdata={self.folder}/data", *options])
        with (self.folder / "data/pg_hba.conf").open("a", encoding="utf-8") as rights:
            rights.write("host all all 10.212.0.0/16 trust\n")
        self.start()
        self._run([str(binaries / "createdb"), f"--host={self.folder}", f"--port={self.port}", "-Uowner", "fleetops"])
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        binaries = programs()
        assert binaries is not None
        self._process = subprocess.Popen(
            [
                str(binaries / "postgres"),
                f"-D{self.folder}/data",
                f"-p{self.port}",
                f"-k{self.folder}",
                "-clisten_addresses=*",
                f"-cfsync={'on' if self.durable else 'off'}",
                *_SMALL,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,  # a signal to the tests' own processes is not one to it
            **as_user(),  # type: ignore[call-overload]  # which keywords it takes depends on who runs it
        )
        until_s = time.monotonic() + 30
        ready = [str(binaries / "pg_isready"), "-q", f"-h{self.folder}", f"-p{self.port}", "-dpostgres", "-Uowner"]
        while subprocess.run(ready, check=False, cwd=self.folder).returncode:
            if time.monotonic() > until_s or self._process.poll() is not None:
                raise ServerError("PostgreSQL did not start")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it; `SIGKILL` ends it as a crash of its host would, but for what the kernel had taken."""
        if self._process is not None:
            if number == signal.SIGKILL:
                # Its children notice that it is gone, and end.
                self._process.kill()
            else:
                self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def make_template(self) -> None:
        """Make the tables in the database that others are copied from."""
        upgrade(self.url)

    def new_database(self, template: str = "fleetops") -> str:
        """A copy of a database; its URL."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._address(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def url_from(self, host: str, url: str) -> str:
        """A database, as another host reaches it by an address of this one."""
        return f"postgresql://owner@{host}:{self.port}/{url.rpartition('/')[2]}?sslmode=disable"

    def _address(self, database: str) -> str:
        return f"postgresql://owner@127.0.0.1:{self.port}/{database}"

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            **as_user(),  # type: ignore[call-overload]  # as above
        )
        if done.returncode:
            raise ServerError(done.stderr)
