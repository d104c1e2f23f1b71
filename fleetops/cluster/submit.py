"""Putting a campaign into the database, for workers to run."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetops.cluster.chunks import chunk_size, cut
from fleetops.cluster.database import connected
from fleetops.cluster.window import starts_ns
from fleetops.errors import RunBusyError
from fleetops.model import OPERATIONS, Outcome
from fleetops.policy.pacing import longest_attempt_ns
from fleetops.policy.waves import assign
from fleetops.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import psycopg

    from fleetops.cluster.chunks import Chunk
    from fleetops.journal import NewRun

    Connection = psycopg.Connection[Any]

_BLOCK: Final = 20_000
_CLAIMING: Final = 0x666C6F70
"""The lock of who claims devices, held to the end of the transaction."""
_NAMED: Final = 3
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_UNFINISHED: Final = """
SELECT d.run_id, count(*), (array_agg(d.serial ORDER BY d.serial))[1:%(named)s]
FROM device d JOIN run r USING (run_id) JOIN device mine ON mine.run_id = %(run_id)s AND mine.serial = d.serial
WHERE d.run_id <> %(run_id)s AND r.ended_ns IS NULL AND r.base_url = %(base_url)s
  AND EXISTS (SELECT 1 FROM step s WHERE s.run_id = d.run_id AND s.chunk = d.chunk AND s.device = d.device
              AND NOT EXISTS (SELECT 1 FROM result o WHERE (o.run_id, o.chunk, o.step) = (s.run_id, s.chunk, s.step)))
  AND NOT EXISTS (SELECT 1 FROM result o JOIN step s USING (run_id, chunk, step)
                  WHERE s.run_id = mine.run_id AND s.chunk = mine.chunk AND s.device = mine.device)
GROUP BY d.run_id ORDER BY d.run_id DESC LIMIT 1
"""
_SETTLING: Final = """
UPDATE device mine SET not_before_ns = due.due_ns
FROM (SELECT d.serial, max(least(coalesce(a.answered_ns, coalesce(a.sent_ns, a.intent_ns) + %(lost_ns)s), now_ns())
                           + s.settle_ns) AS due_ns
      FROM attempt a JOIN step s USING (run_id, chunk, step) JOIN device d USING (run_id, chunk, device)
      JOIN run r USING (run_id)
      WHERE r.base_url = %(base_url)s AND r.run_id <> %(run_id)s
        AND (a.kind IS NULL OR a.kind IN ('accepted', 'maybe', 'bad_reply'))
        AND coalesce(a.answered_ns, a.intent_ns + %(lost_ns)s) + s.settle_ns > now_ns()
      GROUP BY d.serial) due
