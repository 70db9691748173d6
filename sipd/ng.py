"""The ng protocol of rtpengine: a cookie, a space, and a dictionary in bencode, one datagram each way.

https://rtpengine.readthedocs.io/en/latest/ng_control_protocol.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_DEPTH = 16
"""Lists and dictionaries inside each other; an answer with more is not read."""
MAX_DIGITS = 20
"""Of a number, or of the length of a text."""

Value = bytes | str | int | Sequence["Value"] | Mapping[str, "Value"]
"""What can be sent. Texts come back as bytes, keys as text."""


class NgError(ValueError):
    """A datagram that is no ng message."""


def encode(value: Value) -> bytes:
    """A value in bencode; keys of dictionaries in their order, as the format wants."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, Mapping):
        return b"d%be" % b"".join(encode(key) + encode(value[key]) for key in sorted(value))
    return b"l%be" % b"".join(map(encode, value))


def decode(data: bytes) -> Any:
    """One value, which must be all there is. Raises NgError."""
    value, end = _value(data, 0, 0)
    if end != len(data):
        raise NgError("more than one value")
    return value


def message(cookie: str, fields: Mapping[str, Value]) -> bytes:
    """A datagram. A repetition has the same cookie: rtpengine then says again what it said."""
    return cookie.encode() + b" " + encode(fields)


def parse(datagram: bytes) -> tuple[str, dict[str, Any]]:
    """Cookie and dictionary of an answer. Raises NgError."""
    cookie, _, rest = datagram.partition(b" ")
    fields = decode(rest)
    if not cookie.isascii() or not isinstance(fields, dict):
        raise NgError("no cookie and dictionary")
    return cookie.decode("ascii"), fields


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends."""
    kind = data[at : at + 1]
    if kind == b"i":
        return _number(data, at + 1, b"e")
    if kind not in (b"l", b"d"):
        length, at = _number(data, at, b":")
        if not 0 <= length <= len(data) - at:
            raise NgError("text longer than the datagram")
        return data[at : at + length], at + length
    if depth >= MAX_DEPTH:
        raise NgError("nested too deep")
    found, at = [], at + 1
    while data[at : at + 1] != b"e":
        value, at = _value(data, at, depth + 1)
        found.append(value)
    return (found if kind == b"l" else _dictionary(found)), at + 1


def _number(data: bytes, at: int, end: bytes) -> tuple[int, int]:
    stop = data.find(end, at, at + MAX_DIGITS + 1)
    digits = data[at:stop] if stop >= 0 else b""
    if not digits.removeprefix(b"-").isdigit():
        raise NgError("no number")
    return int(digits), stop + 1


def _dictionary(items: list[Any]) -> dict[str, Any]:
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values) or not all(isinstance(key, bytes) for key in keys):
        raise NgError("no dictionary")
    return {str(key, "utf-8", "replace"): value for key, value in zip(keys, values, strict=True)}
