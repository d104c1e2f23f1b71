"""What is under `/sandbox/`: looking at a sandbox and changing it, from this host and without a token."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleetops.sandbox.faults import FaultsInForce, parse_fault
from fleetops.sandbox.fleet import Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from fleetops.sandbox.api import ControlApi

STEERING_PATH: Final = "/sandbox/"

AskedT = TypeVar("AskedT", bound="_Asked")


class _Asked(BaseModel):
    """What a request may ask for: these, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class _Nothing(_Asked):
    pass


class _Offset(_Asked):
    offset: int = Field(0, ge=0)


class _Faults(_Asked):
    faults: list[str]


class _Token(_Asked):
    token: str = Field(min_length=1)


class _Device(_Asked):
    model_config = ConfigDict(strict=True)

    serial_number: str
    status: bool


def set_faults(api: ControlApi, *texts: str) -> None:
    """Put these faults in force instead of those that are.

    Raises:
        ValueError: One of them is none.
    """
    api.faults = FaultsInForce([parse_fault(text) for text in texts])


def set_device(api: ControlApi, serial: str, *, up: bool) -> None:
    """Set a device up or down, whatever it does.

    Raises:
        ValueError: There is no such device.
    """
    number = api.fleet.number(serial)
    if number is None:
        raise ValueError(f"there is no device {serial[:128]!r}")
    api.fleet.force(number, up=up, now_s=time.time())


def steering(api: ControlApi) -> Starlette:
    """The application under `/sandbox/`."""

    def requests(asked: _Offset) -> dict[str, Any]:
        return {"requests": api.log.rows(asked.offset)}

    def faults(asked: _Faults) -> dict[str, Any]:
        set_faults(api, *asked.faults)
        return state(_Nothing())

    def token(asked: _Token) -> dict[str, Any]:
        api.token = asked.token
        return {}

    def devices(asked: _Device) -> dict[str, Any]:
        set_device(api, asked.serial_number, up=asked.status)
        return {}

    def reset(_: _Nothing) -> dict[str, Any]:
        api.reset()
        return {}

    def state(_: _Nothing) -> dict[str, Any]:
        return _state(api)

    return Starlette(
        routes=[
            Route("/sandbox/requests", _endpoint(_Offset, requests), methods=["GET"]),
            Route("/sandbox/state", _endpoint(_Nothing, state), methods=["GET"]),
            Route("/sandbox/faults", _endpoint(_Faults, faults), methods=["POST"]),
            Route("/sandbox/token", _endpoint(_Token, token), methods=["POST"]),
            Route("/sandbox/devices", _endpoint(_Device, devices), methods=["POST"]),
            Route("/sandbox/reset", _endpoint(_Nothing, reset), methods=["POST"]),
        ]
    )


def _state(api: ControlApi) -> dict[str, Any]:
    """What there is and what was received, in numbers."""
    now_s = time.time()
    entries = api.log.entries
    devices = len(api.fleet.rows(Wanted(), now_s))
    down = len(api.fleet.rows(Wanted(status=False), now_s))
    return {
        "devices": {
            "total": devices,
            "up": devices - down,
            "down": down,
            "pending": len(api.fleet.rows(Wanted(pending=True), now_s)),
        },
        "requests": {
            "total": len(entries),
            "processed": sum(received.processed for received in entries),
            "statuses": Counter("none" if received.status is None else str(received.status) for received in entries),
            "faults": Counter(received.fault for received in entries if received.fault),
        },
        "faults": [str(fault) for fault in api.faults.listed],
    }


def _endpoint(
    model: type[AskedT], act: Callable[[AskedT], dict[str, Any]]
) -> Callable[[Request], Awaitable[JSONResponse]]:
    """An endpoint that answers with what `act` makes of the query or of the body; 400 where they are wrong."""

    async def endpoint(request: Request) -> JSONResponse:
        if not _is_local(request):
            return JSONResponse({"detail": "only clients on this host may look at a sandbox or change it"}, 403)
        body = await request.body()
        try:
            if request.method == "GET":
                asked = model.model_validate(dict(request.query_params))
            else:
                asked = model.model_validate_json(body or b"{}")
            return JSONResponse(act(asked))
        except ValidationError as error:
            return JSONResponse({"detail": "; ".join(map(_sentence, error.errors()))}, 400)
        except ValueError as error:
            return JSONResponse({"detail": str(error)}, 400)

    return endpoint


def _sentence(found: Any) -> str:
    where = ".".join(map(str, found["loc"]))
    return f"{where}: {found['msg']}" if where else found["msg"]


def _is_local(request: Request) -> bool:
    return request.client is None or ipaddress.ip_address(request.client.host.partition("%")[0]).is_loopback
