"""What can be wrong with a serial number, judged over all the distinct ones of a manifest."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

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
_DIGITS: Final = re.compile(r"[0-9]+")
_ALL_FIT: Final = re.compile(rf"(?:{SERIAL_PATTERN}\n)*+")
_ALLOWED: Final = re.compile(r"[A-Za-z0-9._:\-]")
_LONGEST: Final = 128

_MOST_LOST: Final = 3
"""Leading zeros that a serial number may have lost; one that is shorter by more is of another kind."""
_MANY: Final = 8
_CLEAR_SHARE: Final = 0.8
_TEXT_COLUMN: Final = "in the spreadsheet, format the column as text before the serial numbers go in"


class Fault(NamedTuple):
    """One kind of fault, and which of the distinct serial numbers have it."""

    severity: Severity
    code: str
    values: Mask
    say: Callable[[str], tuple[str, str | None]]


class SerialRules(NamedTuple):
    """What serial numbers have to be.

    Attributes:
        pattern: Regular expression for a whole serial number.
    """

    pattern: str = SERIAL_PATTERN

    def faults(self, serials: Cells, lines: str) -> Iterator[Fault]:
        """The faults of distinct serial numbers; each has at most one that is an error.

        Args:
            serials: The serial numbers.
            lines: All of them, each in a line of its own: one look at these spares most checks the look at each.
        """
        fits = self._fits(serials, lines)
        rounded = np.zeros(len(serials), dtype=bool)
        invisible, empty, dots = rounded.copy(), rounded.copy(), rounded.copy()
        if not fits.all() or self.pattern != SERIAL_PATTERN:
            empty = serials == ""
        # A look at those that do not fit is enough, unless the pattern lets through what the usual one does not.
        for at in np.flatnonzero(~fits if self.pattern == SERIAL_PATTERN else ~empty):
            invisible[at] = _INVISIBLE.search(serials[at]) is not None
            rounded[at] = _ROUNDED.fullmatch(serials[at]) is not None
        if ".\n" in lines:
            dots = (serials == ".") | (serials == "..")
        yield Fault(Severity.ERROR, "empty-serial", empty, lambda _: ("there is no serial number", None))
        yield Fault(Severity.ERROR, "control-character", invisible, _say_invisible)
        yield Fault(Severity.ERROR, "spreadsheet-number", rounded, _say_rounded)
        malformed = (~fits | dots) & ~empty & ~invisible & ~rounded
        yield Fault(Severity.ERROR, "malformed-serial", malformed, self._say_malformed)
        if ".0\n" in lines:
            yield _decimal_fault(serials)
        # What is left of a line of digits without them is an empty line.
        if b"\n\n" in b"\n" + lines.encode("utf-8", "surrogatepass").translate(None, b"0123456789"):
            yield from _lost_zeros(serials)
        if lines not in {lines.lower(), lines.upper()}:
            yield from _case_faults(serials)

    def _fits(self, serials: Cells, lines: str) -> Mask:
        if self.pattern == SERIAL_PATTERN and lines.count("\n") == len(serials) and _ALL_FIT.fullmatch(lines):
            return np.ones(len(serials), dtype=bool)
        return _matching(re.compile(self.pattern), serials)

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


def _matching(pattern: re.Pattern[str], texts: Cells) -> Mask:
    """Which texts match a pattern as a whole."""
    return np.fromiter((pattern.fullmatch(text) is not None for text in texts), bool, len(texts))


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


def _decimal_fault(serials: Cells) -> Fault:
    return Fault(
        Severity.WARNING,
        "decimal-serial",
        _matching(_WITH_DECIMAL, serials),
        lambda serial: (f"{found(serial)} looks like a number that a program gave a decimal place", _TEXT_COLUMN),
    )


def _lost_zeros(serials: Cells) -> Iterator[Fault]:
    """Numbers that are shorter than the others, of which most begin with 0, or nearly all have one length."""
    at = np.flatnonzero(_matching(_DIGITS, serials))
    if not len(at):
        return
    numbers = serials[at].tolist()
    lengths = np.fromiter(map(len, numbers), np.int64, len(numbers))
    zero = np.fromiter((number.startswith("0") for number in numbers), bool, len(numbers))
    counts = np.bincount(np.minimum(lengths, _LONGEST + 1))
    usual = int(counts.argmax())
    share = counts[usual] / len(at)
    of_usual = lengths == usual
    zeros_rule = share > 1 / 2 and zero[of_usual].mean() > 1 / 2
    lengths_rule = share >= _CLEAR_SHARE and counts[usual] >= _MANY
    if counts[usual] > 1 and (zeros_rule or lengths_rule):
        lost = np.zeros(len(serials), dtype=bool)
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


def _case_faults(serials: Cells) -> Iterator[Fault]:
    first: dict[str, str] = {}
    lower = [serial.lower() for serial in serials]
    firsts = map(first.setdefault, lower, serials)
    alike = np.fromiter((one is not serial for one, serial in zip(firsts, serials, strict=True)), bool, len(serials))
    if alike.any():
        yield Fault(
            Severity.WARNING,
            "serial-case",
            alike,
            lambda serial: (
                f"{found(serial)} differs from {found(first[serial.lower()])} in case alone",
                "if they are one device, write it in one way",
            ),
        )
