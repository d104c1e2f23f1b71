from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from fleetops.errors import InvalidInputError, Problem
from fleetops.manifest import Manifest, read_manifest, yaml_file
from tests.manifest.frames import frame_of, lists_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.yaml"


def read(path: Path, text: str) -> Manifest:
    path.write_text(text, encoding="utf-8")
    return read_manifest(str(path))


def steps(path: Path, text: str) -> list[tuple[str, str]]:
    rows = frame_of(read(path, text).rows)
    return list(zip(rows["serial_number"], rows["operation"], strict=True))


def refused(path: Path, text: str) -> list[Problem]:
    with pytest.raises(InvalidInputError) as caught:
        read(path, text)
    return caught.value.problems.listed


def places(path: Path, text: str) -> list[tuple[str, int | None, int | None]]:
    return [(problem.code, problem.line, problem.column) for problem in refused(path, text)]


def test_steps_are_rows_with_other_keys_carried(path: Path) -> None:
    text = (
        "steps:\n  - {serial_number: 00123456, operation: sync, settle: 5m, rack: 007}\n"
        "  - Serial: 1e5\n    op: REBOOT\n    group: ~\n    note: 'null'\n"
    )
    manifest = read(path, text)
    assert frame_of(manifest.rows).to_dict("list") == {
        "serial_number": ["00123456", "1e5"],
        "operation": ["sync", "reboot"],
        "group": ["", ""],
        "settle_ns": [300 * 10**9, -1],
        "note": ["", "null"],
        "line": [2, 3],
    }
    assert lists_of(manifest.carried) == {"rack": ["007", ""]}


def test_sequences_go_device_by_device(path: Path) -> None:
    text = """\
sequences:
  - devices: [A1, A2]
    operations: [factory, {sync: {settle: 5m}}, reconf]
    settle: 1m
    group: n1
    note: returned
  - devices: A3
    operations: sync
"""
    rows = frame_of(read(path, text).rows)
    assert rows["serial_number"].tolist() == ["A1"] * 3 + ["A2"] * 3 + ["A3"]
    assert rows["operation"].tolist() == ["factory", "sync", "reconf"] * 2 + ["sync"]
    assert [settle // 10**9 for settle in rows["settle_ns"]] == [60, 300, 60, 60, 300, 60, -1]
    assert rows["group"].tolist() == ["n1"] * 6 + [""]
    assert rows["note"].tolist() == ["returned"] * 6 + [""]
    assert rows["line"].tolist() == [2] * 6 + [7]


@pytest.mark.parametrize("serial", ["00123456", "1e5", "0x12", "12:30", "yes"])
def test_unquoted_serial_numbers_stay_as_they_are_written(path: Path, serial: str) -> None:
    assert steps(path, f"sequences: [{{devices: [{serial}], operations: [sync]}}]") == [(serial, "sync")]


def test_devices_may_come_from_a_csv_file_with_groups_and_other_columns(path: Path) -> None:
    (path.parent / "returned.csv").write_text("site;serial;group\nx;A1;n1\ny;A2;\n")
    manifest = read(
        path, "sequences: [{devices_from: returned.csv, operations: [sync, reboot]}, {devices: Z, operations: sync}]"
    )
    assert frame_of(manifest.rows)["serial_number"].tolist() == ["A1", "A1", "A2", "A2", "Z"]
    assert frame_of(manifest.rows)["group"].tolist() == ["n1", "n1", "", "", ""]
    assert frame_of(manifest.rows)["line"].tolist() == [2, 2, 3, 3, 1]
    assert lists_of(manifest.carried) == {"site": ["x", "x", "y", "y", ""]}


def test_devices_may_come_from_a_plain_list(path: Path) -> None:
    (path.parent / "list.txt").write_bytes(gzip.compress(b"A1\r\n\r\nA2\r\n"))
    rows = frame_of(read(path, "sequences: [{devices_from: list.txt, operations: [sync]}]").rows)
    assert rows["serial_number"].tolist() == ["A1", "A2"]
    assert rows["line"].tolist() == [1, 3]


def test_the_digest_covers_the_files_that_are_named(path: Path) -> None:
    (path.parent / "list.txt").write_text("A1\n")
    text = "sequences: [{devices_from: list.txt, operations: [sync]}, {devices_from: list.txt, operations: [reboot]}]"
    first = read(path, text).digest
    parts = [hashlib.sha256(data).hexdigest() for data in (text.encode(), b"A1\n")]
    assert first == hashlib.sha256("\n".join(parts).encode()).hexdigest()
    (path.parent / "list.txt").write_text("A2\n")
    assert read(path, text).digest != first


def test_problems_in_a_file_of_devices_name_that_file(path: Path) -> None:
    (path.parent / "list.txt").write_text("A1\nA/2\nA1\n")
    [malformed, repeated] = refused(path, "sequences: [{devices_from: list.txt, operations: [sync]}]")
    assert (malformed.file, malformed.line, malformed.column) == (str(path.parent / "list.txt"), 2, 1)
    assert (repeated.code, repeated.line) == ("repeated-operation", 3)
    assert "in line 1" in repeated.message


def test_a_step_that_is_in_two_files_names_the_other(path: Path) -> None:
    (path.parent / "list.txt").write_text("A1\n")
    text = "sequences:\n- {devices: [A1], operations: [sync]}\n- {devices: [B], operations: [sync]}\n"
    [problem] = refused(path, text + "- {devices_from: list.txt, operations: [sync]}\n")
    assert problem.file == str(path.parent / "list.txt")
    assert "line 2 of " in problem.message


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        (None, "no-such-file", ("m.yaml", 1)),
        ("", "empty-file", ("m.yaml", 1)),
        ("name,mac\nA,B\n", "missing-column", ("list.csv", 1)),
        ("serial,op\nA1,sync\n", "unused-column", ("list.csv", None)),
    ],
)
def test_a_file_of_devices_that_is_none_is_pointed_at(
    path: Path, content: str | None, code: str, place: tuple[str, int | None]
) -> None:
    if content is not None:
        (path.parent / "list.csv").write_text(content)
    text = "sequences: [{devices_from: list.csv, operations: [sync, sync]}]"
    problems = refused(path, text)
    assert (code, *place) in {(problem.code, Path(problem.file).name, problem.line) for problem in problems}


