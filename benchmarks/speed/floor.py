"""What a run cannot do without: a request and a reply for each operation, and its rows in the journal.

    python -m benchmarks.speed.floor BASE_URL DATABASE OPERATIONS

Two halves of the connections take turns: one is read, its rows are committed, and it is written to, while the service
answers the other. Nothing is checked, decided or parsed, no rate is kept, and the connections are waited for one by
one: what is left is system calls and SQL, and no client that journals its intents needs less.
"""

from __future__ import annotations

import socket
import sqlite3
import sys
import time
from itertools import islice
from urllib.parse import urlsplit

from fleetops.journal.commits import Batch, fill
from fleetops.journal.schema import TABLES

_HALF = 32
_REQUEST = (
    "PUT {path}/inventory_device_serial_operation/ZQ{number:09d}/ HTTP/1.1\r\nHost: {host}\r\n"
    "Authorization: Bearer token\r\n"
    'Content-Type: application/json\r\nContent-Length: 23\r\n\r\n{{"operation": "reboot"}}'
)
_MOST_BYTES = 65_536


def main() -> None:
    """Print the operations per second."""
    base_url, database, operations = sys.argv[1:]
    url = urlsplit(base_url)
    requests = [
        _REQUEST.format(path=url.path, host=url.netloc, number=number).encode() for number in range(int(operations))
    ]
    halves = [[socket.create_connection((url.hostname, url.port)) for _ in range(_HALF)] for _ in range(2)]
    connection = sqlite3.connect(database, isolation_level=None)
    connection.executescript(TABLES)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    began_s = time.perf_counter()
    _send_all(requests, halves, connection)
    print(len(requests) / (time.perf_counter() - began_s))


def _send_all(requests: list[bytes], halves: list[list[socket.socket]], connection: sqlite3.Connection) -> None:
    left = iter(range(len(requests)))
    under_way: list[list[int]] = [[], []]
    commits = 0
    while (steps := list(islice(left, _HALF))) or any(under_way):
        half, answered = halves[commits % 2], under_way[commits % 2]
        for wire, _ in zip(half, answered, strict=False):
            wire.recv(_MOST_BYTES)
        commits += 1
        batch = Batch(
            intents=[(step, 1, 1, commits) for step in steps],
            accepted=[(commits, commits, 200, "12345", step, 1) for step in answered],
            accepted_results=[(step, commits, 1) for step in answered],
        )
        connection.execute("BEGIN IMMEDIATE")
        fill(connection, batch, commits)
        connection.execute("COMMIT")
        for wire, step in zip(half, steps, strict=False):
            wire.sendall(requests[step])
        under_way[(commits - 1) % 2] = steps


if __name__ == "__main__":
    main()
