from __future__ import annotations

import pytest

from fleetops.documents.toml_file import parse_toml
from fleetops.errors import InvalidInputError, Problem

TEXT = """\
rate = "20/s"   # fast
"burst" = 5

[settle]
reboot = "2m"

[ retries ]
  attempts = 3
retries.x = 1

[[waves.list]]
size = 1
inline = { a = 1, b = 2 }
"""


def problem(text: str) -> Problem:
    with pytest.raises(InvalidInputError) as caught:
        parse_toml(text.encode(), "p.toml")
    return caught.value.problems.listed[0]


def test_keys_know_their_lines_and_columns() -> None:
    document = parse_toml(TEXT.encode(), "p.toml")
    assert document.values["settle"] == {"reboot": "2m"}
    assert document.where(("rate",)) == (1, 8)
    assert document.where(("burst",), key=True) == (2, 1)
    assert document.where(("settle", "reboot")) == (5, 10)
    assert document.where(("settle",), key=True) == (4, 2)
    assert document.where(("retries", "attempts"), key=True) == (8, 3)
    assert document.where(("retries", "retries", "x"), key=True) == (9, 1)


def test_what_is_inside_of_one_line_has_the_place_of_its_key() -> None:
    document = parse_toml(b"a = 1\nsettle = { sync = '1m' }\n", "p.toml")
    assert document.where(("settle", "sync")) == (2, 10)


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a = \n", "bad-toml", 1, 5),
        ("a = 1\na = 2\n", "bad-toml", 2, 6),
        ("a = [", "bad-toml", 1, None),
        ("a = " + "9" * 5000, "bad-toml", None, None),
        ("a = " + "[" * 5000, "too-deep", None, None),
        (".".join("a" * 5000) + " = 1", "too-deep", None, None),
        ("a = 1\nb = '" + "x" * 20_000 + "'", "too-large", 2, 1),
    ],
)
def test_bad_toml_is_pointed_at(text: str, code: str, line: int | None, column: int | None) -> None:
    found = problem(text)
    assert (found.code, found.line) == (code, line)
    assert column is None or found.column == column


def test_keys_that_only_look_like_tables_do_no_harm() -> None:
    document = parse_toml(b"a = '''\n[b]\nc = 1\n'''\nd = [\n  1,\n]\n", "p.toml")
    assert document.values["d"] == [1]
    assert document.where(("d", 0))[0] == 5 or document.where(("d", 0)) == (1, 1)
