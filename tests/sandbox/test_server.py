from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import fleetops
from fleetops.errors import HostError
from fleetops.sandbox import Fault, Sandbox, SandboxConfig, run_sandbox, sandbox_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = {"Authorization": "Bearer sandbox-token"}
PROGRAM = """
import sys, pathlib
from fleetops.sandbox import SandboxConfig, run_sandbox
config = SandboxConfig(log=pathlib.Path(sys.argv[1]))
sys.exit(run_sandbox(config, ready=lambda base_url: print(base_url, flush=True)))
"""


def put(base_url: str) -> httpx.Response:
    url = f"{base_url}/inventory_device_serial_operation/ZQ000000001/"
    return httpx.put(url, json={"operation": "sync"}, headers=HEADERS, timeout=5, verify=False)


def test_a_sandbox_serves_in_the_event_loop_of_its_user() -> None:
    async def use() -> int:
        async with (
            Sandbox(SandboxConfig()).serving() as base_url,
            httpx.AsyncClient(headers=HEADERS, verify=False) as client,
        ):
            url = f"{base_url}/inventory_device_serial_operation/ZQ000000001/"
            return (await client.put(url, json={"operation": "sync"})).status_code

    assert anyio.run(use) == 200


def test_what_its_user_raises_comes_out_as_it_is() -> None:
    async def use() -> None:
        async with Sandbox(SandboxConfig()).serving():
            raise LookupError("of the user")

    with pytest.raises(LookupError, match="of the user"):
        anyio.run(use)


def test_the_end_of_a_sandbox_cuts_off_what_hangs_and_frees_its_port() -> None:
    raised: list[Exception] = []

    def ask(base_url: str) -> None:
        try:
            put(base_url)
        except httpx.TransportError as error:
            raised.append(error)

    with sandbox_thread(SandboxConfig(faults=(Fault("hang", share=1.0),))) as (base_url, sandbox):
        asking = threading.Thread(target=ask, args=(base_url,))
        asking.start()
        while not sandbox.requests:
            time.sleep(0.005)
    asking.join(4)
    assert [type(error) for error in raised] in ([httpx.RemoteProtocolError], [httpx.ReadError])
    port = int(base_url.split(":")[2].split("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_port_that_is_taken_is_a_clear_error(taken: int) -> None:
    words = f"cannot listen on 127.0.0.1 port {taken}: Address already in use$"
    with pytest.raises(HostError, match=words) as raised:
        run_sandbox(SandboxConfig(port=taken), ready=lambda _: None)
    assert raised.value.hint is not None
    assert "--port" in raised.value.hint
    with pytest.raises(HostError, match=words), sandbox_thread(SandboxConfig(port=taken)):
        pass


def test_a_host_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(HostError, match=r"cannot listen on 127\.0\.0\.999 port 0: "):
        run_sandbox(SandboxConfig(host="127.0.0.999"), ready=lambda _: None)


@pytest.mark.skipif(not socket.has_ipv6, reason="this host has no IPv6")
def test_a_sandbox_listens_on_an_ipv6_address() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this host has no IPv6 loopback address")
    with sandbox_thread(SandboxConfig(host="::1")) as (base_url, _):
        assert base_url.startswith("http://[::1]:")
        assert put(base_url).status_code == 200


def test_what_is_done_meanwhile_decides_the_result() -> None:
    urls: list[str] = []

    async def meanwhile(base_url: str) -> int:
        return 7 if urls == [base_url] else 1

    assert run_sandbox(SandboxConfig(), ready=urls.append, meanwhile=meanwhile) == 7


def test_an_error_of_what_is_done_meanwhile_comes_out_as_it_is() -> None:
    async def meanwhile(_: str) -> int:
        raise HostError("cannot run it")

    with pytest.raises(HostError, match="cannot run it"):
        run_sandbox(SandboxConfig(), ready=lambda _: None, meanwhile=meanwhile)


def start(log: Path) -> tuple[subprocess.Popen[str], str]:
    path = str(Path(fleetops.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(log)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_whoever_is_told_that_it_serves_may_end_it_at_once(end: signal.Signals) -> None:
    assert run_sandbox(SandboxConfig(), ready=lambda _: os.kill(os.getpid(), end)) == 0


def test_a_sandbox_that_was_killed_keeps_its_log_and_the_next_one_adds_to_it(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process, base_url = start(log)
        with process:
            assert put(base_url).json()["id"] == 10001
            process.send_signal(how)
            assert process.wait(10) == code
    assert [json.loads(line)["processed"] for line in log.read_text().splitlines()] == [True, True]
