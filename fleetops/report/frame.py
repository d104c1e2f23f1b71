"""The rows of a report: one for each row of the manifest, in its order, whatever became of it.

They come in slices, so that a report on a million steps needs memory for some tens of thousands of them.
"""

from __future__ import annotations

import json
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from fleetops.journal.views import OPEN_TRIED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd

    from fleetops.journal.views import RunView
    from fleetops.model import Outcome

    Cells = npt.NDArray[np.object_]
    Integers = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

COLUMNS: Final = (
    "row",
    "serial_number",
    "operation",
    "group",
    "outcome",
    "reason",
    "http_status",
    "operation_id",
    "attempts",
    "first_sent_at",
    "finished_at",
    "duration_s",
    "detail",
    "run_id",
)
"""The columns of every report, in their order."""

NUMBERS: Final = {"row": "int64", "http_status": "Int64", "attempts": "int64", "duration_s": "float64"}
"""The columns that hold numbers, and the types that they have in a table."""

NOTE: Final = "note"
CLASH_PREFIX: Final = "manifest_"
SLICE: Final = 2_000
"""Steps in a slice: few enough for the processor's cache, and for the garbage collector to pass them by."""

_NS_PER_MS: Final = 1_000_000
_MILLISECONDS: Final = np.array([f".{ms:03}Z" for ms in range(1000)], dtype=object)

_NEVER: Final = -1

_STEPS: Final = f"""
SELECT d.serial AS serial_number, s.operation AS operation, coalesce(r.finished_ns, {_NEVER}) AS finished_ns,
       coalesce(a.sent_ns, a.intent_ns, {_NEVER}) AS sent_ns, coalesce(a.operation_id, '') AS operation_id{{more}}
FROM step s JOIN device d USING (device) LEFT JOIN result r USING (step)
     LEFT JOIN attempt a ON a.step = s.step AND a.attempt = 1
WHERE s.step >= :from_step AND s.step < :to_step ORDER BY s.step
"""  # noqa: S608 - made of constants
_USUAL_OUTCOME: Final = "accepted"
_USUAL_STATUS: Final = 200
"""What most steps have come to, without a reason or a detail. Only what differs is read: each cell has its cost."""

_RESULTS: Final = f"""
SELECT step, outcome, coalesce(reason, '') FROM result
WHERE step >= :from_step AND step < :to_step AND (outcome <> '{_USUAL_OUTCOME}' OR reason IS NOT NULL)
"""  # noqa: S608 - made of constants
_ATTEMPTS: Final = f"""
SELECT step, attempt, answered_ns IS NOT NULL, http_status, coalesce(operation_id, ''), coalesce(detail, '')
FROM attempt
WHERE step >= :from_step AND step < :to_step AND (attempt > 1 OR http_status IS NOT {_USUAL_STATUS} OR detail <> '')
ORDER BY step, attempt
"""  # noqa: S608 - made of constants
_EVIDENCE: Final = """
SELECT step, found FROM evidence WHERE step >= :from_step AND step < :to_step ORDER BY rowid
"""


class Slice(NamedTuple):
    """Some rows of a report, by column.

    Attributes:
        columns: The cells of `COLUMNS`, of `note` and `settle_ns` where asked for; None where a number is not known.
        carried: The cells of the manifest's other columns, in their order.
    """

    columns: Mapping[str, Sequence[Any]]
    carried: Sequence[Sequence[str]]


def has_notes(view: RunView) -> bool:
    """Whether any row of the manifest has a note.

    Raises:
        JournalError: The journal is damaged.
    """
    return _has(view, "step WHERE note <> ''")


def _has(view: RunView, rows: str) -> bool:
    with view.reading() as reader:
        return bool(reader.execute(f"SELECT EXISTS (SELECT 1 FROM {rows})").fetchone()[0])  # noqa: S608 - a constant


def names_of(view: RunView, *, note: bool) -> list[str]:
    """The columns of the report on a run, with those that are carried."""
    return [*COLUMNS, *([NOTE] if note else []), *unique_names(view.facts.carried_columns, (*COLUMNS, NOTE))]


