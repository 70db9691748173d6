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

    __slots__ = ("_begun", "_fed", "_parts", "_protocol", "_refusal", "_text", "ended", "faulty", "ready", "unfinished")

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
        self._fed = 0
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
        if self.ended:
            return []
        if not self.ready and self._too_large(data):
            return []
        self._protocol.receive_data(data)
        done: list[bytes | Ping] = []
        events = self._protocol.events_received()
        for event in events:
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame):
                self._take(event, done)
        self.unfinished = self._begun or (self.ready and not events)
        if self._protocol.close_expected() or self._protocol.parser_exc is not None:
            self._end(faulty=self._protocol.parser_exc is not None or not self.ready)
        return done

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

    def _too_large(self, data: bytes) -> bool:
        """Whether the handshake has grown over its limit; the answer is given then."""
        self._fed += len(data)
        if self._fed <= limits.HANDSHAKE_BYTES:
            return False
        self._refusal = TOO_LARGE
        self._end(faulty=True)
        return True

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
        self._parts = bytearray()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
