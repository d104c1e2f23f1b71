from __future__ import annotations

import io
import os
import resource
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetops.errors import HostError, JournalError, UsageError
from fleetops.journal.views import RunView
from fleetops.model import Operation
from fleetops.report.formats import Format
from fleetops.report.output import WRITERS, write_report
from tests.report.journals import RUN_ID, make_journal, rows

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def view(tmp_path: Path) -> Iterator[RunView]:
    made = make_journal(tmp_path / "state", rows(3), carried_columns=("site",), carried=[["Málaga"], ["東京"], ["x"]])
    with RunView.open(made.state, RUN_ID) as run:
        yield run


def test_every_format_has_a_writer() -> None:
    assert set(WRITERS) == set(Format)


@pytest.mark.parametrize("report_format", list(Format))
def test_a_report_file_is_there_whole_and_for_its_owner_only(
    view: RunView, tmp_path: Path, report_format: Format
) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    write_report(view, report_format, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "Málaga" in path.read_text(encoding="utf-8") or report_format in {Format.JUNIT, Format.HTML}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "state"]


def test_a_link_is_followed_and_not_replaced(view: RunView, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_report(view, Format.CSV, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text(encoding="utf-8").startswith("row,")


def test_standard_output_gets_utf_8_whatever_the_locale_says(view: RunView) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_report(view, Format.CSV, stream)
    assert "東京" in raw.getvalue().decode()
    stream.write("still open")
    stream.flush()


def test_a_stream_without_bytes_below_it_gets_text(view: RunView) -> None:
    out = io.StringIO()
    write_report(view, Format.CSV, out)
    assert out.getvalue().count("\n") == 4


def test_a_pipe_is_written_to_and_not_replaced(view: RunView, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_report(view, Format.CSV, pipe)
    reader.join()
    assert read[0].startswith("row,")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_directory_that_is_not_there_is_a_host_error(view: RunView, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file or directory") as caught:
        write_report(view, Format.CSV, tmp_path / "nowhere" / "out.csv")
    assert f"fleetops report {RUN_ID}" in (caught.value.hint or "")


@pytest.mark.parametrize("place", ["", "x" * 300])
def test_a_place_that_cannot_be_a_file_is_a_host_error(view: RunView, tmp_path: Path, place: str) -> None:
    with pytest.raises(HostError, match="cannot write the report"):
        write_report(view, Format.CSV, tmp_path / place)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the platform has no full disk to offer")
def test_a_full_disk_is_a_host_error(view: RunView, tmp_path: Path) -> None:
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - closing it fails
    with pytest.raises(HostError, match="No space left"):
        write_report(view, Format.CSV, full)
    with pytest.raises(OSError, match="No space left"):
        full.close()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(HostError, match="No space left"):
        write_report(view, Format.CSV, tmp_path / "full")


def test_no_half_of_a_report_is_left_where_the_disk_is_full(view: RunView, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(HostError, match="cannot write the report"):
            write_report(view, Format.CSV, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.csv", "state"]


def test_a_reader_that_has_gone_is_for_the_caller_to_see(view: RunView) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8") as out:
        write_report(view, Format.CSV, out)


def test_a_damaged_journal_leaves_no_file(tmp_path: Path) -> None:
    made = make_journal(tmp_path / "state", rows(3))
    made._write("DELETE FROM step WHERE step = 1")
    with RunView.open(made.state, RUN_ID) as run, pytest.raises(JournalError):
        write_report(run, Format.CSV, tmp_path / "out.csv")
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_step_that_a_format_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    made = make_journal(tmp_path / "state", [("=1", Operation.SYNC)])
    with RunView.open(made.state, RUN_ID) as run, pytest.raises(UsageError):
        write_report(run, Format.MANIFEST, tmp_path / "out.csv")
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_standard_output_itself_can_be_written_to(view: RunView, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(view, Format.CSV, sys.stdout)
    assert capsys.readouterr().out.startswith("row,")