def test_what_one_word_makes_wrong_is_one_problem(path: Path) -> None:
    devices = ", ".join(f"A{at}" for at in range(100))
    text = f"sequences:\n- devices: [{devices}]\n  operations: [snyc, {{reboot: {{settle: x}}}}, factory, reboot]\n"
    assert places(path, text) == [
        ("unknown-operation", 3, 16),
        ("bad-settle", 3, 40),
        ("reset-left-bare", 3, 45),
        ("duplicate-step", 3, 54),
    ]
    assert refused(path, text)[2].message == "factory leaves 'A0' without its configuration, and 99 more like it"


def test_a_device_that_is_listed_twice_is_one_problem(path: Path) -> None:
    text = "sequences:\n- devices: [A1, A2, A1]\n  operations: [factory, sync]\n"
    assert places(path, text) == [("duplicate-step", 2, 21)]


def test_places_of_groups_and_settle_times_of_a_sequence(path: Path) -> None:
    text = "sequences:\n- {devices: [A], group: x, settle: y, operations: [sync]}\n"
    text += "- {devices: [A], group: z, operations: [reboot]}\n"
    assert places(path, text) == [("bad-settle", 2, 36), ("conflicting-groups", 3, 25)]


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("campaign: x", "no-rows", 1, 1),
        ("steps: []", "wrong-type", 1, 1),
        ("steps: x", "wrong-type", 1, 1),
        ("steps: [x]", "wrong-type", 1, 9),
        ("steps: [{serial: A}]", "missing-key", 1, 9),
        ("steps: [{serial: A, opertion: sync}]", "missing-key", 1, 9),
        ("steps: [{serial: A, op: [sync]}]", "wrong-type", 1, 25),
        ("steps: [{serial: A, op: sync, serial_number: B}]", "duplicate-key", 1, 31),
        ("steps: [{serial: , op: sync}]", "empty-serial", 1, 18),
        ("sequences: [x]", "wrong-type", 1, 13),
        ("sequences: [{devices: [A]}]", "missing-key", 1, 13),
        ("sequences: [{operations: [sync]}]", "missing-key", 1, 13),
        ("sequences: [{devices: [A], devices_from: x, operations: [sync]}]", "missing-key", 1, 13),
        ("sequences: [{devices: {}, operations: [sync]}]", "wrong-type", 1, 14),
        ("sequences: [{devices: [[A]], operations: [sync]}]", "wrong-type", 1, 24),
        ("sequences: [{devices_from: , operations: [sync]}]", "wrong-type", 1, 14),
        ("sequences: [{devices: A, operations: []}]", "wrong-type", 1, 26),
        ("sequences: [{devices: A, operations: [{sync: 5m}]}]", "wrong-type", 1, 46),
        ("sequences: [{devices: A, operations: [{sync: , reboot: }]}]", "wrong-type", 1, 39),
        ("sequences: [{devices: A, operations: [{sync: {setle: 5}}]}]", "unknown-key", 1, 47),
        ("sequences: [{device: A, operations: [sync]}]", "unknown-key", 1, 14),
        ("steps: [{serial: A, op: sync}]\nsequence: x", "unknown-key", 2, 1),
        ("steps: [{serial: A, op: sync}]\nsequences: x", "steps-and-sequences", 2, 1),
    ],
)
def test_what_is_not_as_it_should_be_is_pointed_at(path: Path, text: str, code: str, line: int, column: int) -> None:
    assert (code, line, column) in places(path, text)


def test_an_operation_without_options_may_be_a_key(path: Path) -> None:
    assert steps(path, "sequences: [{devices: A, operations: [{sync: }]}]") == [("A", "sync")]


def test_a_misspelt_key_is_recognised(path: Path) -> None:
    [unknown, *_] = refused(path, "steps: [{serial: A, opertion: sync}]")
    assert unknown.hint == "is it the one called 'opertion'?"


def test_sequences_that_multiply_are_refused_before_they_are_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "MOST_STEPS", 10)
    [problem] = refused(path, "sequences: [{devices: [A, B, C, D], operations: [sync, reboot, reconf]}]")
    assert problem.code == "too-many-steps"


def test_a_file_of_devices_called_dash_is_not_standard_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    path.write_text("sequences: [{devices_from: '-', operations: [sync]}]")
    with pytest.raises(InvalidInputError, match="there is no file"):
        read_manifest(path.name)


def test_a_list_of_devices_that_cannot_be_read_hides_no_other_problem(path: Path) -> None:
    (path.parent / "bad.csv").write_text("name,mac\nA,B\n")
    text = (
        "sequences:\n"
        "- {devices_from: nope.csv, operations: [sync]}\n"
        "- {devices_from: bad.csv, operations: [sync]}\n"
        "- {devices: [A], operations: [rebot]}\n"
    )
    problems = refused(path, text)
    assert [(problem.code, Path(problem.file).name, problem.line, problem.column) for problem in problems] == [
        ("no-such-file", "m.yaml", 2, 18),
        ("unknown-operation", "m.yaml", 4, 31),
        ("missing-column", "bad.csv", 1, 1),
    ]
