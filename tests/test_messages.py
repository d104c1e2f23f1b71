"""Every message of an error, as it stands in the code: one style, and none that changes unseen.

`FLEETOPS_UPDATE_MESSAGES=1 pytest tests/test_messages.py` writes the catalogue anew; what changed is then in its diff.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleetops import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
CATALOGUE: Final = ROOT / "tests/messages.txt"
KINDS: Final = {
    name
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, (errors.FleetopsError, errors.Problem))
} | {"refusal"}
MESSAGE_AT: Final = {"Problem": 2, "refusal": 1}
HINT_AT: Final = {"Problem": 6, "refusal": 5}


def messages() -> Iterator[tuple[str, str, str, str]]:
    """Of each place that makes an error: the file, the kind, the message and the hint, with holes for values."""
    for path in sorted((ROOT / "fleetops").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                kind = node.func.id
                message = _argument(node, MESSAGE_AT.get(kind, 0), "message")
                hint = _argument(node, HINT_AT.get(kind, 1), "hint")
                if message:
                    yield path.relative_to(ROOT).as_posix(), kind, message, hint


def _argument(call: ast.Call, at: int, name: str) -> str:
    given = next((one.value for one in call.keywords if one.arg == name), None)
    if given is None and at < len(call.args):
        given = call.args[at]
    return "" if given is None else _text(given)


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Constant(value=None):
            return ""
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case _:
            return "{}"


def catalogue() -> str:
    lines = (
        f"{path} {kind}\n  {message}\n" + (f"  hint: {hint}\n" if hint else "")
        for path, kind, message, hint in messages()
    )
    return "\n".join(sorted(lines))


def test_no_message_changes_unseen() -> None:
    found = catalogue()
    if os.environ.get("FLEETOPS_UPDATE_MESSAGES"):
        CATALOGUE.write_text(found, encoding="utf-8")
    assert found == CATALOGUE.read_text(encoding="utf-8"), "run it with FLEETOPS_UPDATE_MESSAGES=1, and read the diff"


def test_messages_and_hints_have_one_style() -> None:
    """A clause without a capital at its start or a full stop at its end; names and abbreviations keep theirs."""
    odd = []
    for path, _, message, hint in messages():
        for text in filter(None, (message, hint)):
            capital = re.match(r"[A-Z][a-z]", text) is not None
            if capital or text.endswith((".", "!", ":", " ")) or "  " in text or "\n" in text:
                odd.append((path, text))
    assert odd == []
