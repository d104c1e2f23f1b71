"""A PgBouncer of the tests' own, in transaction mode: each transaction may have another session of the server's."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.cluster.server import PostgresServer, ServerError, as_user, free_port, own

_USUAL: Final = Path("/usr/sbin/pgbouncer")
"""Where Debian puts it, which is not on everybody's path."""
_SETTINGS: Final = Path(__file__).parents[2] / "docs/cluster/pgbouncer.ini"
"""What the guide says how to set it up."""


def program() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("pgbouncer") or (str(_USUAL) if _USUAL.exists() else None)


@dataclass
class Pooler:
    """A PgBouncer before a server, set up as the guide has it, but for who may connect and with few sessions.

    Attributes:
        server: The server.
        sessions: How many sessions of a database all its clients share.
        port: Where it listens on the loopback address.
        folder: Where its files are.
    """

    server: PostgresServer
    sessions: int = 4
    port: int = field(default_factory=free_port)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fleetops-pooler-", dir="/tmp")))
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        found = program()
        assert found is not None
        settings = ConfigParser()
        settings.read(_SETTINGS, encoding="utf-8")
        settings["databases"] = {"*": f"host=127.0.0.1 port={self.server.port}"}
        settings["pgbouncer"].update(
            {
                "listen_port": str(self.port),
                "unix_socket_dir": "",
                "auth_type": "trust",
                "auth_file": f"{self.folder}/users.txt",
                "logfile": f"{self.folder}/pgbouncer.log",
                "default_pool_size": str(self.sessions),
            }
        )
        with (self.folder / "pgbouncer.ini").open("w", encoding="utf-8") as file:
            settings.write(file)
        (self.folder / "users.txt").write_text('"owner" ""\n', encoding="utf-8")
        own(self.folder)
        self._process = subprocess.Popen(
            [found, "-q", str(self.folder / "pgbouncer.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,  # as the server
            **as_user(),  # type: ignore[call-overload]  # which keywords it takes depends on who runs it
        )
        until_s = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > until_s or self._process.poll() is not None:
                    raise ServerError(f"PgBouncer did not start: {self.log()}") from None
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url_of(self, url: str) -> str:
        """A database of the server, by way of the pooler."""
        return f"postgresql://owner@127.0.0.1:{self.port}/{url.rpartition('/')[2]}"

    def log(self) -> str:
        """What it has said."""
        path = self.folder / "pgbouncer.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""
