"""The bearer token: where it is read from, and an object that does not show it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import quote

from fleetops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOKEN_VARIABLE: Final = "FLEETOPS_TOKEN"  # noqa: S105 - the name of the variable, not its content
REDACTED: Final = "[token]"
LONGEST_TOKEN: Final = 8192
"""Characters; servers refuse header lines beyond about this size."""

_SHORTEST_PREFIX: Final = 6
"""A shorter beginning of the token gives nothing away and is likely an ordinary word."""

_ONLY_BEARER: Final = "give the token alone, on one line, without the word Bearer and without quotes"


class Token:
    """A bearer token that shows itself only in `authorization`.

    Raises:
        UsageError: The text is empty, too long, or has anything but printable ASCII without spaces in it.
    """

    __slots__ = ("_forms", "_prefixes", "_text")

    def __init__(self, text: str, *, source: str = "the token") -> None:
        if not text:
            raise UsageError(f"{source} is empty", hint=f"set {TOKEN_VARIABLE} or use --token-file FILE")
        if len(text) > LONGEST_TOKEN:
            raise UsageError(f"{source} is longer than {LONGEST_TOKEN} characters", hint=_ONLY_BEARER)
        if len(text.splitlines()) > 1:
            raise UsageError(f"{source} has more than one line", hint=_ONLY_BEARER)
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise UsageError(
                f"{source} has a character in it that no token has: a space, a control character or not ASCII",
                hint=_ONLY_BEARER,
            )
        self._text = text
        self._forms = {text, quote(text, safe="")}
        self._prefixes = [form[:_SHORTEST_PREFIX] for form in self._forms]

    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._text}"

    def redact(self, text: str) -> str:
        """`text` with `[token]` wherever the token stood, as it is or percent-encoded.

        A beginning of the token at the very end of the text goes too: a reply may be cut in the middle.
        """
        for prefix in self._prefixes:
            if prefix in text:
                break
        else:
            return text
        for form in self._forms:
            text = text.replace(form, REDACTED)
        for length in range(min(len(self._text), len(text)), _SHORTEST_PREFIX - 1, -1):
            if text.endswith(self._text[:length]):
                text = text[:-length] + REDACTED
                break
        return "" if self._text in text else text

    def __repr__(self) -> str:
        return "Token(hidden)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not written anywhere")


def read_token(env: Mapping[str, str], token_file: Path | None = None) -> Token:
    """The token from `token_file` where one is given, else from `FLEETOPS_TOKEN`.

    Args:
        env: The environment.
        token_file: A file that holds the token and nothing else, readable by its owner only.

    Raises:
        UsageError: There is no token, the file can be read by others or not at all, or what it holds is
            not a token. The message never shows what was found.
    """
    if token_file is not None:
        return Token(_file_text(token_file), source=f"the token file {token_file}")
    if TOKEN_VARIABLE not in env:
        raise UsageError("there is no token", hint=f"set {TOKEN_VARIABLE} or use --token-file FILE")
    return Token(env[TOKEN_VARIABLE].strip(), source=TOKEN_VARIABLE)


def _file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Of the open file and not of the path, so that it cannot be exchanged in between.
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
                raise UsageError(
                    f"others than its owner can use the token file {path} (mode {stat.S_IMODE(mode):04o})",
                    hint=f"run `chmod 600 {path}`, and replace the token if others may have read it",
                )
            content = file.read(2 * LONGEST_TOKEN)
    except OSError as error:
        raise UsageError(
            f"the token file {path} cannot be read: {error.strerror or error}",
            hint=f"check the path, or set {TOKEN_VARIABLE} instead",
        ) from None
    # Latin-1 maps every byte to one character: what is not ASCII is refused with the rest.
    return content.decode("latin-1").strip()
