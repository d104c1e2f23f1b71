from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.errors import JournalError
from fleetops.journal.views import RunView, rfc3339
from fleetops.model import Operation, Outcome, Reason
from fleetops.report import frame
from fleetops.report.frame import COLUMNS, moments, report_frame, unique_names
from fleetops.scheduler import StopReason
from tests.report.journals import RUN_ID, T0, Made, S, make_journal, rows

if TYPE_CHECKING:
    from collections.abc import Sequence


def report(made: Made, outcomes: Sequence[Outcome] | None = None) -> pd.DataFrame:
    with RunView.open(made.state, made.run_id) as view:
        return report_frame(view, outcomes)


def test_a_report_has_our_columns_then_note_then_the_carried_ones(tmp_path: Path) -> None:
    made = make_journal(
        tmp_path,
        rows(2),
        groups=["olt-1", ""],
        notes=["", "attic"],
        carried_columns=("site", "Outcome", "note"),
        carried=[["A", "x", "n1"], ["B", "y", "n2"]],
    )
    table = report(made)
    assert list(table.columns) == [*COLUMNS, "note", "site", "manifest_Outcome", "manifest_note"]
    assert table["note"].tolist() == ["", "attic"]
    assert table["manifest_Outcome"].tolist() == ["x", "y"]
    assert table["group"].tolist() == ["olt-1", ""]


def test_there_is_no_note_column_where_no_row_has_a_note(tmp_path: Path) -> None:
    assert list(report(make_journal(tmp_path, rows(1))).columns) == list(COLUMNS)


def test_a_row_tells_what_the_journal_knows_of_its_step(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(3, Operation.SYNC))
    made.process(ended_ns=T0 + 60 * S, reason=StopReason.COMPLETE)
    made.attempt(0, "accepted", http_status=200, operation_id="77", at_ns=T0 + S)
    made.result(0, Outcome.ACCEPTED, at_ns=T0 + 2 * S + 345_678_901)
    made.attempt(1, "maybe", "gateway_timeout", http_status=504, detail="proxy", at_ns=T0 + 5 * S)
    made.attempt(1, "refused", "invalid", http_status=422, detail="no", attempt=2, at_ns=T0 + 9 * S)
    made.result(1, Outcome.UNKNOWN, "gateway_timeout", at_ns=T0 + 10 * S)
    made.result(2, Outcome.SKIPPED, "offline", at_ns=T0)
    first, second, third = report(made).to_dict("records")
    assert first == {
        "row": 1,
        "serial_number": "SN0001",
        "operation": "sync",
        "group": "",
        "outcome": "accepted",
        "reason": "",
        "http_status": 200,
        "operation_id": "77",
        "attempts": 1,
        "first_sent_at": "2026-01-02T03:00:01.000Z",
        "finished_at": "2026-01-02T03:00:02.345Z",
        "duration_s": 1.345,
        "detail": "",
        "run_id": RUN_ID,
    }
    assert (second["http_status"], second["attempts"], second["detail"]) == (422, 2, "no")
    assert (second["first_sent_at"], second["duration_s"]) == ("2026-01-02T03:00:05.000Z", 5.0)
    assert (third["outcome"], third["reason"], third["attempts"]) == ("skipped", "offline", 0)
    assert pd.isna(third["http_status"])
    assert np.isnan(third["duration_s"])
    assert third["first_sent_at"] == ""


def test_an_unanswered_attempt_shows_its_intent_and_the_answer_before_it(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(2))
    made.process()
    made.attempt(0, "not_reached", "unreachable", detail="refused", at_ns=T0)
    made.attempt(0, None, attempt=2, at_ns=T0 + 5 * S)
    made.attempt(1, None, at_ns=T0 + 5 * S)
    table = report(made)
    assert table["outcome"].tolist() == ["unknown", "unknown"]
    assert table["reason"].tolist() == ["crashed", "crashed"]
    assert table["detail"].tolist() == ["refused", ""]
    assert table["attempts"].tolist() == [2, 1]
    assert table["first_sent_at"].tolist() == ["2026-01-02T03:00:00.000Z", "2026-01-02T03:00:04.999Z"]
    assert table["finished_at"].tolist() == ["", ""]


def test_a_step_of_the_wall_clock_between_send_and_outcome_does_not_count_as_time_taken(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=T0 + 2 * S, reason=StopReason.INTERRUPTED)
    made.process(wall_minus_boot_ns=-3600 * S, ended_ns=T0, reason=StopReason.COMPLETE)
    made.attempt(0, "maybe", "read_timeout", at_ns=T0)
    made.attempt(0, "accepted", attempt=2, process=2, at_ns=T0 - 3595 * S)
    made.result(0, Outcome.ACCEPTED, at_ns=T0 - 3590 * S, process=2)
    assert report(made)["duration_s"].tolist() == [10.0]


def test_only_rows_with_a_wanted_outcome_are_there(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(4), carried_columns=("site",), carried=[["a"], ["b"], ["c"], ["d"]])
    made.process(ended_ns=T0 + S, reason=StopReason.INTERRUPTED)
    made.result(0, Outcome.ACCEPTED)
    made.result(1, Outcome.FAILED, "not_found")
    table = report(made, [Outcome.FAILED, Outcome.NOT_STARTED])
    assert table["row"].tolist() == [2, 3, 4]
    assert table["site"].tolist() == ["b", "c", "d"]
    assert len(report(made, [Outcome.UNKNOWN])) == 0
    assert list(report(made, []).columns) == [*COLUMNS, "site"]


