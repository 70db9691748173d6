"""CSeq (RFC 3261 20.16)."""

from __future__ import annotations

from typing import NamedTuple

from sipd.message.errors import BadMessage
from sipd.message.grammar import is_token, number

MAXIMUM = 2**31 - 1
"""RFC 3261 8.1.1.5: less than 2**31."""


class CSeq(NamedTuple):
    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        parts = text.split(" ")
        if len(parts) != 2 or "\t" in text:
            parts = [part for part in text.replace("\t", " ").split(" ") if part]
        if len(parts) != 2 or not is_token(parts[1]):
            raise BadMessage(400, "Malformed CSeq")
        return cls(number(parts[0], MAXIMUM, "CSeq"), parts[1])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"
