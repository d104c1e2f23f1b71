from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetops.documents import Document, read_document
from fleetops.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("name", "text"), [("p.yaml", "rate: 5"), ("p.YML", "rate: 5"), ("p.toml", "rate = 5")])
def test_the_suffix_says_what_a_file_is(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    document = read_document(tmp_path / name)
    assert document.values == {"rate": 5}
    assert document.source == str(tmp_path / name)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="neither YAML nor TOML"):
        read_document(tmp_path / "policy.ini")


def test_a_document_without_a_file_has_no_places() -> None:
    options = Document("--rate", {"rate": "5/s", "list": [{"a": 1}]})
    assert options.where(("rate",)) == (None, None)
    assert options.has(("list", 0, "a"))
    assert not options.has(("list", 1))
    assert not options.has(("rate", "x"))
    assert options.part("list").where((0,)) == (None, None)
