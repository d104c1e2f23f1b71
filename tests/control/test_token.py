from __future__ import annotations

import copy
import os
import pickle
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.control import ClientSettings
from fleetops.control.token import LONGEST_TOKEN, REDACTED, Token, read_token
from fleetops.errors import UsageError

SECRET = "s3cret+T0ken/Value="
TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


def test_it_does_not_show_itself() -> None:
    token = Token(SECRET)
    shown = [repr(token), str(token), f"{token}", f"{token!r:>40}", repr([token]), repr(vars(type(token)))]
    shown.append(repr(ClientSettings(base_url="https://control.example", token=token)))
    assert all(SECRET not in text for text in shown)
    assert not hasattr(token, "__dict__")
    assert token.authorization() == f"Bearer {SECRET}"


@pytest.mark.parametrize("write", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_cannot_be_written_anywhere(write: object) -> None:
    with pytest.raises(TypeError) as caught:
        write(Token(SECRET))  # type: ignore[operator]
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two words",
        f"Bearer {SECRET}",
        f"{SECRET}\n{SECRET}",
        f"{SECRET}\r\nX-Injected: yes",
        f"{SECRET}\x00",
        f"{SECRET}\x7f",
        f"{SECRET}é",
        f"{SECRET}\u2028x",
        SECRET * LONGEST_TOKEN,
    ],
)
def test_what_cannot_be_a_token_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Token(text, source="FLEETOPS_TOKEN")
    said = caught.value.message + str(caught.value.hint) + "".join(traceback.format_exception(caught.value))
    assert SECRET not in said
    assert "FLEETOPS_TOKEN" in caught.value.message


class TestRedacting:
    @pytest.mark.parametrize(
        ("text", "redacted"),
        [
            ("nothing here", "nothing here"),
            (f"Bearer {SECRET}!", f"Bearer {REDACTED}!"),
            (f"{SECRET}{SECRET}", f"{REDACTED}{REDACTED}"),
            (f"?t={quote(SECRET, safe='')}&x", f"?t={REDACTED}&x"),
            (f"cut off: {SECRET[:10]}", f"cut off: {REDACTED}"),
            (f"harmless {SECRET[:3]}", f"harmless {SECRET[:3]}"),
        ],
    )
    def test_the_token_goes_wherever_it_stood(self, text: str, redacted: str) -> None:
        assert Token(SECRET).redact(text) == redacted

    @given(TOKENS, st.text(max_size=30), st.text(max_size=30))
    @settings(deadline=None)
    def test_no_token_is_left_whatever_it_is(self, secret: str, before: str, after: str) -> None:
        assert secret not in Token(secret).redact(f"{before}{secret}{after}{quote(secret, safe='')}")


class TestReading:
    def test_from_the_environment(self) -> None:
        assert read_token({"FLEETOPS_TOKEN": f" {SECRET}\n"}).authorization() == f"Bearer {SECRET}"

    def test_from_a_file_even_where_the_environment_has_one(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(f"{SECRET}\n")
        path.chmod(0o600)
        assert read_token({"FLEETOPS_TOKEN": "other"}, path).authorization() == f"Bearer {SECRET}"

    @pytest.mark.parametrize("env", [{}, {"FLEETOPS_TOKEN": ""}, {"FLEETOPS_TOKEN": "  "}])
    def test_without_one_it_says_what_to_do(self, env: dict[str, str]) -> None:
        with pytest.raises(UsageError) as caught:
            read_token(env)
        assert "FLEETOPS_TOKEN" in str(caught.value.hint)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o622, 0o610, 0o777])
    def test_a_file_that_others_can_use_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "token"
        path.write_text(SECRET)
        path.chmod(mode)
        with pytest.raises(UsageError) as caught:
            read_token({}, path)
        assert f"chmod 600 {path}" in str(caught.value.hint)
        assert SECRET not in caught.value.message

    def test_a_file_that_is_not_there_or_no_file_is_refused(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        for path in (tmp_path / "none", tmp_path):
            with pytest.raises(UsageError, match="cannot be read"):
                read_token({}, path)

    @pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"\x00" * 100, "é".encode(), b"x" * 100_000])
    def test_a_file_of_something_else_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "token"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(UsageError):
            read_token({}, path)

    def test_a_pipe_from_a_password_store_is_read(self) -> None:
        reader, writer = os.pipe()
        os.write(writer, f"{SECRET}\n".encode())
        os.close(writer)
        try:
            assert read_token({}, Path(f"/dev/fd/{reader}")).authorization() == f"Bearer {SECRET}"
        finally:
            os.close(reader)
