from __future__ import annotations

import gzip
import io
import os
from typing import TYPE_CHECKING

import pytest

from fleetops.documents import open_text, place_of, read_bytes
from fleetops.errors import ExitCode, InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1 << 20


def refused(data: bytes, *, limit: int = LIMIT) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        open_text(data, "list.csv", limit=limit)
    return caught.value


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbfa\r\n")
    assert read_bytes(path, limit=LIMIT) == b"\xef\xbb\xbfa\r\n"


def test_a_dash_reads_the_stream_it_is_given() -> None:
    assert read_bytes("-", limit=LIMIT, stdin=io.BytesIO(b"abc")) == b"abc"


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing.csv", "no-such-file"), (".", "not-a-file"), ("a\0b", "unreadable"), ("x" * 5000, "unreadable")],
)
def test_what_is_no_file_is_named(tmp_path: Path, name: str, code: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_bytes(f"{tmp_path}/{name}", limit=LIMIT)
    assert [problem.code for problem in caught.value.problems.listed] == [code]
    assert caught.value.exit_code is ExitCode.INVALID


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InvalidInputError, match="named pipe"):
        read_bytes(path, limit=LIMIT)


def test_a_device_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="a device"):
        read_bytes("/dev/zero", limit=LIMIT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.csv"
    path.touch(mode=0o000)
    with pytest.raises(InvalidInputError, match="may not be read"):
        read_bytes(path, limit=LIMIT)


def test_a_closed_stream_is_a_problem_and_not_a_traceback() -> None:
    stream = io.BytesIO()
    stream.close()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_bytes("-", limit=LIMIT, stdin=stream)


def test_more_than_the_limit_is_refused_before_all_of_it_is_read() -> None:
    with pytest.raises(InvalidInputError, match="larger than 1 MiB"):
        read_bytes("-", limit=LIMIT, stdin=io.BytesIO(bytes(LIMIT + 100)))


def test_a_byte_order_mark_is_taken_off() -> None:
    assert open_text(b"\xef\xbb\xbfserial", "list.csv", limit=LIMIT) == b"serial"


def test_gzip_is_unpacked_whatever_the_file_is_called() -> None:
    packed = gzip.compress(b"serial,") + gzip.compress(b"op\n") + bytes(8)
    assert open_text(packed, "list.csv", limit=LIMIT) == b"serial,op\n"


@pytest.mark.parametrize("size", [17 << 20, 64 << 20])
def test_a_gzip_bomb_is_refused_by_its_ratio(size: int) -> None:
    packed = gzip.compress(bytes(size), compresslevel=1)
    error = refused(packed, limit=1 << 30)
    assert error.problems.listed[0].code == "too-large"


def test_gzip_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    assert refused(gzip.compress(os.urandom(LIMIT + 1))).problems.listed[0].code == "too-large"


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-12],
        lambda packed: packed + b"more",
        lambda packed: packed[:20] + b"\xff\xff\xff\xff" + packed[24:],
    ],
)
def test_damaged_gzip_is_named(damage: object) -> None:
    packed = gzip.compress(b"serial,op\nABC,reboot\n" * 10)
    assert refused(damage(packed)).problems.listed[0].code == "damaged-gzip"  # type: ignore[operator]  # a lambda


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b" \r\n\t\n", gzip.compress(b"")])
def test_a_file_without_text_is_empty(data: bytes) -> None:
    assert refused(data).problems.listed[0].code == "empty-file"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named_with_and_without_a_mark(encoding: str) -> None:
    error = refused("serial_number,operation\nABC,reboot\n".encode(encoding))
    assert error.problems.listed[0].code == "not-utf8"
    assert encoding[:6].upper() in error.message


def test_a_byte_that_is_not_utf8_is_named_with_its_line_and_column() -> None:
    error = refused("serial,note\r\nABC,héé\n".encode() + "DEF,ñé caf\xe9\n".encode("latin-1"))
    [problem] = error.problems.listed
    assert (problem.code, problem.line, problem.column) == ("not-utf8", 3, 5)
    assert "0xF1" in problem.message
    assert "Latin-1" in problem.message


def test_a_character_cut_at_the_end_is_not_utf8() -> None:
    assert refused(b"abc\xc3").problems.listed[0].column == 4


def test_text_longer_than_one_piece_is_checked_to_its_end() -> None:
    text = ("é" * 600_000).encode()
    assert open_text(b"a" + text, "list.csv", limit=LIMIT) == b"a" + text
    assert refused(b"a" + text + b"\xff").problems.listed[0].column == 600_002


@pytest.mark.parametrize("data", [b"PK\x03\x04....", b"%PDF-1.7", bytes(range(256)) * 8, b"\x00" * 5000])
def test_what_is_not_text_is_said_to_be_so(data: bytes) -> None:
    assert refused(data).problems.listed[0].code == "not-text"


def test_a_single_nul_byte_is_pointed_at() -> None:
    [problem] = refused(b"serial,op\n" * 10 + b"ABC,re\x00boot\n").problems.listed
    assert (problem.code, problem.line, problem.column) == ("nul-byte", 11, 7)


def test_every_kind_of_line_end_counts_as_one_line() -> None:
    assert place_of("a\r\nb\rc\né=".encode(), 9) == (4, 2)
