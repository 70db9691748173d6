"""Where the session description is in a message, and what it asks for. Nothing else of SDP is read here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sipd.message.message import Message

SDP = "application/sdp"
MULTIPART = "multipart/mixed"
MAX_PARTS = 16
"""Parts of a multipart body that are looked at."""
PLAIN_ENCODINGS = (b"", b"7bit", b"8bit", b"binary")


class Part(NamedTuple):
    """Where the session description begins and ends in a body."""

    start: int
    end: int

    def of(self, body: bytes) -> bytes:
        return body[self.start : self.end]

    def replaced(self, body: bytes, sdp: bytes) -> bytes:
        """The body with another session description, and all else of it as it was."""
        return body[: self.start] + sdp + body[self.end :]


def find(message: Message) -> Part | None:
    """The session description of a message: its body, or one part of it (RFC 5621 section 3.1); None: it has none
    that can be read."""
    if not message.body or (message.get("content-encoding") or "identity").lower() != "identity":
        return None
    kind, _, params = message.content_type.partition(";")
    kind = kind.strip().lower()
    if kind == SDP:
        return Part(0, len(message.body))
    boundary = _boundary(params) if kind == MULTIPART else b""
    found = [part for part in _parts(message.body, boundary) if part is not None] if boundary else []
    return found[0] if len(found) == 1 else None


def is_secure(sdp: bytes) -> bool:
    """Whether SRTP is offered or taken: with keys in the SDP (RFC 4568), or by DTLS (RFC 5763)."""
    return b"\na=crypto:" in sdp or b"\na=fingerprint:" in sdp


def protocol_of(sdp: bytes) -> str:
    """Of the first stream: `RTP/AVP` (RFC 8866 5.14); empty when there is none."""
    _, found, rest = sdp.partition(b"\nm=")
    words = rest.partition(b"\n")[0].split() if found else []
    return words[2].decode("ascii", "replace") if len(words) > 2 else ""


def _boundary(params: str) -> bytes:
    for param in params.split(";"):
        name, _, value = param.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"').encode("utf-8", "surrogateescape")
    return b""


def _parts(body: bytes, boundary: bytes) -> Iterator[Part | None]:
    """For each part of a multipart body (RFC 2046 5.1.1) where its SDP is, or None when it is none."""
    mark = b"\r\n--" + boundary
    at = 0 if body.startswith(mark[2:]) else body.find(mark) + 2
    for _ in range(MAX_PARTS):
        start = body.find(b"\r\n", at)
        end = body.find(mark, at)
        if at < 0 or start < 0 or end < start or body.startswith(mark[2:] + b"--", at):
            return
        yield _sdp_in(body, start, end)
        at = end + 2


def _sdp_in(body: bytes, start: int, end: int) -> Part | None:
    """Of the part whose headers follow the line end at `start`."""
    blank = body.find(b"\r\n\r\n", start, end)
    if blank < 0:
        return None
    headers = {}
    for line in body[start:blank].split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip().lower()
    is_sdp = headers.get(b"content-type", b"").partition(b";")[0].strip() == SDP.encode()
    plain = headers.get(b"content-transfer-encoding", b"") in PLAIN_ENCODINGS and b"content-length" not in headers
    return Part(blank + 4, end) if is_sdp and plain else None
