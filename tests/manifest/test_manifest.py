from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from fleetops.errors import InvalidInputError, Problem, Problems
from fleetops.manifest import Manifest, manifest, read_manifest
from fleetops.policy.files import resolve_policy
from tests.manifest.frames import frame_of

SAMPLES = Path(__file__).parents[2] / "sample_manifests"


def piped(data: str | bytes) -> Manifest:
    return read_manifest("-", stdin=io.BytesIO(data.encode() if isinstance(data, str) else data))


def refused(data: str | bytes) -> list[Problem]:
    with pytest.raises(InvalidInputError) as caught:
        piped(data)
    return caught.value.problems.listed


@pytest.mark.parametrize(
    ("name", "steps", "carried"),
    [
        ("scheduled-reboot.csv", 12, ["site"]),
        ("redeployment.yaml", 120, []),
        ("config-refresh.csv", 40, []),
        ("emergency.yaml", 10, []),
    ],
)
def test_the_samples_are_without_a_problem(name: str, steps: int, carried: list[str]) -> None:
    read = read_manifest(str(SAMPLES / name))
    assert (len(read.rows), list(read.carried), read.warnings) == (steps, carried, Problems())
    assert {len(cells) for cells in read.carried.values()} <= {steps}
    if read.policy:
        resolve_policy([read.policy])


def test_the_broken_sample_shows_a_problem_of_each_kind() -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_manifest(str(SAMPLES / "broken.csv"))
    assert {code for _, code in caught.value.problems.counts} == {
        "bad-settle",
        "conflicting-groups",
        "control-character",
        "duplicate-step",
        "empty-operation",
        "empty-row",
        "empty-serial",
        "lost-leading-zero",
        "malformed-serial",
        "repeated-operation",
        "reset-left-bare",
        "serial-case",
        "spreadsheet-number",
        "too-few-cells",
        "too-many-cells",
        "undone-by-reset",
        "unknown-operation",
    }
    lines = [problem.line or 0 for problem in caught.value.problems.listed]
    assert lines == sorted(lines)


def test_a_manifest_knows_its_name_and_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "night.batch.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfserial,op\r\nA1,sync\r\n"))
    read = read_manifest(str(path))
    assert (read.source, read.campaign, read.policy) == (str(path), "night", None)
    assert read.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "sequences:\n- {devices: A1, operations: sync}\n",
        "# a comment\n\ncampaign: x\nsteps: [{serial: A1, op: sync}]\n",
        "---\nsteps: [{serial: A1, op: sync}]\n",
        '{"steps": [{"serial": "A1", "op": "sync"}]}',
        "serial,op\nA1,sync\n",
        "\n\nserial;op\nA1;sync\n",
        gzip.compress(b"steps: [{serial: A1, op: sync}]\n"),
    ],
)
def test_standard_input_is_read_as_what_it_looks_like(text: str | bytes) -> None:
    read = piped(text)
    assert frame_of(read.rows)[["serial_number", "operation"]].to_numpy().tolist() == [["A1", "sync"]]
    assert read.campaign in {"stdin", "x"}


def test_the_policy_inside_keeps_its_positions_and_its_types() -> None:
    policy = piped("policy: {rate: 20/s, burst: 5}\nsteps: [{serial: A1, op: sync}]").policy
    assert policy is not None
    assert policy.values == {"rate": "20/s", "burst": 5}
    assert policy.where(("burst",)) == (1, 29)


def test_problems_of_the_policy_inside_and_of_rows_are_reported_together() -> None:
    text = "policy: {rate: fast, busrt: 1}\nsteps: [{serial: A1, op: snyc}, {serial: A 1, op: sync}]"
    assert [problem.code for problem in refused(text)] == [
        "bad-setting",
        "unknown-setting",
        "unknown-operation",
        "malformed-serial",
    ]


def test_a_duplicate_key_does_not_hide_other_problems() -> None:
    text = "campaign: x\ncampaign: y\nsteps: [{serial: A1, op: snyc}]"
    assert [problem.code for problem in refused(text)] == ["duplicate-key", "unknown-operation"]


def test_the_pattern_of_the_policy_inside_applies_unless_another_is_given() -> None:
    text = 'policy: {serial_pattern: "Z[0-9]"}\nsteps: [{serial: A1, op: sync}]'
    assert [problem.code for problem in refused(text)] == ["malformed-serial"]
    assert len(read_manifest("-", serial_pattern="A[0-9]", stdin=io.BytesIO(text.encode())).rows) == 1


def test_a_pattern_that_is_none_is_reported_once_and_the_usual_one_used() -> None:
    text = 'policy: {serial_pattern: "("}\nsteps: [{serial: A1, op: sync}, {serial: A/1, op: sync}]'
    assert [problem.code for problem in refused(text)] == ["bad-setting", "malformed-serial"]


@pytest.mark.parametrize("policy", ["[1]", "fast"])
def test_a_policy_that_is_no_mapping_is_an_error(policy: str) -> None:
    [problem] = refused(f"policy: {policy}\nsteps: [{{serial: A1, op: sync}}]")
    assert (problem.code, problem.line, problem.column) == ("wrong-type", 1, 9)


def test_warnings_come_with_the_manifest() -> None:
    read = piped("serial,op\nA1,factory\n")
    assert [problem.code for problem in read.warnings.listed] == ["reset-left-bare"]


def test_yaml_that_is_too_large_is_refused_with_csv_as_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "LARGEST_YAML", 10)
    [problem] = refused("steps: [{serial: A1, op: sync}]")
    assert (problem.code, problem.hint) == ("too-large", "give the steps as CSV")


def test_a_file_that_is_not_there_is_one_problem() -> None:
    with pytest.raises(InvalidInputError, match="there is no file") as caught:
        read_manifest("nowhere/m.csv")
    assert caught.value.problems.errors == 1


def test_the_package_is_imported_without_pandas() -> None:
    code = "import sys, fleetops.manifest; sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
