"""SIP over WebSocket without sockets, with the client of the library at the other end, or bytes by hand."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from sipd.message.framing import PING
from sipd.net import limits
from sipd.net.websocket import WebSocket

MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/WSS abc.invalid;branch=z9hG4bK1\r\n\r\n"
"""As browsers send it: no Content-Length (RFC 7118 section 5.5)."""
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)


class Client:
    """The other end."""

    def __init__(self, server: WebSocket, origin: str | None = None) -> None:
        self.server = server
        self.protocol = ClientProtocol(
            parse_uri("wss://edge.example/"),
            subprotocols=[Subprotocol("sip")],
            origin=Origin(origin) if origin else None,
        )
        self.protocol.send_request(self.protocol.connect())
        self.exchange()

    def exchange(self) -> list[object]:
        """Send what is to be sent, and take the answer; the messages that the server got."""
        got: list[object] = list(self.server.feed(b"".join(self.protocol.data_to_send())))
        self.protocol.receive_data(self.server.output())
        return got

    def frames(self) -> list[Frame]:
        """What the server sent."""
        return [event for event in self.protocol.events_received() if isinstance(event, Frame)]

    def status(self) -> int:
        (event,) = (event for event in self.protocol.events_received() if isinstance(event, Response))
        return event.status_code


def raw(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def opened() -> WebSocket:
    server = WebSocket()
    server.feed(REQUEST)
    assert server.output().startswith(b"HTTP/1.1 101 ")
    assert server.ready
    return server


def test_handshake_and_messages_both_ways() -> None:
    server = WebSocket()
    client = Client(server)
    assert client.status() == 101
    assert client.protocol.subprotocol == "sip"
    client.protocol.send_text(MESSAGE)
    client.protocol.send_binary(MESSAGE)
    assert client.exchange() == [MESSAGE, MESSAGE]
    client.protocol.receive_data(server.frame(MESSAGE))
    client.protocol.receive_data(server.frame(b"not UTF-8: \xff"))
    assert [(f.opcode, bytes(f.data)) for f in client.frames()] == [
        (Opcode.TEXT, MESSAGE),
        (Opcode.BINARY, b"not UTF-8: \xff"),
    ]


def test_byte_by_byte_and_with_something_behind() -> None:
    server = WebSocket()
    data = REQUEST + raw(Opcode.TEXT, MESSAGE) + raw(Opcode.TEXT, MESSAGE)
    assert [item for byte in data for item in server.feed(bytes([byte]))] == [MESSAGE, MESSAGE]
    assert WebSocket().feed(data) == [MESSAGE, MESSAGE]


def test_fragments_with_a_ping_between_them() -> None:
    server = opened()
    assert server.feed(raw(Opcode.TEXT, MESSAGE[:10], fin=False)) == []
    assert server.unfinished
    assert server.feed(raw(Opcode.PING, b"there?")) == []
    assert server.output() == Frame(Opcode.PONG, b"there?").serialize(mask=False)
    assert server.unfinished
    assert server.feed(raw(Opcode.CONT, MESSAGE[10:20], fin=False) + raw(Opcode.CONT, b"", fin=False)) == []
    assert server.feed(raw(Opcode.CONT, MESSAGE[20:])) == [MESSAGE]
    assert not server.unfinished


def test_a_trickle_is_unfinished() -> None:
    server = opened()
    frame = raw(Opcode.TEXT, MESSAGE)
    server.feed(frame[:3])
    server.feed(frame[3:9])
    assert server.unfinished
    assert server.feed(frame[9:]) == [MESSAGE]
    assert not server.unfinished


def test_keep_alives() -> None:
    """RFC 7118 section 6: pings of the protocol, and those of RFC 5626."""
    server = opened()
    assert server.feed(raw(Opcode.TEXT, b"\r\n\r\n")) == [PING]
    assert server.feed(raw(Opcode.TEXT, b"\r\n")) == []
    assert server.feed(raw(Opcode.PONG, b"")) == []
    assert server.ping() == Frame(Opcode.PING, b"").serialize(mask=False)
    assert not server.ended


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Sec-WebSocket-Protocol: sip\r\n", b""), 400),
        ((b"Protocol: sip", b"Protocol: xmpp"), 400),
        ((b"Upgrade: websocket\r\n", b""), 426),
        ((b"Version: 13", b"Version: 8"), 400),
        ((b"Key: dGhlIHNhbXBsZSBub25jZQ==", b"Key: short"), 400),
        ((b"GET /", b"POST /"), 405),
        ((b"Host: ", b"X: " + b"x" * limits.HANDSHAKE_BYTES + b"\r\nHost: "), 431),
    ],
)
def test_a_bad_handshake_is_refused(change: tuple[bytes, bytes], status: int) -> None:
    server = WebSocket()
    assert server.feed(REQUEST.replace(*change) + raw(Opcode.TEXT, MESSAGE)) == []
    assert server.output().startswith(b"HTTP/1.1 %d " % status)
    assert server.ended
    assert server.faulty
    assert not server.ready
    assert server.feed(raw(Opcode.TEXT, MESSAGE)) == []
    assert server.frame(MESSAGE) == b""


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x00\x05junk\r\n", b"OPTIONS sip:a SIP/2.0\r\n\r\n", b"\0" * 9000])
def test_what_is_no_http_ends_it(junk: bytes) -> None:
    server = WebSocket()
    assert server.feed(junk) == []
    server.output()
    assert server.ended
    assert server.faulty


@pytest.mark.parametrize("origin", ["https://phone.example", None])
def test_any_origin_will_do_by_default(origin: str | None) -> None:
    assert Client(WebSocket(), origin).status() == 101


@pytest.mark.parametrize(
    ("origin", "status"), [("https://phone.example", 101), ("https://evil.example", 403), (None, 403)]
)
def test_origins_can_be_restricted(origin: str | None, status: int) -> None:
    assert Client(WebSocket(["https://phone.example"]), origin).status() == status


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (raw(Opcode.TEXT, b"x" * (limits.WS_MESSAGE_BYTES + 1)), 1009),
        (raw(Opcode.TEXT, b"x" * 100_000, fin=False) + raw(Opcode.CONT, b"x" * 100_000), 1009),
        (raw(Opcode.CONT, MESSAGE), 1002),
        (Frame(Opcode.TEXT, MESSAGE).serialize(mask=False), 1002),
        (raw(Opcode.TEXT, b"caf\xe9"), 1007),
        (raw(Opcode.TEXT, MESSAGE, fin=False) + raw(Opcode.TEXT, MESSAGE), 1002),
    ],
    ids=["too long", "too long in parts", "a part of nothing", "no mask", "no UTF-8", "a second beginning"],
)
def test_a_faulty_frame_closes_with_its_code(frames: bytes, code: int) -> None:
    server = opened()
    assert server.feed(frames) == []
    assert server.output()[2:4] == code.to_bytes(2, "big")
    assert server.ended
    assert server.faulty


def test_what_came_before_a_faulty_frame_counts() -> None:
    assert opened().feed(raw(Opcode.TEXT, MESSAGE) + raw(Opcode.CONT, b"")) == [MESSAGE]


def test_a_close_is_echoed() -> None:
    server = opened()
    server.feed(raw(Opcode.CLOSE, (1000).to_bytes(2, "big")))
    assert server.output() == Frame(Opcode.CLOSE, (1000).to_bytes(2, "big")).serialize(mask=False)
    assert server.ended
    assert not server.faulty


def test_our_close_says_that_we_go() -> None:
    server = opened()
    assert server.goodbye() == Frame(Opcode.CLOSE, (1001).to_bytes(2, "big")).serialize(mask=False)
    assert server.goodbye() == b""
    assert server.ping() == b""
