"""Writing a report to where it is wanted: whole, or not at all."""

from __future__ import annotations

import codecs
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

from fleetops.errors import HostError
from fleetops.report.formats import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from fleetops.journal.views import RunView
    from fleetops.model import Outcome

    Writer = Callable[[RunView, TextIO, Collection[Outcome] | None], None]

WRITERS: Final = {
    Format.CSV: ("csv_report", "write_csv"),
    Format.JSON: ("json_report", "write_json"),
    Format.JUNIT: ("junit_report", "write_junit"),
    Format.HTML: ("html_report", "write_html"),
    Format.MANIFEST: ("manifest_file", "write_manifest"),
}
"""The module of `fleetops.report.formats` that writes each, and its function; only what is asked for is loaded."""


def writer_of(report_format: Format) -> Writer:
    """What writes a report in that format."""
    module, function = WRITERS[report_format]
    writer: Writer = getattr(import_module(f"fleetops.report.formats.{module}"), function)
    return writer


def write_report(
    view: RunView, report_format: Format, where: Path | TextIO, outcomes: Collection[Outcome] | None = None
) -> None:
    """Write the report on a run, in UTF-8.

    A file is written beside its place, readable by its owner only, and renamed once it is safe on the disk, so that
    nobody sees half of it. What is no regular file, such as a pipe, is written to directly.

    Args:
        view: The run.
        report_format: The format.
        where: A path, or an open stream such as standard output.
        outcomes: Only the steps with one of these outcomes; None for all.

    Raises:
        HostError: It cannot be written there.
        BrokenPipeError: Whoever reads the stream has stopped.
        JournalError: The journal is damaged.
        UsageError: The format cannot hold one of the steps.
    """
    write = writer_of(report_format)
    name = "the output" if not isinstance(where, Path) else str(where)
    try:
        with opened(where) as out:
            write(view, out, outcomes)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise HostError(f"cannot write the report to {name}: {error.strerror or error}", hint=_hint(view)) from None


def _hint(view: RunView) -> str:
    return f"the journal has it all: `fleetops report {view.facts.run_id} --output FILE` writes it elsewhere"


@contextmanager
def opened(where: Path | TextIO) -> Iterator[TextIO]:
    """What to write text to; a file is there once all of it is, and not before."""
    if not isinstance(where, Path):
        with _in_utf8(where) as out:
            yield out
    elif where.exists() and not stat.S_ISREG(where.stat().st_mode):
        with where.open("w", encoding="utf-8", newline="") as out:
            yield out
    else:
        with replacing(where.resolve()) as out:
            yield out


@contextmanager
def _in_utf8(stream: TextIO) -> Iterator[TextIO]:
    """The stream as UTF-8 without changes to line ends, whatever the locale says."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        yield stream
        stream.flush()
        return
    stream.flush()
    # Not a second TextIOWrapper: that would hold text back, and close the stream together with itself.
    yield cast("TextIO", codecs.getwriter("utf-8")(buffer))
    buffer.flush()


@contextmanager
def replacing(path: Path, *, mode: int = 0o600, durable: bool = True) -> Iterator[TextIO]:
    """What to write a file to that takes the place of another one, or is new, once all of it is there.

    Args:
        path: The file.
        mode: Who may read it.
        durable: Whether it has to be safe on the disk first.

    Raises:
        OSError: It cannot be written.
    """
    fd, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fchmod(fd, mode)
            if durable:
                os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if not durable:
        return
    # Without this a power cut may undo the rename, which loses nothing that the journal does not hold.
    with suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