def unique_names(names: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """`names`, each prefixed until it is neither in `taken` nor there twice; case does not tell two names apart."""
    used = {name.casefold() for name in taken}
    unique = []
    for name in names:
        while name.casefold() in used:
            name = f"{CLASH_PREFIX}{name}"  # noqa: PLW2901 - until it is unique
        used.add(name.casefold())
        unique.append(name)
    return tuple(unique)


def report_frame(view: RunView, outcomes: Collection[Outcome] | None = None) -> pd.DataFrame:
    """The report on a run as one table.

    Args:
        view: The run.
        outcomes: Only the rows with one of these outcomes; None for all.

    Returns:
        `COLUMNS`, then `note` where any row has one, then the carried columns. Texts are empty and numbers NA where
        there is nothing to say; times are RFC 3339 in UTC, `duration_s` is from the first send to the outcome.

    Raises:
        JournalError: The journal is damaged.
    """
    import pandas as pd  # noqa: PLC0415 - takes a fifth of a second, which most formats need not pay

    note = has_notes(view)
    names = names_of(view, note=note)
    ours = names[: len(names) - len(view.facts.carried_columns)]
    slices = list(report_slices(view, outcomes, note=note))
    cells = [list(chain.from_iterable(one.columns[name] for one in slices)) for name in ours]
    cells += [list(chain.from_iterable(one.carried[at] for one in slices)) for at in range(len(names) - len(ours))]
    return pd.DataFrame(
        {name: pd.Series(column, dtype=NUMBERS.get(name, "str")) for name, column in zip(names, cells, strict=True)}
    )


def report_slices(
    view: RunView,
    outcomes: Collection[Outcome] | None = None,
    *,
    note: bool,
    settle: bool = False,
    numbers: Iterable[int] | None = None,
) -> Iterator[Slice]:
    """The report on a run by slices of rows; slices without a row are left out.

    Args:
        view: The run.
        outcomes: Only the rows with one of these outcomes; None for all.
        note: Whether the notes are wanted.
        settle: Whether the settle times are wanted.
        numbers: Which slices, counted from 0, each of `SLICE` steps; None for all.

    Raises:
        JournalError: The journal is damaged.
    """
    more = {
        ', d.grp AS "group"': _has(view, "device WHERE grp <> ''"),
        ", coalesce(r.process, 0) AS finished_by, coalesce(a.process, 0) AS sent_by": any(view.clock_steps_ns.values()),
        ", s.settle_ns": settle,
        ", s.note": note,
        ", s.carried": bool(view.facts.carried_columns),
    }
    query = _STEPS.format(more="".join(columns for columns, wanted in more.items() if wanted))
    for from_step in range(0, view.steps, SLICE) if numbers is None else (number * SLICE for number in numbers):
        rows = _slice(view, query, from_step, min(from_step + SLICE, view.steps))
        if outcomes is not None:
            wanted = [outcome in outcomes for outcome in rows.columns["outcome"]]
            rows = Slice(
                {name: list(compress(cells, wanted)) for name, cells in rows.columns.items()},
                [list(compress(cells, wanted)) for cells in rows.carried],
            )
        if rows.columns["row"]:
            yield rows


def _slice(view: RunView, query: str, from_step: int, to_step: int) -> Slice:
    limits = {"from_step": from_step, "to_step": to_step}
    count = to_step - from_step
    with view.reading() as reader:
        cursor = reader.execute(query, limits)
        names = [name for name, *_ in cursor.description]
        # No row is ever held: the garbage collector would go through all of them.
        cells = list(chain.from_iterable(cursor))
        if len(cells) != count * len(names):
            raise ValueError("a step is missing")
        columns: dict[str, Sequence[Any]] = {name: cells[at :: len(names)] for at, name in enumerate(names)}
        finished_ns, sent_ns = (np.array(columns.pop(name)) for name in ("finished_ns", "sent_ns"))
        columns |= _times(sent_ns, finished_ns, _stepped_ns(view, columns))
        columns["row"] = range(from_step + 1, to_step + 1)
        columns["run_id"] = [view.facts.run_id] * count
        columns.setdefault("group", [""] * count)
        columns |= _outcomes(reader.execute(_RESULTS, limits), finished_ns != _NEVER, from_step)
        columns |= _answers(reader.execute(_ATTEMPTS, limits), sent_ns != _NEVER, columns["operation_id"], from_step)
        if evidence := reader.execute(_EVIDENCE, limits).fetchall():
            columns |= _with_evidence(columns, evidence, from_step)
        if "" in columns["outcome"]:
            tried = reader.execute(OPEN_TRIED, view.standing | limits).fetchall()
            columns |= _with_open_steps(view, columns, tried, from_step)
        return Slice(columns, _carried(columns.pop("carried", ()), len(view.facts.carried_columns)))


def _outcomes(results: Iterable[tuple[int, str, str]], finished: Flags, from_step: int) -> dict[str, Sequence[Any]]:
    """The outcomes and reasons of steps with a result; both are empty where there is none."""
    outcomes, reasons = _where(finished, _USUAL_OUTCOME, ""), [""] * len(finished)
    for step, outcome, reason in results:
        outcomes[step - from_step], reasons[step - from_step] = outcome, reason
    return {"outcome": outcomes, "reason": reasons}


def _answers(
    attempts: Iterable[tuple[Any, ...]], sent: Flags, first_ids: Sequence[str], from_step: int
) -> dict[str, Sequence[Any]]:
    """How many attempts there are, and what the last one that was answered says."""
    counts, statuses, details = _where(sent, 1, 0), _where(sent, _USUAL_STATUS, None), [""] * len(sent)
    ids = list(first_ids)
    for step, attempt, answered, status, operation_id, detail in attempts:
        at = step - from_step
        if attempt > 1:
            counts[at] += 1
        if answered or attempt == 1:
            statuses[at], ids[at], details[at] = status, operation_id, detail
    return {"attempts": counts, "http_status": statuses, "operation_id": ids, "detail": details}


def _where(flags: Flags, cell: Any, otherwise: Any) -> list[Any]:
    return [cell] * len(flags) if flags.all() else [cell if flag else otherwise for flag in flags.tolist()]


def _with_open_steps(
    view: RunView, columns: Mapping[str, Sequence[Any]], tried: Iterable[tuple[Any, ...]], from_step: int
) -> dict[str, Sequence[Any]]:
    """The outcomes and reasons with those that open steps, whose outcome is empty, have as the run stands."""
    left_because = view.left_because.value
    outcomes = [outcome or "not_started" for outcome in columns["outcome"]]
    reasons = [
        reason if outcome else left_because
        for outcome, reason in zip(columns["outcome"], columns["reason"], strict=True)
    ]
    for step, outcome, reason, _ in tried:
        outcomes[step - from_step], reasons[step - from_step] = outcome, reason
    return {"outcome": outcomes, "reason": reasons}


def _with_evidence(
    columns: Mapping[str, Sequence[Any]], evidence: Iterable[tuple[int, str]], from_step: int
) -> dict[str, Sequence[Any]]:
    """The details, led by what was found out last about a step after its run."""
    found = {step - from_step: words for step, words in evidence}
    details = [
        f"{found[at]}; {said}".removesuffix("; ") if at in found else said for at, said in enumerate(columns["detail"])
    ]
    return {"detail": details}


def _stepped_ns(view: RunView, columns: dict[str, Sequence[Any]]) -> Integers | int:
    """By how much the wall clock was stepped between a step's first send and its outcome."""
    if "sent_by" not in columns:
        return 0
    sent_by, finished_by = np.array(columns.pop("sent_by")), np.array(columns.pop("finished_by"))
    by_ns = np.zeros(len(sent_by), dtype=np.int64)
    for (one, other), stepped_ns in view.clock_steps_ns.items():
        by_ns[(sent_by == one) & (finished_by == other)] = stepped_ns
    return by_ns


def _times(sent_ns: Integers, finished_ns: Integers, stepped_ns: Integers | int) -> dict[str, Sequence[Any]]:
    duration_ns = finished_ns - sent_ns - stepped_ns
    durations_s = (np.maximum(duration_ns, 0) // _NS_PER_MS / 1000).astype(object)
    durations_s[(sent_ns < 0) | (finished_ns < 0)] = None
    return {
        "first_sent_at": moments(sent_ns).tolist(),
        "finished_at": moments(finished_ns).tolist(),
        "duration_s": durations_s.tolist(),
    }


def moments(moments_ns: Integers) -> Cells:
    """Moments in nanoseconds since the epoch as RFC 3339 in UTC with milliseconds; empty where negative."""
    # Many fall into one millisecond, and nearly all into few seconds: to write one out is the slow part.
    in_ms, codes = np.unique(moments_ns // _NS_PER_MS, return_inverse=True)
    in_s, codes_of_ms = np.unique(in_ms // 1000, return_inverse=True)
    seconds = np.datetime_as_string(in_s.astype("datetime64[s]")).astype(object)
    written: Cells = np.add(seconds[codes_of_ms], _MILLISECONDS[in_ms % 1000], dtype=np.object_)[codes]
    written[moments_ns < 0] = ""
    return written


def _carried(carried: Iterable[str], columns: int) -> Sequence[Sequence[str]]:
    if not columns:
        return []
    by_column = list(zip(*json.loads(f"[{','.join(carried)}]"), strict=True))
    if len(by_column) != columns:
        raise ValueError("a carried cell is missing")
    return by_column
