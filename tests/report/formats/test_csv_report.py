from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.journal.views import RunView
from fleetops.model import Operation, Outcome
from fleetops.report.cells import FORMULA_MARKS
from fleetops.report.formats.csv_report import write_csv
from fleetops.report.frame import COLUMNS
from fleetops.scheduler import StopReason
from tests.report.journals import RUN_ID, T0, Made, S, make_journal, rows


def written(made: Made) -> str:
    out = io.StringIO(newline="")
    with RunView.open(made.state, made.run_id) as view:
        write_csv(view, out, None)
    return out.getvalue()


def test_a_report_reads_as_the_page_says(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(2))
    made.process(ended_ns=T0 + 60 * S, reason=StopReason.COMPLETE)
    made.attempt(0, "accepted", http_status=200, operation_id="77", at_ns=T0 + S)
    made.result(0, Outcome.ACCEPTED, at_ns=T0 + 2 * S)
    made.result(1, Outcome.SKIPPED, "offline", at_ns=T0)
    assert written(made) == (
        "row,serial_number,operation,group,outcome,reason,http_status,operation_id,attempts,first_sent_at,finished_at,"
        "duration_s,detail,run_id\n"
        "1,SN0001,reboot,,accepted,,200,77,1,2026-01-02T03:00:01.000Z,2026-01-02T03:00:02.000Z,1.0,,"
        f"{RUN_ID}\n"
        f"2,SN0002,reboot,,skipped,offline,,,0,,2026-01-02T03:00:00.000Z,,,{RUN_ID}\n"
    )


def test_serials_groups_details_ids_and_headers_are_neutralised(tmp_path: Path) -> None:
    made = make_journal(
        tmp_path,
        [("-AB1", Operation.REBOOT)],
        groups=["@group"],
        notes=["+note"],
        carried_columns=("=head",),
        carried=[["=cell"]],
    )
    made.process(ended_ns=T0, reason=StopReason.COMPLETE)
    made.attempt(0, "refused", "invalid", operation_id="=id", detail="-detail")
    made.result(0, Outcome.FAILED, "invalid")
    header, row = csv.reader(io.StringIO(written(made), newline=""))
    assert header == [*COLUMNS, "note", "'=head"]
    named = dict(zip(header, row, strict=True))
    assert [named[name] for name in ("serial_number", "group", "operation_id", "detail", "note", "'=head")] == [
        "'-AB1",
        "'@group",
        "'=id",
        "'-detail",
        "'+note",
        "'=cell",
    ]


def test_a_lone_carriage_return_ends_no_row(tmp_path: Path) -> None:
    made = make_journal(tmp_path, rows(2), notes=["one\rtwo", "plain"])
    _, first, second = csv.reader(io.StringIO(written(made), newline=""))
    assert (first[-1], second[-1]) == ("one\rtwo", "plain")


TEXT = st.text(st.one_of(st.sampled_from("=+-@\t\r\n,;\"' "), st.characters(exclude_categories=["Cs"])), max_size=8)


@settings(deadline=None, max_examples=40)
@given(cells=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5), header=st.tuples(TEXT, TEXT))
def test_any_text_comes_back_from_csv_and_no_cell_starts_a_formula(
    cells: list[tuple[str, str, str]], header: tuple[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        made = make_journal(Path(root), rows(len(cells)), carried_columns=header, carried=[[a, b] for a, b, _ in cells])
        made.process(ended_ns=T0, reason=StopReason.COMPLETE)
        for step, (_, _, detail) in enumerate(cells):
            made.attempt(step, "refused", "invalid", detail=detail)
            made.result(step, Outcome.FAILED, "invalid")
        head, *read = csv.reader(io.StringIO(written(made), newline=""))
    assert len({name.casefold() for name in head}) == len(head)
    assert len(read) == len(cells)
    detail_at = COLUMNS.index("detail")
    for (first, second, detail), row in zip(cells, read, strict=True):
        assert not any(cell.startswith(FORMULA_MARKS) for cell in (*head, *row))
        for cell, back in ((first, row[-2]), (second, row[-1]), (detail, row[detail_at])):
            assert back == (f"'{cell}" if cell.startswith(FORMULA_MARKS) else cell)
