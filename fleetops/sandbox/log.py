"""The log of what the sandbox received, so that it can be counted what really arrived."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Received:
    """One request.

    Attributes:
        at_ns: When it had been read, by a clock that does not jump.
        wall_ns: The same, in nanoseconds since the epoch.
        connection: The port at the other end.
        method: Its method.
        path: Its path, as it came.
        serial: The device it names, decoded; empty where it names none.
        operation: The operation it asks for; empty where it asks for none.
        authorised: Whether it brought the right token.
        status: The status of the answer; None where there was none.
        fault: The fault it met; empty where it met none.
        processed: Whether the operation was started.
        busy: Whether another operation was running on the device.
        operation_id: The id of the operation that was started.
        answered_ns: When its answer was sent or begun, by the clock of `at_ns`; None where there was none. The
            line of a slow answer is written before that, and has none.
    """

    at_ns: int
    wall_ns: int
    connection: int
    method: str
    path: str
    serial: str = ""
    operation: str = ""
    authorised: bool = True
    status: int | None = None
    fault: str = ""
    processed: bool = False
    busy: bool = False
    operation_id: int | None = None
    answered_ns: int | None = None

    def row(self) -> dict[str, Any]:
        """It by name, for JSON."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES = Received.__slots__


class RequestLog:
    """The requests in the order in which they were dealt with; in a file as well, where one is named."""

    def __init__(self, path: Path | None) -> None:
        self.entries: list[Received] = []
        # Whoever is killed has written every line: there is no buffer of ours.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._fd = None if path is None else os.open(path, flags, 0o600)

    def add(self, received: Received) -> None:
        """Note a request, before it is answered."""
        self.entries.append(received)
        if self._fd is not None:
            os.write(self._fd, (json.dumps(received.row()) + "\n").encode())

    def rows(self, offset: int) -> list[dict[str, Any]]:
        """The requests from a number on."""
        return [received.row() for received in self.entries[offset:]]

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
