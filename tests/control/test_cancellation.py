"""A request that is cancelled at any point arrives at most once, closes its socket and leaves nothing behind."""

from __future__ import annotations

import gc
import ssl
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trustme

from fleetops.control import ClientSettings, HttpControlPlane, Token
from fleetops.model import Operation, ReplyKind
from fleetops.runner.event_loop import run_in_loop
from tests.control.scripted_server import Peer, ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.control.scripted_server import Arrival

pytestmark = pytest.mark.usefixtures("each_transport")

LOOPS = 60
"""Turns of the event loop within which a request and its reply come to an end."""


def named_reply(arrival: Arrival) -> bytes:
    """A reply whose id is the serial number that was asked for."""
    return arrival.reply(id=arrival.target.split("/")[-2])


def accepting(peer: Peer) -> None:
    while True:
        peer.send(named_reply(peer.request()))


def halting(peer: Peer) -> None:
    """Stops in the middle of the reply for each device whose number is even."""
    while True:
        arrival = peer.request()
        whole = named_reply(arrival)
        if arrival.target.endswith("even/"):
            peer.send(whole[:-10])
            peer.wait_closed()
        peer.send(whole)


async def cancelled_after(control: HttpControlPlane, serial: str, turns: int) -> None:
    """Ask for a reboot and cancel it after some turns of the event loop, if it is not done by then."""

    async def ask() -> None:
        got = await control.execute(serial, Operation.REBOOT)
        assert got.operation_id == serial

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("script", [accepting, halting])
def test_whenever_it_is_cancelled_it_arrives_at_most_once_and_the_next_request_is_answered(
    script: object, encrypted: bool, authority: trustme.CA, tmp_path: Path
) -> None:
    tls, bundle = None, None
    if encrypted:
        tls, bundle = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), tmp_path / "ca.pem"
        authority.issue_cert("localhost").configure_cert(tls)
        authority.cert_pem.write_to_path(str(bundle))

    async def main(server: ScriptedServer) -> None:
        control = HttpControlPlane(
            ClientSettings(base_url=server.base_url, token=Token("token"), concurrency=1, ca_bundle=bundle)
        )
        for turns in range(LOOPS):
            await cancelled_after(control, f"{turns}-even", turns)
            got = await control.execute(f"{turns}-odd", Operation.REBOOT)
            assert (got.kind, got.operation_id) == (ReplyKind.ACCEPTED, f"{turns}-odd")
        await control.aclose()
        await anyio.to_thread.run_sync(server.wait_for_scripts)

    with ScriptedServer(script, tls) as server:  # type: ignore[arg-type]  # parametrize gives objects
        run_in_loop(main, server)
    arrivals = Counter(arrival.target for arrival in server.arrivals)
    assert set(arrivals.values()) == {1}
    gc.collect()


def test_many_that_are_cancelled_at_once_close_all_their_connections() -> None:
    async def main(server: ScriptedServer) -> None:
        control = HttpControlPlane(ClientSettings(base_url=server.base_url, token=Token("token"), concurrency=16))
        for turns in range(0, LOOPS, 3):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(control.execute, f"{turns}-{number}", Operation.REBOOT)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        got = await control.execute("last", Operation.REBOOT)
        assert got.operation_id == "last"
        await control.aclose()
        await anyio.to_thread.run_sync(server.wait_for_scripts)

    with ScriptedServer(accepting) as server:
        run_in_loop(main, server)
    assert set(Counter(arrival.target for arrival in server.arrivals).values()) == {1}
    gc.collect()
