"""Which guards against toll fraud are for a number."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

from sipd.routing.model import Guard

_KEYS = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999"
)  # the letters on a phone's keys (ITU-T E.161), as many gateways dial them
_DIALLED = frozenset("0123456789*#")


def dialled_digits(number: str) -> str:
    """What is dialled in the end: digits, `*`, `#`, and a `+` in front.

    `tel:`, parameters, escapes, separators and any other character go, so that none of them hides a number; letters
    become the digits of their keys, and digits of other scripts those of ours. `+` and `00` stay apart.
    """
    text = unicodedata.normalize("NFKC", unquote(unquote(number)))
    text = text.lower().removeprefix("tel:").partition(";")[0].partition("@")[0].upper().translate(_KEYS)
    digits = (str(unicodedata.decimal(c, c)) for c in text)
    kept = "".join(c for c in digits if c in _DIALLED or c == "+")
    return ("+" if kept.startswith("+") else "") + kept.replace("+", "")


def guards_for(guards: Iterable[Guard], numbers: Iterable[str]) -> list[Guard]:
    """Those whose prefix begins one of the numbers: as it was dialled, and as it goes out."""
    dialled = tuple(dict.fromkeys(map(dialled_digits, numbers)))
    return [guard for guard in guards if any(number.startswith(guard.prefix) for number in dialled)]
