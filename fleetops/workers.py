"""The Python API of runs on several hosts. What it takes to use a database is loaded by a call, not before."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import anyio

from fleetops import campaigns
from fleetops.campaigns import Connection
from fleetops.errors import UsageError
from fleetops.events import RunEvent, RunStatus, outside_of_loops
from fleetops.journal.commands import Action, Heard
from fleetops.model import NS_PER_S
from fleetops.places import database_url, shared, state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fleetops.campaigns import RunResult
    from fleetops.cluster.worker import Worker
    from fleetops.control import HttpControlPlane, Token
    from fleetops.plan import Plan
    from fleetops.policy import Policy
    from fleetops.validation import Campaign

_LOOK_S: Final = 0.1
_ANSWER_S: Final = 5.0
_LOG: Final = logging.getLogger("fleetops.worker")


def submit(
    campaign: Campaign,
    connection: Connection | None = None,
    *,
    database: str | None = None,
    plan: Plan | None = None,
    queue: str = "default",
    devices_per_chunk: int | None = None,
    consent: bool = False,
    alongside: bool = False,
    heed_window: bool = True,
) -> str:
    """Leave a campaign to the workers of a database; it goes on whatever becomes of this process.

    The token is the workers' own: one is needed here only where the inventory is to be looked at first.

    Args:
        campaign: What to do.
        connection: Where; None for what FLEETOPS_BASE_URL says, and FLEETOPS_TOKEN where it is needed.
        database: The database; None for the one in FLEETOPS_DATABASE_URL.
        plan: The plan that was approved, as for `run`.
        queue: The queue of the workers that may run it.
        devices_per_chunk: How many devices one worker takes at a time; None for a number that suits the campaign.
        consent: Whether it is agreed that devices lose data, where the campaign has factory resets.
        alongside: Whether other runs may be live on the same control plane.
        heed_window: Whether the policy's maintenance windows count.

    Returns:
        The run's id.

    Raises:
        UsageError: There is no consent, no usable base URL or no such database.
        InvalidInputError: The plan does not hold, or a device is not in the inventory, where that was to be looked up.
        AbortedError: The inventory cannot be read.
        RunBusyError: Another live run stands in the way.
        JournalError: The database cannot be used.
    """
    url = database_url(database)
    from fleetops.cluster.follow import offer  # noqa: PLC0415 - takes the client of the database
    from fleetops.cluster.submit import submit as write  # noqa: PLC0415 - as above

    if connection is None and campaign.policy.looks_before:
        connection = Connection.from_environment()
    base_url = campaigns.base_url_of(None) if connection is None else connection.base_url
    prediction = campaigns.prediction_of(plan, campaign, base_url, heed_window=heed_window)

    def work() -> str:
        new = campaigns.new_run(campaign, base_url, connection, consent=consent, plan=prediction)
        write(
            url,
            new,
            queue=queue,
            devices_per_chunk=devices_per_chunk,
            heed_window=heed_window,
            alongside=alongside,
        )
        offer(url, new.facts.run_id)
        return new.facts.run_id

    return outside_of_loops(work, lambda: None)


def status(run_id: str, *, database: str | None = None) -> RunStatus:
    """How far a run on workers is.

    Args:
        run_id: The run.
        database: The database; None for the one in FLEETOPS_DATABASE_URL.

    Raises:
        UsageError: There is no such run or database.
        JournalError: The database cannot be used.
    """
    url = database_url(database)
    from fleetops.cluster.follow import glance  # noqa: PLC0415 - takes the client of the database

    return glance(url, run_id)


def wait(
    run_id: str,
    *,
    database: str | None = None,
    timeout_s: float | None = None,
    on_status: Callable[[RunStatus], object] | None = None,
) -> RunResult:
    """Wait until the workers are done with a run, also while the database is away.

    Args:
        run_id: The run.
        database: The database; None for the one in FLEETOPS_DATABASE_URL.
        timeout_s: For how many seconds at most; None for as long as it takes.
        on_status: Called every second with how far it is.

    Raises:
        TimeoutError: It is not over by then; it goes on.
        UsageError: There is no such run or database.
        JournalError: The database cannot be used.
    """
    url = database_url(database)
    from fleetops.cluster.follow import follow  # noqa: PLC0415 - takes the client of the database

    if not follow(url, run_id, on_status or (lambda _: None), timeout_s):
        raise TimeoutError(f"run {run_id} is not over after {timeout_s:g} s; it goes on")
    return campaigns.ended(run_id, state_dir(database=url))


def ask(
    run_id: str,
    action: Action | str,
    argument: str = "",
    *,
    state: Path | str | None = None,
    database: str | None = None,
) -> Heard:
    """Have a live run, of this host or on workers, pause, continue, stop, or go at another rate.

    Args:
        run_id: The run.
        action: `pause`, `continue`, `abort` or `rate`.
        argument: The rate, as in `20/s`; else empty.
        state: Where the journals of this host are; None for the usual place.
        database: The database; None for the one in FLEETOPS_DATABASE_URL, if any.

    Returns:
        `done`; `no_change` where it was so already; `no_answer` where it takes longer to see to it.

    Raises:
        UsageError: There is no such run or action, or the run is over.
        JournalError: The database, or the journal, cannot be used.
    """
    if action not in set(Action):
        raise UsageError(f"there is no action {str(action)!r}", hint=f"known: {', '.join(Action)}")
    kept = state_dir(state, database)
    cluster = shared(kept, run_id)
    if cluster is None:
        from fleetops.journal.commands import ask as ask_here  # noqa: PLC0415 - beside the other one

        return ask_here(kept, run_id, Action(action), argument, answer_s=_ANSWER_S)
    from fleetops.cluster.commands import ask as ask_workers  # noqa: PLC0415 - takes the client of the database

    return ask_workers(cluster.url, run_id, Action(action), argument)


def resume_on_workers(
    database: str,
    run_id: str,
    *,
    base_url: str | None,
    options: Mapping[str, Any] | None,
    alongside: bool,
    heed_window: bool,
) -> None:
    """Have the workers of a database go on with a run that is over; see `fleetops.api.resume`."""
    campaigns.refuse_late(options or {})
    from fleetops.cluster.commands import resume  # noqa: PLC0415 - takes the client of the database
    from fleetops.cluster.follow import offer  # noqa: PLC0415 - as above

    resume(
        database,
        run_id,
        base_url=base_url,
        change_policy=lambda policy: campaigns.changed_policy(policy, options or {}),
        alongside=alongside,
        heed_window=heed_window,
    )
    outside_of_loops(lambda: offer(database, run_id), lambda: None)


def worker(
    token: Token | None = None,
    *,
    database: str | None = None,
    ca_bundle: Path | None = None,
    queue: str = "default",
    chunks: int = 8,
    lease_s: float = 8.0,
    until_idle: bool = False,
    stop: Event | None = None,
    on_event: Callable[[RunEvent], object] | None = None,
) -> None:
    """Run chunks of the runs in a database, beside other workers, as `fleetops worker` does.

    It ends in good order, with what is in flight finished and its chunks given back: for SIGINT and SIGTERM in the main
    thread, once `stop` is set in any, and with `until_idle` once no run is live. What happens to it is logged to
    `fleetops.worker`.

    Args:
        token: The bearer token; None for the one in FLEETOPS_TOKEN.
        database: The database; None for the one in FLEETOPS_DATABASE_URL.
        ca_bundle: A file or folder of CA certificates for the control plane instead of the usual ones.
        queue: The queue that it takes chunks from.
        chunks: How many it runs side by side.
        lease_s: After so many seconds without a sign of life others take its chunks: 3 to 12.
        until_idle: Whether it ends once no run is live.
        stop: Has it end, once it is set.
        on_event: Called for each attempt, outcome, retry and hold of its chunks, as for `run`. What it raises ends the
            worker in good order, and is raised again once that is done.

    Raises:
        UsageError: There is no token or no such database, or the lease is none that works.
        HostError: The database cannot be reached at the start.
    """
    url = database_url(database)
    from fleetops.cluster.settings import WorkerSettings  # noqa: PLC0415 - takes the client of the database
    from fleetops.cluster.worker import Worker  # noqa: PLC0415 - as above

    bearer = token or campaigns.token_of_environment()
    asked = stop or Event()
    over = Event()
    raised: list[Exception] = []

    def make_control(base_url: str, policy: Policy) -> HttpControlPlane:
        return Connection(base_url=base_url, token=bearer, ca_bundle=ca_bundle).control(policy)

    def tell(level: str, event: str, fields: Mapping[str, Any]) -> None:
        said = ", ".join(f"{name} {value}" for name, value in fields.items())
        _LOG.log(logging.getLevelNamesMapping()[level.upper()], "%s: %s", event, said)

    def tell_step(level: str, event: str, at_ns: int, fields: Mapping[str, Any]) -> None:
        if on_event is None or raised:
            return
        try:
            on_event(RunEvent(event=event, level=level, at=datetime.fromtimestamp(at_ns / NS_PER_S, tz=UTC), **fields))
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker has to end in good order first
            raised.append(error)
            over.set()

    async def watch(made: Worker) -> None:
        while not (asked.is_set() or over.is_set()):  # noqa: ASYNC110 - other threads set them
            await anyio.sleep(_LOOK_S)
        made.stop()

    settings = WorkerSettings(
        url=url,
        make_control=make_control,
        queue=queue,
        chunks=chunks,
        lease_ns=round(lease_s * NS_PER_S),
        until_idle=until_idle,
        tell=tell,
        tell_step=None if on_event is None else tell_step,
        watch=watch,
    )

    async def work() -> None:
        await Worker(settings).run()

    outside_of_loops(lambda: anyio.run(work), over.set)
    if raised:
        raise raised[0]