def test_numbers_are_numbers_and_texts_are_texts(tmp_path: Path) -> None:
    types = report(make_journal(tmp_path, rows(1))).dtypes
    assert {name: str(types[name]) for name in ("row", "http_status", "attempts", "duration_s", "detail")} == {
        "row": "int64",
        "http_status": "Int64",
        "attempts": "int64",
        "duration_s": "float64",
        "detail": "str",
    }


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM step WHERE step = 1",
        "DELETE FROM device",
        "UPDATE step SET carried = '['",
        "UPDATE step SET carried = '[]'",
        'UPDATE step SET carried = \'["a", "b"]\'',
        'UPDATE step SET carried = \'["a", "b"]\' WHERE step = 0',
    ],
)
def test_a_step_that_the_journal_has_lost_a_part_of_is_a_journal_error(tmp_path: Path, damage: str) -> None:
    made = make_journal(tmp_path, rows(3), carried_columns=("site",), carried=[["a"], ["b"], ["c"]])
    made._write(damage)
    with pytest.raises(JournalError, match="cannot be read"):
        report(made)


def test_names_are_unique_whatever_their_case() -> None:
    assert unique_names(["a", "A", "row", "manifest_row", ""], ["row"]) == (
        "a",
        "manifest_A",
        "manifest_row",
        "manifest_manifest_row",
        "",
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 4_000_000_000 * S)))
def test_moments_in_a_table_read_as_single_ones_do(of: list[int]) -> None:
    assert moments(np.array([*of, -1], dtype=np.int64)).tolist() == [*map(rfc3339, of), ""]


KINDS: list[tuple[str | None, str | None]] = [
    (None, None),
    ("accepted", None),
    ("not_reached", "unreachable"),
    ("throttled", "throttled"),
    ("maybe", "read_timeout"),
    ("bad_reply", "bad_reply"),
    ("refused", "not_found"),
    ("token_refused", "token_refused"),
]
RESULTS: list[tuple[Outcome, str | None] | None] = [
    None,
    *[(outcome, None) for outcome in Outcome if outcome is not Outcome.NOT_STARTED],
    (Outcome.SKIPPED, "earlier_step_failed"),
]
STATUS = {"accepted": 200, "throttled": 429, "bad_reply": 200, "refused": 404, "token_refused": 403}
HISTORY = st.tuples(st.lists(st.sampled_from(KINDS), max_size=3), st.sampled_from(RESULTS))


@settings(deadline=None, max_examples=40)
@given(
    histories=st.lists(HISTORY, min_size=1, max_size=8),
    ended=st.sampled_from([*StopReason, None]),
    driven=st.booleans(),
    chosen=st.sets(st.sampled_from(list(Outcome))),
)
def test_whatever_happened_each_manifest_row_gives_exactly_one_report_row_in_order(
    histories: list[tuple[list[tuple[str | None, str | None]], tuple[Outcome, str | None] | None]],
    ended: StopReason | None,
    driven: bool,
    chosen: set[Outcome],
) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "SLICE", 3)
        made = make_journal(Path(root), rows(len(histories)))
        if driven:
            made.process(ended_ns=None if ended is None else T0 + 9 * S, reason=ended)
        for step, (attempts, result) in enumerate(histories):
            for number, (kind, reason) in enumerate(attempts, start=1):
                status, operation_id = STATUS.get(kind or ""), kind and str(number)
                made.attempt(
                    step, kind, reason, attempt=number, http_status=status, operation_id=operation_id, detail=reason
                )
            if result is not None:
                made.result(step, *result)
        with RunView.open(made.state, made.run_id) as view:
            table, some = report_frame(view), report_frame(view, chosen)
            tally = view.tally
    assert table["row"].tolist() == list(range(1, len(histories) + 1))
    assert table["serial_number"].tolist() == [serial for serial, _ in rows(len(histories))]
    assert table["attempts"].tolist() == [len(attempts) for attempts, _ in histories]
    answered = [
        [(n, kind, reason) for n, (kind, reason) in enumerate(attempts, start=1) if kind] for attempts, _ in histories
    ]
    last = [one[-1] if one else ("", "", None) for one in answered]
    assert table["operation_id"].tolist() == [str(number) for number, *_ in last]
    assert table["detail"].tolist() == [reason or "" for *_, reason in last]
    assert [None if pd.isna(status) else status for status in table["http_status"]] == [
        STATUS.get(kind) for _, kind, _ in last
    ]
    counted = table.groupby(["outcome", "reason"]).size().to_dict()
    assert counted == {(outcome.value, reason or ""): count for (outcome, reason), count in tally.items()}
    assert some["row"].tolist() == table.loc[table["outcome"].isin(chosen), "row"].tolist()
    for outcome, reason in table[["outcome", "reason"]].itertuples(index=False):
        assert Outcome(outcome)
        assert reason == "" or Reason(reason)


def test_an_outcome_from_before_the_send_by_the_clock_took_no_time(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(1))
    made.process(ended_ns=T0 + 9 * S, reason=StopReason.COMPLETE)
    made.attempt(0, "accepted", at_ns=T0 + 5 * S)
    made.result(0, Outcome.ACCEPTED, at_ns=T0 + 4 * S)
    with RunView.open(made.state, made.run_id) as view:
        assert report_frame(view)["duration_s"].tolist() == [0.0]