WHERE mine.run_id = %(run_id)s AND mine.serial = due.serial
"""


MAKE_GATE: Final = "INSERT INTO gate (base_url) VALUES (%s) ON CONFLICT DO NOTHING"
"""A control plane that no run went to before."""


def submit(
    url: str,
    new: NewRun,
    *,
    queue: str,
    devices_per_chunk: int | None = None,
    heed_window: bool = True,
    alongside: bool = False,
) -> int:
    """Write a new run into the database; it is there whole or not at all. Its chunks are still to be offered.

    Args:
        url: The database.
        new: The run.
        queue: The queue of the workers that may run it.
        devices_per_chunk: How many devices a chunk has; None for a number that suits the campaign.
        heed_window: Whether the policy's maintenance windows count.
        alongside: Whether other runs may be live on the same control plane.

    Returns:
        How many chunks it has.

    Raises:
        RunBusyError: A live run in this database holds some of the devices, or is there at all.
        JournalError: The database cannot be used.
        UsageError: There is no such database.
    """
    steps, policy = new.steps, new.policy
    wave_of = b""
    if policy.waves is not None:
        wave_of = assign(policy.waves, steps.groups, len(steps.serials), new.facts.digest, frozenset(new.skipped))
    whole = steps.groups if policy.group_cap is not None and any(steps.groups) else ()
    chunks = cut(steps, wave_of, whole, devices_per_chunk or chunk_size(steps, policy))
    with connected(url) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CLAIMING,))
        _refuse_others(connection, new, alongside=alongside)
        _write(connection, new, chunks, queue, heed_window=heed_window)
        _refuse_shared(connection, new)
        connection.execute(
            _SETTLING,
            {"run_id": new.facts.run_id, "base_url": new.facts.base_url, "lost_ns": longest_attempt_ns(policy)},
        )
    return len(chunks)


def _refuse_others(connection: Connection, new: NewRun, *, alongside: bool) -> None:
    row = connection.execute(
        "SELECT run_id FROM run WHERE ended_ns IS NULL AND base_url = %s ORDER BY run_id DESC LIMIT 1",
        (new.facts.base_url,),
    ).fetchone()
    if row is not None and not alongside:
        raise RunBusyError(
            f"run {row[0]} is live on the same control plane: the two would share one rate",
            hint=f"wait for it (`fleetops status {row[0]} --watch`), or run `--alongside` it",
        )


def _refuse_shared(connection: Connection, new: NewRun) -> None:
    row = connection.execute(
        _UNFINISHED, {"run_id": new.facts.run_id, "base_url": new.facts.base_url, "named": _NAMED}
    ).fetchone()
    if row is not None:
        other, count, serials = row
        named = ", ".join(serials) + (", ..." if count > _NAMED else "")
        raise RunBusyError(
            f"run {other} is live and holds {count} of these devices: {named}",
            hint=f"wait for it, or stop it, or leave these devices out; `fleetops status {other}` shows how far it is",
        )


def _write(connection: Connection, new: NewRun, chunks: Sequence[Chunk], queue: str, *, heed_window: bool) -> None:
    facts, policy, steps = new.facts, new.policy, new.steps
    run_id = facts.run_id
    row = connection.execute("SELECT now_ns()").fetchone()
    assert row is not None, "a function has a value"  # noqa: S101 - what SELECT promises
    now_ns: int = row[0]
    connection.execute(
        "INSERT INTO run (run_id, facts, base_url, policy, queue, heed_window, devices, steps, starts_ns, drive, wave, "
        "waves) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 1, 0, %s)",
        (
            run_id,
            json.dumps(asdict(facts)),
            facts.base_url,
            policy.to_json(),
            queue,
            heed_window,
            len(steps.serials),
            len(steps),
            starts_ns(policy, now_ns, heed_window=heed_window),
            max((chunk.wave for chunk in chunks), default=0) + 1,
        ),
    )
    connection.execute(
        "INSERT INTO drive (run_id, drive, version, started_ns, policy) VALUES (%s, 1, %s, %s, %s)",
        (run_id, __version__, now_ns, policy.to_json()),
    )
    connection.execute(
        "INSERT INTO pace (run_id, asked_per_s, burst) VALUES (%s, %s, %s)", (run_id, policy.rate.per_s, policy.burst)
    )
    connection.execute(MAKE_GATE, (facts.base_url,))
    _write_devices(connection, new, chunks)
    order, chunk_of = _steps_by_chunk(new, chunks)
    _copy(connection, "step", _step_lines(new, order, chunk_of))
    counts = Counter(chunk_of.tolist())
    _copy(
        connection,
        "chunk (run_id, chunk, wave, devices, steps)",
        (f"{run_id}\t{n}\t{chunk.wave}\t{len(chunk.devices)}\t{counts[n]}\n" for n, chunk in enumerate(chunks)),
    )
    if new.skipped:
        _write_skipped(connection, new, order, chunk_of)


def _write_devices(connection: Connection, new: NewRun, chunks: Sequence[Chunk]) -> None:
    serials, groups = new.steps.serials, new.steps.groups or [""] * len(new.steps.serials)
    _copy(
        connection,
        "device",
        (
            f"{new.facts.run_id}\t{number}\t{device}\t{_text(serials[device])}\t{_text(groups[device])}\t0\n"
            for number, chunk in enumerate(chunks)
            for device in sorted(chunk.devices.tolist())
        ),
    )


def _steps_by_chunk(new: NewRun, chunks: Sequence[Chunk]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The steps chunk by chunk, each in manifest order, and the chunk of each."""
    of_device = np.zeros(len(new.steps.serials), dtype=np.int64)
    for number, chunk in enumerate(chunks):
        of_device[chunk.devices] = number
    of_step = of_device[np.asarray(new.steps.device_of, dtype=np.int64)]
    order = np.argsort(of_step, kind="stable")
    return order, of_step[order]


def _step_lines(new: NewRun, order: npt.NDArray[np.int64], chunk_of: npt.NDArray[np.int64]) -> Iterator[str]:
    steps, run_id = new.steps, new.facts.run_id
    names = [operation.value for operation in OPERATIONS]
    device_of, operation_of, settle_ns_of = steps.device_of, steps.operation_of, steps.settle_ns_of
    notes: Sequence[str] | None = new.notes or None
    carried: Sequence[str] | None = list(new.carried) or None
    for chunk, step in zip(chunk_of.tolist(), order.tolist(), strict=True):
        note = "" if notes is None else _text(notes[step])
        cells = "" if carried is None else _text(carried[step])
        yield (
            f"{run_id}\t{chunk}\t{step}\t{device_of[step]}\t{names[operation_of[step]]}\t{settle_ns_of[step]}\t"
            f"{note}\t{cells}\n"
        )


def _write_skipped(
    connection: Connection, new: NewRun, order: npt.NDArray[np.int64], chunk_of: npt.NDArray[np.int64]
) -> None:
    run_id, at_ns = new.facts.run_id, new.facts.created_ns
    device_of, operation_of = new.steps.device_of, new.steps.operation_of
    skipped = [
        (chunk, step, new.skipped[device_of[step]])
        for chunk, step in zip(chunk_of.tolist(), order.tolist(), strict=True)
        if device_of[step] in new.skipped
    ]
    tally = Counter((chunk, operation_of[step]) for chunk, step, _ in skipped)
    _copy(
        connection,
        "result",
        (f"{run_id}\t{c}\t{step}\t{Outcome.SKIPPED}\t{reason}\t{at_ns}\t\\N\n" for c, step, reason in skipped),
    )
    _copy(
        connection,
        "tally",
        (f"{run_id}\t{c}\t{operation}\t{Outcome.SKIPPED}\t{n}\t{at_ns}\n" for (c, operation), n in tally.items()),
    )


def _text(text: str) -> str:
    return text if text.isalnum() else text.translate(_ESCAPES)


def _copy(connection: Connection, into: str, lines: Iterator[str]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        while block := "".join(islice(lines, _BLOCK)):
            copy.write(block)
