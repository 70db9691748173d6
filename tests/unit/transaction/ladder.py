"""A user that writes down what it hears, and a clock that is only a number."""

from __future__ import annotations

from sipd.flow import Flow
from sipd.message.check import check
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.timers import Timers
from sipd.transaction.layer import ClientTransaction, Layer, ServerTransaction

UDP = Flow("udp", "192.0.2.1", 5060, 0)
TCP = Flow("tcp", "192.0.2.1", 40000, 1)


def request(method: str = "INVITE", branch: str = "z9hG4bKa", **changes: str) -> bytes:
    """A request from a phone; `changes` replace header values, "" leaves a header out."""
    headers = {
        "Via": f"SIP/2.0/UDP 192.0.2.1:5060;branch={branch}",
        "Max-Forwards": "70",
        "From": "<sip:alice@acme.example>;tag=from1",
        "To": "<sip:101@acme.example>",
        "Call-ID": "call1",
        "CSeq": f"1 {method}",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{method} sip:101@acme.example SIP/2.0"] + [f"{name}: {text}" for name, text in headers.items() if text]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def response(status: int, method: str = "INVITE", branch: str = "z9hG4bKa", tag: str = "to1") -> bytes:
    return (
        f"SIP/2.0 {status} Reason\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\n"
        f"From: <sip:alice@acme.example>;tag=from1\r\nTo: <sip:101@acme.example>;tag={tag}\r\n"
        f"Call-ID: call1\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def first_line(data: bytes) -> str:
    """Method, or status code."""
    words = data.split(b" ", 2)
    return (words[1] if words[0] == b"SIP/2.0" else words[0]).decode()


class Recorder:
    """A layer with a transaction user whose ladder is `heard`: "<< INVITE" was sent, ">> 180" came up."""

    def __init__(self) -> None:
        self.now = 0.0
        self.heard: list[str] = []
        self.sent: list[tuple[bytes, Flow]] = []
        self.requests: list[ServerTransaction] = []
        self.timers = Timers()
        self.layer = Layer(self, self._send, self.timers)

    def _send(self, data: bytes, flow: Flow) -> None:
        self.sent.append((data, flow))
        self.heard.append(f"<< {first_line(data)}")

    def take(self) -> list[str]:
        """The ladder since the last look."""
        heard, self.heard = self.heard, []
        return heard

    def receive(self, data: bytes, flow: Flow = UDP) -> list[str]:
        msg = scan(data)
        check(msg)
        self.layer.receive(msg, flow, self.now)
        return self.take()

    def request(self, method: str = "INVITE", flow: Flow = UDP, branch: str = "z9hG4bKa") -> ClientTransaction:
        return self.layer.request(request(method, branch), method, branch, flow, None, self.now)

    def respond(self, status: int, tx: ServerTransaction | None = None) -> list[str]:
        tx = tx or self.requests[-1]
        self.layer.respond(tx, status, response(status, tx.method), self.now)
        return self.take()

    def pass_time(self, until: float) -> list[str]:
        """Fire every timer up to `until`, each line with its time."""
        ladder = []
        while (due := self.timers.next()) is not None and due <= until:
            self.now = due
            self.timers.fire(due)
            ladder += [f"{due:g} {line}" for line in self.take()]
        self.now = until
        return ladder

    # -- the transaction user

    def on_request(self, tx: ServerTransaction, now: float) -> None:
        self.requests.append(tx)
        self.heard.append(f">> {tx.method}")

    def on_ack(self, msg: Message, flow: Flow, now: float) -> None:
        self.heard.append(">> ACK")

    def on_response(self, tx: ClientTransaction, msg: Message, now: float) -> None:
        self.heard.append(f">> {msg.status}")

    def on_stray_response(self, msg: Message, flow: Flow, now: float) -> None:
        self.heard.append(f">> stray {msg.status}")

    def on_timeout(self, tx: ClientTransaction, now: float) -> None:
        self.heard.append("timeout")

    def on_transport_error(self, tx: ClientTransaction, now: float) -> None:
        self.heard.append("transport error")

    def on_cancel(self, tx: ServerTransaction, cancel_tx: ServerTransaction, now: float) -> None:
        self.heard.append(">> CANCEL")

    def on_caller_lost(self, tx: ServerTransaction, now: float) -> None:
        self.heard.append("caller lost")
