"""Messages out of a stream, by Content-Length (RFC 3261 18.3), and the keep-alives between them (RFC 5626 4.4.1)."""

from __future__ import annotations

from typing import Final

from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.scanner import DEFAULT, Limits, scan


class Ping:
    """A double CRLF: the peer wants a single one back."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "PING"


PING: Final = Ping()


class FramingError(BadMessage):
    """The stream cannot be read on: answer `message` if there is one, then close."""

    def __init__(self, status: int, reason: str, message: Message | None = None) -> None:
        super().__init__(status, reason, message)
        self.before: list[bytes | Ping] = []
        """What was complete before the fault; still to be handled."""


class Framer:
    """One per stream. After a FramingError it is of no more use."""

    __slots__ = ("_buffer", "_limits", "_searched", "_wanted")

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0
        """Up to here there is no end of headers."""
        self._wanted = 0
        """Length of the message at the front, 0 while its headers are incomplete."""

    @property
    def pending(self) -> int:
        """Bytes of an incomplete message; line ends between messages do not count."""
        return len(self._buffer) if self._buffer.strip(b"\r\n") else 0

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return self.pending > 0

    def feed(self, data: bytes) -> list[bytes | Ping]:
        """All that is complete now. Raises FramingError on missing or bad Content-Length, and above the limits."""
        buffer = self._buffer
        buffer += data
        done: list[bytes | Ping] = []
        try:
            while buffer:
                if not self._wanted:
                    if buffer[0] in b"\r\n":
                        if not self._skip_line_ends(done):
                            break
                        continue
                    self._wanted = self._length()
                    if not self._wanted:
                        break
                if len(buffer) < self._wanted:
                    break
                done.append(bytes(buffer[: self._wanted]))
                del buffer[: self._wanted]
                self._wanted = self._searched = 0
        except FramingError as error:
            error.before = done
            raise
        return done

    def _skip_line_ends(self, done: list[bytes | Ping]) -> bool:
        """Take a ping or a single CRLF from the front; False when more bytes are needed to tell."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n\r\n"):
            done.append(PING)
            del buffer[:4]
        elif b"\r\n\r\n".startswith(buffer):
            return False
        elif buffer.startswith(b"\r\n"):
            del buffer[:2]
        else:
            raise FramingError(400, "Bare Line End Between Messages")
        return True

    def _length(self) -> int:
        """Bytes of the message at the front; 0 while its headers are incomplete."""
        buffer, limit = self._buffer, self._limits.message
        head_end = buffer.find(b"\r\n\r\n", max(self._searched - 3, 0))
        self._searched = len(buffer)
        if head_end < 0:
            if len(buffer) > limit:
                raise FramingError(513, "Message Too Large", _as_far_as_scanned(bytes(buffer[:limit]), self._limits))
            return 0
        head_end += 4
        head = bytes(buffer[:head_end])
        length = content_length(head)
        if length is None:
            raise FramingError(400, "Missing Or Invalid Content-Length", _as_far_as_scanned(head, self._limits))
        if head_end + length > limit:
            raise FramingError(513, "Message Too Large", _as_far_as_scanned(head, self._limits))
        return head_end + length


def content_length(head: bytes) -> int | None:
    """Content-Length in the headers of one message; None when it is missing, no number, or said twice differently."""
    lower = head.lower()
    values = set()
    for name in (b"\r\ncontent-length", b"\r\nl"):
        pos = lower.find(name)
        while pos >= 0:
            colon = pos + len(name)
            while lower[colon : colon + 1] in (b" ", b"\t"):
                colon += 1
            if lower[colon : colon + 1] == b":":
                end = lower.find(b"\r\n", colon)
                while lower[end + 2 : end + 3] in (b" ", b"\t"):
                    end = lower.find(b"\r\n", end + 2)
                values.add(lower[colon + 1 : end].strip(b" \t\r\n"))
            pos = lower.find(name, colon)
    if len(values) != 1:
        return None
    digits = values.pop()
    return int(digits) if digits.isdigit() and len(digits) < 11 else None


def _as_far_as_scanned(head: bytes, limits: Limits) -> Message | None:
    """What can be answered of a message whose body cannot be had; None for responses."""
    try:
        message = scan(head, limits)
    except BadMessage as bad:
        return bad.message
    return message if not message.status and message.method != "ACK" else None
