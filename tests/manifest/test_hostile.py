"""Whatever is in a file, it is a manifest or a list of problems; never a traceback, never a wait."""

from __future__ import annotations

import gzip
import io
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetops.cli.diagnostics import as_json, render
from fleetops.errors import InvalidInputError, Severity
from fleetops.manifest import read_manifest
from fleetops.model import OPERATIONS
from tests.manifest.frames import frame_of

EXAMPLES = int(os.environ.get("FLEETOPS_FUZZ_EXAMPLES", "150"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(data: bytes) -> None:
    """Read and look at what promises hold of it."""
    try:
        manifest = read_manifest("-", stdin=io.BytesIO(data))
    except InvalidInputError as error:
        problems, refused = error.problems, error.message
    else:
        problems, refused = manifest.warnings, ""
        rows = frame_of(manifest.rows)
        assert len(rows) > 0
        assert {len(rows)} == {len(manifest.rows), *map(len, manifest.carried.values())}
        assert (rows["serial_number"].str.len() > 0).all()
        assert (rows["line"] >= 1).all()
        assert (rows["settle_ns"] >= -1).all()
        assert not rows.duplicated(["serial_number", "operation"]).any()
    assert bool(problems.errors) == bool(refused)
    assert "\n" not in refused
    shown = render(problems, colour=False)
    assert all(line.isprintable() for line in shown.split("\n"))
    for problem in as_json(problems):
        assert problem["code"]
        assert problem["message"]
        assert problem["severity"] in list(Severity)
        assert problem["line"] is None or int(problem["line"]) >= 1
        assert problem["column"] is None or int(problem["column"]) >= 1


@fuzz
@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    read(data)
    read(b"serial,op\n" + data)
    read(b"steps:\n" + data)


@fuzz
@given(st.text(max_size=200))
def test_arbitrary_text(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    read(data)
    read(b"serial,op,note\nA1,sync," + data)
    read(b"steps:\n- serial: " + data)


@fuzz
@given(st.binary(max_size=100), st.integers(0, 30), st.binary(max_size=4))
def test_damaged_gzip(data: bytes, at: int, damage: bytes) -> None:
    packed = bytearray(gzip.compress(b"serial,op\n" + data))
    packed[at : at + len(damage)] = damage
    read(bytes(packed))


_cell = st.one_of(
    st.sampled_from(
        [
            *OPERATIONS,
            "rebot",
            "",
            " ",
            "A1",
            "a1",
            "A2",
            "..",
            "0012345",
            "12345",
            "1.23E+11",
            "5m",
            "9" * 50,
            "x" * 200,
            "serial",
            "op",
            "group",
            "settle",
            "note",
            "\u200b",
            "\x1b[2J",
            "=1+1",
            "1234.0",
            "é",
        ]
    ),
    st.text(st.sampled_from('a1,;\t"\r\n \x00\x7f\ud7ff'), max_size=5),
)
_headers = st.permutations(["serial", "op", "group", "settle", "note"]).map(lambda names: names[:4])


@fuzz
@given(
    st.one_of(_headers, st.lists(_cell, max_size=5)),
    st.lists(st.lists(_cell, min_size=1, max_size=5), max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
def test_text_that_looks_like_csv(header: list[str], rows: list[list[str]], delimiter: str, end: str) -> None:
    lines = [delimiter.join(cells) for cells in (header, *rows)]
    read(end.join(lines).encode())


_word = st.one_of(
    st.sampled_from(
        [
            "A1",
            "007",
            "sync",
            "factory",
            "reboot",
            "~",
            "null",
            "5m",
            "{",
            "[",
            "*a",
            "&a x",
            "<<",
            "!!int x",
            "- x",
            "#",
        ]
    ),
    st.text(max_size=4),
)
_tree = st.recursive(
    _word,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(st.tuples(_word, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
        st.tuples(st.sampled_from(["devices", "operations", "serial", "op", "settle", "group", "policy"]), inner).map(
            lambda pair: f"{{{pair[0]}: {pair[1]}}}"
        ),
    ),
    max_leaves=8,
)


@fuzz
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["steps", "sequences", "policy", "campaign", "stesp", "&a steps"]),
            st.one_of(
                _tree,
                st.tuples(_tree, _tree).map(lambda two: f"[{{devices: {two[0]}, operations: {two[1]}}}]"),
                st.tuples(_word, _word, _tree).map(
                    lambda three: f"[{{serial: {three[0]}, op: {three[1]}, note: {three[2]}}}]"
                ),
                st.tuples(st.sampled_from(["rate", "serial_pattern", "settle", "window", "waves", "gate"]), _tree).map(
                    lambda pair: f"{{{pair[0]}: {pair[1]}}}"
                ),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_text_that_looks_like_yaml(entries: list[tuple[str, str]]) -> None:
    read("\n".join(f"{key}: {value}" for key, value in entries).encode("utf-8", "surrogatepass"))


def test_names_of_files_in_a_manifest_are_not_trusted() -> None:
    for name in ("-", "/dev/zero", "/", "'\\0'", '"\\0"', "x" * 5000, "/proc/self/mem", '"\\x1b[2J"'):
        read(f"sequences: [{{devices_from: {name}, operations: [sync]}}]".encode())
