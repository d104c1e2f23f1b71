"""Bytes in, text checked: files, standard input and gzip, in bounded memory and without waiting on a device."""

from __future__ import annotations

import codecs
import errno
import os
import stat
import sys
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

from fleetops.documents.wording import found, refusal

if TYPE_CHECKING:
    from pathlib import Path

MIB: Final = 1 << 20
STDIN: Final = "-"
MOST_PER_COMPRESSED_BYTE: Final = 200
"""Lists of devices compress by 5 to 50; gzip's limit, which bombs are close to, is 1032."""

_GZIP: Final = b"\x1f\x8b"
_EXEMPT_FROM_RATIO: Final = 16 * MIB
_PIECE: Final = MIB
_SAMPLE: Final = 4096
_OTHER_KINDS: Final = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet workbook"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet workbook"),
    (b"%PDF-", "a PDF"),
    (b"SQLite format 3\x00", "a SQLite database"),
)
_UTF16_32: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SAVE_AS_UTF8: Final = "save it as UTF-8 text; in a spreadsheet that is `CSV UTF-8`"
_CONTROLS: Final = bytes(byte for byte in range(32) if byte not in b"\t\n\r") + b"\x7f"


def read_bytes(source: str | Path, *, limit: int, stdin: BinaryIO | None = None) -> bytes:
    """What is in the file called `source`, or in standard input where that is `-`, as it is.

    Only regular files are read: a FIFO or a device could keep us waiting for ever.

    Args:
        source: A path, or `-`.
        limit: More bytes than this are refused.
        stdin: What `-` reads; by default the process's standard input.

    Raises:
        InvalidInputError: It is missing, is not a file, may not be read, or is too large.
    """
    name = str(source)
    try:
        if name == STDIN:
            data = (stdin if stdin is not None else sys.stdin.buffer).read(limit + 1)
        else:
            data = _read_file(name, limit)
    except (OSError, ValueError, AttributeError) as error:  # ValueError: a NUL in the name, or a closed stream
        raise _unreadable(name, error) from None
    if len(data) > limit:
        raise refusal(
            "too-large",
            f"{found(name)} is larger than {limit // MIB} MiB",
            name,
            hint="split it, or give a list of steps as CSV, which may be larger than YAML",
        )
    return data


def _read_file(name: str, limit: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, so that opening a FIFO does not wait
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "")
        if not stat.S_ISREG(mode):
            kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
            raise refusal("not-a-file", f"{found(name)} is {kind}", name, hint="use - to read standard input")
        return file.read(limit + 1)


def _unreadable(name: str, error: Exception) -> Exception:
    match error:
        case FileNotFoundError():
            return refusal("no-such-file", f"there is no file {found(name)}", name, hint="check the path")
        case IsADirectoryError():
            return refusal("not-a-file", f"{found(name)} is a directory", name, hint="name a file in it")
        case PermissionError():
            return refusal(
                "unreadable", f"{found(name)} may not be read", name, hint="let your user read it: chmod u+r"
            )
        case OSError():
            why = error.strerror or type(error).__name__
            return refusal("unreadable", f"{found(name)} cannot be read: {why}", name)
        case _:
            return refusal("unreadable", f"{found(name)} cannot be read", name, hint="check the path")


def open_text(data: bytes, source: str, *, limit: int) -> bytes:
    """The UTF-8 text in `data` without a byte order mark, unpacked where it is gzip.

    Args:
        data: What `read_bytes` gave.
        source: The file as the user named it.
        limit: Unpacked text longer than this is refused, in bytes.

    Raises:
        InvalidInputError: It is empty, is not text, is not UTF-8, or does not unpack to at most `limit` bytes.
    """
    if data.startswith(_GZIP):
        data = _unpacked(data, source, limit)
    for mark, encoding in _UTF16_32:
        if data.startswith(mark):
            raise refusal("not-utf8", f"{found(source)} is {encoding} text", source, 1, 1, _SAVE_AS_UTF8)
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data or data.isspace():
        if source == "-":
            raise refusal("empty-file", "there is nothing on standard input", source, hint="pipe a manifest into it")
        raise refusal("empty-file", f"{found(source)} is empty", source, hint="was it saved?")
    _refuse_binary(data, source)
    _refuse_other_encodings(data, source)
    return data


def place_of(data: bytes, offset: int) -> tuple[int, int]:
    """The line and the column, from 1 and in characters, of the byte at `offset`."""
    before = data[:offset]
    line = before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n") + 1
    start = max(before.rfind(b"\n"), before.rfind(b"\r")) + 1
    return line, len(before[start:].decode("utf-8", "replace")) + 1


def _unpacked(data: bytes, source: str, limit: int) -> bytes:
    text = bytearray()
    allowed = min(limit, max(_EXEMPT_FROM_RATIO, MOST_PER_COMPRESSED_BYTE * len(data)))
    rest = data
    try:
        while rest.startswith(_GZIP):
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                piece = member.decompress(rest, _PIECE)
                rest = member.unconsumed_tail
                text += piece
                if len(text) > allowed:
                    raise refusal(
                        "too-large",
                        f"{found(source)} unpacks to more than {allowed // MIB} MiB",
                        source,
                        hint="split it; a list of devices does not compress this well",
                    )
                if not piece and not rest and not member.eof:
                    raise _damaged(source, "it ends too early")
            rest = member.unused_data
    except zlib.error:
        raise _damaged(source, "it does not unpack") from None
    if rest.strip(b"\x00"):
        raise _damaged(source, "something else follows on the packed text")
    return bytes(text)


def _damaged(source: str, how: str) -> Exception:
    return refusal("damaged-gzip", f"{found(source)} is damaged gzip: {how}", source, hint="copy it again")


def _refuse_binary(data: bytes, source: str) -> None:
    for magic, kind in _OTHER_KINDS:
        if data.startswith(magic):
            raise refusal("not-text", f"{found(source)} is {kind}, not text", source, hint="export it as CSV UTF-8")
    sample = data[:_SAMPLE]
    zeros = sample.count(0)
    if zeros * 4 > len(sample) and not (sample[::2].count(0) and sample[1::2].count(0)):
        raise refusal("not-utf8", f"{found(source)} looks like UTF-16 text", source, 1, 1, _SAVE_AS_UTF8)
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if controls * 20 > len(sample):
        raise refusal("not-text", f"{found(source)} is not text", source, hint="name a CSV or YAML file")
    at = data.find(0)
    if at >= 0:
        raise refusal(
            "nul-byte", "there is a NUL byte here", source, *place_of(data, at), "was the file cut or damaged?"
        )


def _refuse_other_encodings(data: bytes, source: str) -> None:
    if data.isascii():
        return
    at = 0
    try:
        while at < len(data):
            piece = data[at : at + _PIECE]
            at += codecs.utf_8_decode(piece, "strict", at + len(piece) == len(data))[1]
    except UnicodeDecodeError as error:
        at += error.start
        raise refusal(
            "not-utf8",
            f"the byte 0x{data[at]:02X} is not UTF-8; the file looks like Latin-1 or Windows-1252",
            source,
            *place_of(data, at),
            _SAVE_AS_UTF8,
        ) from None
