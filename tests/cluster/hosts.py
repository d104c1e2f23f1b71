"""Two hosts on one machine: network namespaces, each with a link to the control plane and one to the database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_FORWARD: Final = """
import asyncio, sys
there, port, at = sys.argv[1], int(sys.argv[2]), sys.argv[3]
async def pump(reader, writer):
    try:
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
async def serve(reader, writer):
    try:
        far_reader, far_writer = await asyncio.open_connection(there, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
async def main():
    server = await asyncio.start_server(serve, at, port)
    await server.serve_forever()
asyncio.run(main())
"""


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@dataclass
class Host:
    """A network namespace.

    Attributes:
        number: Tells it apart from others.
        api_port: Where the control plane listens on the loopback address, here and there.
        name: Of the namespace.
    """

    number: int
    api_port: int
    name: str = ""
    _forwarders: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def wrapper(self) -> list[str]:
        """What runs a command on it."""
        return ["ip", "netns", "exec", self.name]

    @property
    def database_host(self) -> str:
        """Where the database is, as seen from it."""
        return f"10.212.{self.number}.1"

    def __enter__(self) -> Self:
        self.name = f"fleetops{os.getpid()}n{self.number}"
        _ip("netns", "add", self.name)
        for kind, network in (("a", 211), ("d", 212)):
            here, there = f"fo{kind}{self.number}h", f"fo{kind}{self.number}n"
            _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
            _ip("addr", "add", f"10.{network}.{self.number}.1/30", "dev", here)
            _ip("link", "set", here, "up")
            _ip("-n", self.name, "addr", "add", f"10.{network}.{self.number}.2/30", "dev", there)
            _ip("-n", self.name, "link", "set", there, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        api = f"10.211.{self.number}.1"
        self._forward([], "127.0.0.1", api)
        self._forward(self.wrapper, api, "127.0.0.1")
        time.sleep(0.5)
        return self

    def _forward(self, wrapper: list[str], there: str, at: str) -> None:
        command = [*wrapper, sys.executable, "-c", _FORWARD, there, str(self.api_port), at]
        self._forwarders.append(subprocess.Popen(command))

    def cut_off(self) -> None:
        """Nothing passes between it and the database any more; neither end is told."""
        _ip("link", "set", f"fod{self.number}h", "down")

    def mend(self) -> None:
        """It reaches the database again."""
        _ip("link", "set", f"fod{self.number}h", "up")

    def __exit__(self, *_: object) -> None:
        for forwarder in self._forwarders:
            forwarder.kill()
            forwarder.wait()
        for kind in "ad":
            _ip("link", "del", f"fo{kind}{self.number}h", check=False)
        _ip("netns", "del", self.name, check=False)


def require_namespaces(folder: Path) -> None:
    """Skip the test where there can be none."""
    if shutil.which("ip") is None or os.getuid():
        pytest.skip(f"hosts of their own take `ip` and the right to make network namespaces ({folder})")
    probe = f"fleetops{os.getpid()}probe"
    done = subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no network namespace can be made: {done.stderr.strip()}")
    _ip("netns", "del", probe)
