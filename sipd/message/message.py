"""A message is the bytes that were received plus an index of its header lines; values are decoded when asked for."""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

from sipd.message.address import Address
from sipd.message.cseq import CSeq
from sipd.message.errors import BadMessage
from sipd.message.grammar import number, split_list
from sipd.message.via import Via

MAX_ELEMENTS = 200
"""Vias or Contacts in one message, however they are spread over lines; more are refused unread."""


class Headers(NamedTuple):
    """What `scan` finds out about the header lines, in their order."""

    names: list[str]
    """Canonical; "" for a line that is not a header."""
    starts: list[int]
    """Where each line begins, and at last where the headers end."""
    colons: list[int]
    first: dict[str, int]
    """First line of each name."""
    repeated: dict[str, list[int]]
    """All lines of the names that come more than once."""
    plain: bool
    """Only ASCII, no folds, no NUL."""


class Message:
    """Made by `scan`. Text is utf-8 with surrogateescape, so that `text.encode("utf-8", "surrogateescape")` gives the
    received bytes back. Accessors raise `BadMessage` when the value is malformed. Parsed values are kept: do not
    change them."""

    __slots__ = (
        "_call_id",
        "_colons",
        "_contacts",
        "_cseq",
        "_from",
        "_index",
        "_names",
        "_plain",
        "_repeated",
        "_starts",
        "_to",
        "_vias",
        "body",
        "data",
        "method",
        "reason",
        "status",
        "uri",
    )

    def __init__(
        self,
        data: bytes,
        method: str,
        uri: str,
        status: int,
        reason: str,
        body: bytes,
        headers: Headers,
    ) -> None:
        self.data = data
        """The bytes that the spans point into."""
        self.method = method
        """Of responses: the method of the CSeq."""
        self.uri = uri
        """Request-URI as text; "" for responses."""
        self.status = status
        """0 for requests."""
        self.reason = reason
        self.body = body
        self._names, self._starts, self._colons, self._index, self._repeated, self._plain = headers
        self._vias: list[Via] | None = None
        self._cseq: CSeq | None = None
        self._from: Address | None = None
        self._to: Address | None = None
        self._contacts: list[Address] | None = None
        self._call_id: str | None = None

    def __repr__(self) -> str:
        return f"<{self.status} {self.method}>" if self.status else f"<{self.method} {self.uri}>"

    # -- headers as text; `name` is the long name in lower case, "call-id"

    def has(self, name: str) -> bool:
        return name in self._index

    def count(self, name: str) -> int:
        """Number of lines, not of elements."""
        return len(self._lines_of(name))

    def names(self) -> list[str]:
        """Name of each header line, in order; "" for a line that is not a header."""
        return self._names.copy()

    def get(self, name: str) -> str | None:
        """First value, unfolded and stripped."""
        index = self._index.get(name)
        return None if index is None else self._text(index)

    def all(self, name: str) -> list[str]:
        """One value per line."""
        return [self._text(i) for i in self._lines_of(name)]

    def split(self, name: str) -> list[str]:
        """Comma-separated elements over all lines; empty ones are left out (`Supported:` may be empty)."""
        return [element for text in self.all(name) for element in split_list(text) if element]

    def _lines_of(self, name: str) -> list[int]:
        """Which header lines have this name."""
        if name in self._repeated:
            return self._repeated[name]
        return [self._index[name]] if name in self._index else []

    def _text(self, index: int) -> str:
        raw = self.data[self._colons[index] + 1 : self._starts[index + 1] - 2]
        if self._plain:
            return raw.decode().strip(" \t")
        if b"\r" in raw:
            raw = raw.replace(b"\r\n", b"")
        if b"\0" in raw:  # legal when escaped; nothing of ours may carry it on
            raw = raw.replace(b"\0", b" ")
        return str(raw, "utf-8", "surrogateescape").strip(" \t")

    # -- headers as bytes

    def line(self, index: int) -> bytes:
        """A whole header line with its CRLF, folds included."""
        return self.data[self._starts[index] : self._starts[index + 1]]

    def lines(self, name: str) -> bytes:
        """All lines of one name, as received."""
        return b"".join([self.line(i) for i in self._lines_of(name)])

    def rest(self, drop: frozenset[str]) -> bytes:
        """All header lines whose name is not in `drop`, as received, each ended by CRLF."""
        data, starts = self.data, self._starts
        parts = []
        begin = -1
        for i, name in enumerate(self._names):
            if name in drop:
                if begin >= 0:
                    parts.append(data[begin : starts[i]])
                    begin = -1
            elif begin < 0:
                begin = starts[i]
        if begin >= 0:
            parts.append(data[begin : starts[-1]])
        return b"".join(parts)

    def with_body(self, body: bytes) -> Message:
        """The same message with another body; its headers stay, also a Content-Length, which `build` makes anew."""
        other = copy(self)
        other.body = body
        return other

    # -- parsed values

    @property
    def vias(self) -> list[Via]:
        if self._vias is None:
            self._vias = [Via.parse(element) for element in self._elements("via")]
        return self._vias

    @property
    def via(self) -> Via:
        """The top one: who sent this to us."""
        vias = self.vias
        if not vias:
            raise BadMessage(400, "Missing Via")
        return vias[0]

    @property
    def cseq(self) -> CSeq:
        if self._cseq is None:
            self._cseq = CSeq.parse(self._required("cseq", "CSeq"))
        return self._cseq

    @property
    def from_(self) -> Address:
        if self._from is None:
            self._from = Address.parse(self._required("from", "From"))
        return self._from

    @property
    def to(self) -> Address:
        if self._to is None:
            self._to = Address.parse(self._required("to", "To"))
        return self._to

    @property
    def call_id(self) -> str:
        if self._call_id is None:
            text = self._required("call-id", "Call-ID")
            if not text or " " in text or "\t" in text:
                raise BadMessage(400, "Malformed Call-ID")
            self._call_id = text
        return self._call_id

    @property
    def contacts(self) -> list[Address]:
        if self._contacts is None:
            self._contacts = [Address.parse(element) for element in self._elements("contact")]
        return self._contacts

    @property
    def max_forwards(self) -> int | None:
        """0 to 255 (RFC 3261 20.22)."""
        text = self.get("max-forwards")
        return None if text is None else number(text, 255, "Max-Forwards")

    @property
    def expires(self) -> int | None:
        """Seconds, up to 2**32-1 (RFC 3261 20.19)."""
        text = self.get("expires")
        return None if text is None else number(text, 2**32 - 1, "Expires")

    @property
    def content_type(self) -> str:
        """Empty when there is none."""
        return self.get("content-type") or ""

    def _elements(self, name: str) -> list[str]:
        """Elements over all lines, empty ones included: in these lists they are faults."""
        elements = [element for text in self.all(name) for element in split_list(text)]
        if len(elements) > MAX_ELEMENTS:
            raise BadMessage(513, "Too Many Header Elements")
        return elements

    def _required(self, name: str, title: str) -> str:
        text = self.get(name)
        if text is None:
            raise BadMessage(400, f"Missing {title}")
        return text
