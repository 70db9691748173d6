"""SIP over WebSocket (RFC 7118), server side, sans-IO: bytes in, whole SIP messages out, one per WebSocket message.

The handshake and the frames are the library's (`websockets`); what SIP asks of them is here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from sipd.message.framing import PING, Ping
from sipd.net import limits

SUBPROTOCOL = Subprotocol("sip")
"""RFC 7118 section 4.1."""
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_quiet = logging.getLogger("sipd.net.websocket")
_quiet.setLevel(logging.WARNING)  # the library tells of every connection that ends


class WebSocket:
    """One connection. After `ended` nothing more comes out of it, but `output` is still to be sent."""

    __slots__ = (
        "_begun",
        "_head",
        "_parts",
        "_protocol",
        "_refusal",
        "_text",
        "ended",
        "faulty",
        "ready",
        "unfinished",
    )

    def __init__(self, origins: Sequence[str] = ()) -> None:
        """`origins` are the only values of Origin that are taken; none given: any, or none at all."""
        self._protocol = ServerProtocol(
            origins=[cast("Origin", origin) for origin in origins] or None,
            subprotocols=[SUBPROTOCOL],
            max_size=limits.WS_MESSAGE_BYTES,
            logger=_quiet,
        )
        self._parts = bytearray()
        self._begun = False
        self._text = False
        self._head = bytearray()
        """The request as far as it has come, until it is answered."""
        self._refusal = b""
        self.ready = False
        """Whether the handshake is done."""
        self.ended = False
        """Whether the connection is to be closed once `output` is sent."""
        self.faulty = False
        """Whether it ends because of what the peer sent."""
        self.unfinished = False
        """Whether a message has begun and not ended."""

    def feed(self, data: bytes) -> list[bytes | Ping]:
        """The messages that are complete now; a Ping is the keep-alive of RFC 7118 section 6 (RFC 5626 4.4.1)."""
        done: list[bytes | Ping] = []
        if not self.ready and not self.ended:
            data = self._shake_hands(data)
        if self.ready and not self.ended and data:
            self._read(data, done)
        return done

    def _shake_hands(self, data: bytes) -> bytes:
        """The request that asks for the WebSocket; what comes after it is frames, and read once it is accepted."""
        searched = max(len(self._head) - 3, 0)
        self._head += data
        end = self._head.find(b"\r\n\r\n", searched) + 4
        if len(self._head) > limits.HANDSHAKE_BYTES and not 4 <= end <= limits.HANDSHAKE_BYTES:
            self._refusal = TOO_LARGE
            self._end(faulty=True)
            return b""
        rest = bytes(self._head[end:]) if end >= 4 else b""
        self._protocol.receive_data(data[: len(data) - len(rest)])
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._answer(event)
        if self.ready:
            self._head.clear()
        elif self._protocol.close_expected():
            self._end(faulty=True)
        return rest

    def _read(self, data: bytes, done: list[bytes | Ping]) -> None:
        self._protocol.receive_data(data)
        events = self._protocol.events_received()
        for event in events:
            if isinstance(event, Frame):
                self._take(event, done)
        self.unfinished = self._begun or not events
        fault = self._protocol.parser_exc is not None
        if not self.ended and (fault or self._protocol.close_expected()):
            self._end(faulty=fault)

    def frame(self, message: bytes) -> bytes:
        """A SIP message as one WebSocket message: text when it is UTF-8, else binary (RFC 7118 section 4.2)."""
        if self.ended or not self.ready:
            return b""
        if message.isascii() or _is_utf8(message):
            self._protocol.send_text(message)
        else:
            self._protocol.send_binary(message)
        return self.output()

    def ping(self) -> bytes:
        """A ping of ours."""
        if self.ended or not self.ready:
            return b""
        self._protocol.send_ping(b"")
        return self.output()

    def goodbye(self) -> bytes:
        """The close frame, if none was sent yet."""
        if self.ready and not self.ended:
            self._protocol.send_close(CloseCode.GOING_AWAY)
        self.ended = True
        return self.output()

    def output(self) -> bytes:
        """What is to be sent now: handshake, pongs, close frames."""
        data = b"".join(self._protocol.data_to_send()) + self._refusal
        self._refusal = b""
        return data

    def _answer(self, request: Request) -> None:
        """Accept or refuse the handshake. Without the subprotocol `sip` it is refused (RFC 7118 section 5.1)."""
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        self.ready = response.status_code == 101

    def _take(self, frame: Frame, done: list[bytes | Ping]) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text = frame.opcode is Opcode.TEXT
            self._parts = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT:
            self._parts += frame.data
        else:
            return
        self._begun = not frame.fin
        if frame.fin:
            message, self._parts = bytes(self._parts), bytearray()
            self._whole(message, done)

    def _whole(self, message: bytes, done: list[bytes | Ping]) -> None:
        if self._text and not message.isascii() and not _is_utf8(message):  # RFC 6455 section 8.1
            self._protocol.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            self._end(faulty=True)
        elif message.strip(b"\r\n"):
            done.append(message)
        elif message == b"\r\n\r\n":
            done.append(PING)

    def _end(self, *, faulty: bool) -> None:
        self.ended = True
        self.faulty = faulty
        self.unfinished = False
        self._parts, self._head = bytearray(), bytearray()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
