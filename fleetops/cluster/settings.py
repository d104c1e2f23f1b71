"""How a worker works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetops.cluster.lease import LEASE_NS
from fleetops.cluster.queue import CHUNKS_AT_ONCE, DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from fleetops.cluster.worker import Worker
    from fleetops.control import HttpControlPlane
    from fleetops.journal.told import Tell as TellStep
    from fleetops.policy import Policy

    Tell = Callable[[str, str, Mapping[str, Any]], None]
    """Is told a level, an event, and the fields that apply."""
    MakeControl = Callable[[str, Policy], HttpControlPlane]
    """Makes the control plane from its base URL and the policy of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker works.

    Attributes:
        url: The database.
        make_control: Makes the control plane of a run; with the token, which is this worker's own.
        queue: The queue that it takes chunks from.
        chunks: How many it runs side by side.
        behind_pooler: Whether to listen to nothing, as where a pooler is noticed: it has no session to listen on.
        lease_ns: How long its lease lasts without a sign of life.
        until_idle: Whether it ends once no run is live.
        tell: Is told what happens.
        tell_step: Is told of attempts and of what they lead to; None where nobody wants to know.
        watch: Looks on, with the worker as its argument, until cancelled.
    """

    url: str
    make_control: MakeControl
    queue: str = DEFAULT_QUEUE
    chunks: int = CHUNKS_AT_ONCE
    behind_pooler: bool = False
    lease_ns: int = LEASE_NS
    until_idle: bool = False
    tell: Tell = field(default=lambda *_: None)
    tell_step: TellStep | None = None
    watch: Callable[[Worker], Coroutine[Any, Any, None]] | None = None
