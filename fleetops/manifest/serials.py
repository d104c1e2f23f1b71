"""What can be wrong with a serial number, judged over all the distinct ones of a manifest."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from fleetops.documents import found
from fleetops.errors import Severity
from fleetops.model import SERIAL_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from fleetops.manifest.table import Cells

    Mask = npt.NDArray[np.bool_]

_INVISIBLE: Final = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]"
)
_ROUNDED: Final = re.compile(r"[0-9](?:[.,][0-9]+)?[eE]\+[0-9]{2,3}")
_WITH_DECIMAL: Final = re.compile(r"[0-9]{4,}\.0")
_LINE_OF_DIGITS: Final = re.compile(r"^[0-9]+$", re.MULTILINE)
_ALL_FIT: Final = re.compile(rf"(?:{SERIAL_PATTERN}\n)*+")
_ALLOWED: Final = re.compile(r"[A-Za-z0-9._:\-]")
_LONGEST: Final = 128

_MOST_LOST: Final = 3
"""Leading zeros that a serial number may have lost; one that is shorter by more is of another kind."""
_MANY: Final = 8
_CLEAR_SHARE: Final = 0.8
_TEXT_COLUMN: Final = "in the spreadsheet, format the column as text before the serial numbers go in"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault, and which of the distinct serial numbers have it."""

    severity: Severity
    code: str
    values: Mask
    say: Callable[[str], tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class SerialRules:
    """What serial numbers have to be.

    Attributes:
        pattern: Regular expression for a whole serial number.
    """

    pattern: str = SERIAL_PATTERN

    def faults(self, serials: Cells) -> Iterator[Fault]:
        """The faults of distinct serial numbers; each has at most one that is an error."""
        text = pd.Series(serials, dtype=object)
        # One look at all of them, each in a line of its own, spares most checks the look at each.
        lines = "\n".join([*serials, ""])
        fits = self._fits(text, lines)
        empty = serials == ""
        rounded = np.zeros(len(serials), dtype=bool)
        invisible = rounded.copy()
        # A look at those that do not fit is enough, unless the pattern lets through what the usual one does not.
        for at in np.flatnonzero(~fits if self.pattern == SERIAL_PATTERN else ~empty):
            invisible[at] = _INVISIBLE.search(serials[at]) is not None
            rounded[at] = _ROUNDED.fullmatch(serials[at]) is not None
        dots = (serials == ".") | (serials == "..")
        yield Fault(Severity.ERROR, "empty-serial", empty, lambda _: ("there is no serial number", None))
        yield Fault(Severity.ERROR, "control-character", invisible, _say_invisible)
        yield Fault(Severity.ERROR, "spreadsheet-number", rounded, _say_rounded)
        malformed = (~fits | dots) & ~empty & ~invisible & ~rounded
        yield Fault(Severity.ERROR, "malformed-serial", malformed, self._say_malformed)
        if ".0\n" in lines:
            yield _decimal_fault(text)
        if _LINE_OF_DIGITS.search(lines):
            yield from _lost_zeros(text)
        if lines not in {lines.lower(), lines.upper()}:
            yield from _case_faults(text)

    def _fits(self, text: pd.Series[str], lines: str) -> Mask:
        if self.pattern == SERIAL_PATTERN and lines.count("\n") == len(text) and _ALL_FIT.fullmatch(lines):
            return np.ones(len(text), dtype=bool)
        fits: Mask = text.str.fullmatch(self.pattern).to_numpy(dtype=bool)
        return fits

    def _say_malformed(self, serial: str) -> tuple[str, str | None]:
        hint = "use 1 to 128 letters, digits and - _ . :, or set serial_pattern in the policy"
        if serial in {".", ".."}:
            return f"{found(serial)} is not a serial number", "it would change the address of the request"
        if self.pattern != SERIAL_PATTERN:
            return f"{found(serial)} does not match the policy's serial_pattern", f"it is {found(self.pattern)}"
        if serial.startswith(("#", "=", "'")):
            return f"{found(serial)} is a spreadsheet's error, formula or text mark", _TEXT_COLUMN
        wrong = _ALLOWED.sub("", serial)
        if wrong:
            return f"{found(serial)} has {_named(wrong[0])} in it, which serial numbers do not have", hint
        return f"{found(serial)} is {len(serial):,} characters long", hint


def _named(character: str) -> str:
    return "a space" if character == " " else found(character)


def _say_invisible(serial: str) -> tuple[str, str]:
    at = _INVISIBLE.search(serial)
    character = at[0] if at else ""
    name = unicodedata.name(character, "control character").lower()
    message = f"{found(serial)} has an invisible character in it: U+{ord(character or ' '):04X}, {name}"
    return message, "remove it; such characters come along when text is copied"


def _say_rounded(serial: str) -> tuple[str, str]:
    return f"{found(serial)} is a serial number that a spreadsheet has rounded", _TEXT_COLUMN


def _decimal_fault(text: pd.Series[str]) -> Fault:
    return Fault(
        Severity.WARNING,
        "decimal-serial",
        text.str.fullmatch(_WITH_DECIMAL).to_numpy(dtype=bool),
        lambda serial: (f"{found(serial)} looks like a number that a program gave a decimal place", _TEXT_COLUMN),
    )


def _lost_zeros(text: pd.Series[str]) -> Iterator[Fault]:
    """Numbers that are shorter than the others, of which most begin with 0, or nearly all have one length."""
    numbers = text.str.fullmatch("[0-9]+").to_numpy(dtype=bool)
    at = np.flatnonzero(numbers)
    if not len(at):
        return
    lengths = text.iloc[at].str.len().to_numpy(dtype=np.int64)
    zero = text.iloc[at].str.startswith("0").to_numpy(dtype=bool)
    counts = np.bincount(np.minimum(lengths, _LONGEST + 1))
    usual = int(counts.argmax())
    share = counts[usual] / len(at)
    of_usual = lengths == usual
    zeros_rule = share > 1 / 2 and zero[of_usual].mean() > 1 / 2
    lengths_rule = share >= _CLEAR_SHARE and counts[usual] >= _MANY
    if counts[usual] > 1 and (zeros_rule or lengths_rule):
        lost = np.zeros(len(text), dtype=bool)
        lost[at] = ~zero & (lengths < usual) & (lengths >= usual - _MOST_LOST)
        yield Fault(
            Severity.WARNING,
            "lost-leading-zero",
            lost,
            lambda serial: (
                f"{found(serial)} has {len(serial)} digits where {share:.0%} have {usual}: is a leading zero lost?",
                f"is it {found(serial.zfill(usual))}? {_TEXT_COLUMN}",
            ),
        )


def _case_faults(text: pd.Series[str]) -> Iterator[Fault]:
    lower = text.str.lower()
    alike = lower.duplicated().to_numpy()
    if alike.any():
        first = dict(zip(lower[::-1], text[::-1], strict=True))
        yield Fault(
            Severity.WARNING,
            "serial-case",
            alike,
            lambda serial: (
                f"{found(serial)} differs from {found(first[serial.lower()])} in case alone",
                "if they are one device, write it in one way",
            ),
        )
