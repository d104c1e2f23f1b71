"""What else one would reach for, each told to do the same operations."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.commands import measured
from benchmarks.speed.fleet import manifest

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("httpx==0.28.1", "aiohttp==3.14.5", "uvloop==0.23.0")
PROGRAMS = ("nginx", "wrk", "curl", "xargs", "taskset")
IN_FLIGHT = 64
_WRK_S = 5
_PEERS = Path(__file__).parent / "peers"
_PATH = "inventory_device_serial_operation"


def prepare(folder: Path) -> None:
    """Install the Python peers into an environment of their own.

    Raises:
        SystemExit: A program is missing.
    """
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise SystemExit(f"{', '.join(missing)} is missing; on Debian: apt-get install nginx-light wrk curl")
    python = _python(folder)
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "peers")], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    subprocess.run(install, check=True)


def _python(folder: Path) -> str:
    return str(folder / "peers" / "bin" / "python")


def naive_httpx(folder: Path, base_url: str) -> float:
    """Operations per second of the script that one writes first."""
    return _script(folder, base_url, "naive_httpx.py", 4_000)


def bare_aiohttp(folder: Path, base_url: str) -> float:
    """Operations per second of a bare script on aiohttp and uvloop."""
    return _script(folder, base_url, "bare_aiohttp.py", 50_000)


def _script(folder: Path, base_url: str, name: str, devices: int) -> float:
    took = measured([_python(folder), str(_PEERS / name), str(manifest(folder, devices)), base_url], folder)
    if took.printed.strip() != str(devices):
        raise RuntimeError(f"{name} had {took.printed.strip()} of {devices} accepted")
    return devices / took.wall_s


def curl_parallel(folder: Path, base_url: str) -> float:
    """Operations per second of `curl -Z`, given all requests in a file."""
    devices = 50_000
    config = folder / "curl.config"
    request = (
        'url = "{base_url}/{path}/ZQ{number:09d}/"\nrequest = "PUT"\ndata = "{{\\"operation\\": \\"reboot\\"}}"\n'
        'header = "Authorization: Bearer token"\nheader = "Content-Type: application/json"\noutput = "/dev/null"\n'
    )
    with config.open("w", encoding="ascii") as file:
        file.write(
            "next\n".join(request.format(base_url=base_url, path=_PATH, number=number) for number in range(devices))
        )
    command = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(IN_FLIGHT), "--config", str(config)]
    return devices / measured(command, folder).wall_s


def curl_each(folder: Path, base_url: str) -> float:
    """Operations per second of one `curl` for each operation, by `xargs`."""
    devices = 2_000
    urls = folder / "urls"
    urls.write_text("".join(f"{base_url}/{_PATH}/ZQ{number:09d}/\n" for number in range(devices)))
    curl = 'curl --silent --fail --request PUT --data \'{"operation": "reboot"}\' --output /dev/null'
    headers = '--header "Authorization: Bearer token" --header "Content-Type: application/json"'
    command = ["sh", "-c", f"xargs --arg-file={urls} --max-procs={IN_FLIGHT} --max-args=1 {curl} {headers}"]
    return devices / measured(command, folder).wall_s


def wrk(folder: Path, base_url: str) -> float:
    """Requests per second of a load generator in C that makes each request anew, whatever replies say."""
    script = folder / "wrk.lua"
    script.write_text(
        'wrk.method = "PUT"\nwrk.body = \'{"operation": "reboot"}\'\n'
        'wrk.headers["Authorization"] = "Bearer token"\nwrk.headers["Content-Type"] = "application/json"\n'
        "local number = 0\nfunction request()\n  number = number + 1\n"
        f'  return wrk.format(nil, string.format("/api/v1/{_PATH}/ZQ%09d/", number))\nend\n'
    )
    command = ["wrk", "--threads", "1", "--connections", str(IN_FLIGHT), "--duration", f"{_WRK_S}s"]
    printed = measured([*command, "--script", str(script), base_url], folder).printed
    (line,) = (line for line in printed.splitlines() if line.startswith("Requests/sec:"))
    return float(line.split()[1])


def floor(folder: Path, base_url: str) -> float:
    """Operations per second, from first send to last answer, of system calls and SQL that no run can do without."""
    database = folder / "floor.db"
    for path in folder.glob("floor.db*"):
        path.unlink()
    command = [sys.executable, "-m", "benchmarks.speed.floor", base_url, str(database), "50000"]
    return float(measured(command, folder).printed)


RIVALS: dict[str, Callable[[Path, str], float]] = {
    "a naive httpx script": naive_httpx,
    "a bare aiohttp script, on uvloop": bare_aiohttp,
    "`curl -Z --parallel-max 64`": curl_parallel,
    "`xargs -P 64 curl`": curl_each,
    "wrk, one thread": wrk,
}
