from __future__ import annotations

import pytest

from fleetops.manifest.serials import Fault, SerialRules
from fleetops.manifest.table import cells_of


def faults(*serials: str, pattern: str | None = None) -> dict[str, list[str]]:
    rules = SerialRules() if pattern is None else SerialRules(pattern)
    found = {
        fault.code: [one for one, has in zip(serials, fault.values, strict=True) if has]
        for fault in _all(rules, *serials)
    }
    return {code: those for code, those in found.items() if those}


def _all(rules: SerialRules, *serials: str) -> list[Fault]:
    return list(rules.faults(cells_of(list(serials)), "\n".join([*serials, ""])))


def said(serial: str, *others: str, pattern: str | None = None) -> tuple[str, str | None]:
    rules = SerialRules() if pattern is None else SerialRules(pattern)
    return next(fault.say(serial) for fault in _all(rules, serial, *others) if fault.values[0])


def test_ordinary_serial_numbers_have_no_faults() -> None:
    assert faults("ABC123456789", "a-b_c.d:e", "0", "x" * 128, "1E5", "1.2.3") == {}


@pytest.mark.parametrize(
    ("serial", "code", "words"),
    [
        ("", "empty-serial", "no serial number"),
        ("A B", "malformed-serial", "a space"),
        ("A/B", "malformed-serial", "'/'"),
        ("Ä1", "malformed-serial", "'Ä'"),
        (".", "malformed-serial", "'.'"),
        ("..", "malformed-serial", "'..'"),
        ("x" * 129, "malformed-serial", "129 characters"),
        ("#N/A", "malformed-serial", "spreadsheet"),
        ('="00123"', "malformed-serial", "spreadsheet"),
        ("'00123", "malformed-serial", "spreadsheet"),
        ("A\tB", "control-character", "U+0009"),
        ("A\nB", "control-character", "U+000A"),
        ("A\u200bB", "control-character", "zero width space"),
        ("A\xa0", "control-character", "no-break space"),
        ("1.23457E+11", "spreadsheet-number", "rounded"),
        ("1,23457e+11", "spreadsheet-number", "rounded"),
        ("1E+11", "spreadsheet-number", "rounded"),
        ("123456789.0", "decimal-serial", "decimal place"),
    ],
)
def test_each_fault_has_its_code_and_says_what_was_found(serial: str, code: str, words: str) -> None:
    assert faults("ABC", serial) == {code: [serial]}
    assert words in said(serial)[0]


def test_a_policys_pattern_replaces_the_usual_one() -> None:
    assert faults("A1", "ZQ1", pattern="ZQ[0-9]+") == {"malformed-serial": ["A1"]}
    assert "serial_pattern" in said("A1", pattern="ZQ[0-9]+")[0]


def test_no_pattern_lets_through_what_would_change_the_request_or_cannot_be_seen() -> None:
    assert faults("..", "a\x00", "1.2E+11", "ok/ok", pattern="(?s).*") == {
        "control-character": ["a\x00"],
        "spreadsheet-number": ["1.2E+11"],
        "malformed-serial": [".."],
    }


def test_a_serial_number_with_a_line_end_is_not_taken_for_two_good_ones() -> None:
    assert faults("A\nB") == {"control-character": ["A\nB"]}


def test_a_lost_leading_zero_shows_where_most_others_begin_with_zero() -> None:
    assert faults("0012345601", "0012345602", "12345603", "ABC") == {"lost-leading-zero": ["12345603"]}
    assert "'0012345603'" in str(said("12345603", "0012345601", "0012345602")[1])


def test_a_lost_leading_zero_shows_where_nearly_all_have_one_length() -> None:
    usual = [str(8_000_000_000 + at) for at in range(9)]
    assert faults(*usual, "712345678", "1") == {"lost-leading-zero": ["712345678"]}


@pytest.mark.parametrize(
    "serials",
    [
        ("1", "22", "333", "4444"),
        ("12345", "123456"),
        ("0123", "123"),
        ("0123456", "0123457", "01234"),
        ("1234567890", "1234567891", "123456789"),
    ],
)
def test_lengths_that_differ_for_another_reason_are_left_alone(serials: tuple[str, ...]) -> None:
    assert faults(*serials) == {}


def test_serial_numbers_that_differ_in_case_alone_are_warned_of() -> None:
    assert faults("abc1", "ABC2", "ABC1", "Abc1") == {"serial-case": ["ABC1", "Abc1"]}
    assert faults("abc1", "ABC2") == {}
    assert said("ABC1", "abc1") if faults("ABC1", "abc1") == {"serial-case": ["ABC1"]} else True
