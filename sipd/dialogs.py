"""Dialogs (RFC 3261 section 12): what each side of a call needs to send the next request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sipd.flow import Flow
from sipd.message import build
from sipd.message.address import Address
from sipd.message.build import Header
from sipd.message.errors import BadMessage, LocalError
from sipd.message.message import Message
from sipd.timers import Timer
from sipd.wire import Wire, next_hop

if TYPE_CHECKING:
    from sipd.calls import Branch, Call

NOT_PASSED = frozenset((
    "via", "route", "record-route", "from", "to", "call-id", "cseq", "contact", "max-forwards", "content-length",
    "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "authentication-info",
    "proxy-authentication-info", "proxy-require", "path", "service-route", "rack",
))  # fmt: skip
"""Headers that belong to one leg. All others pass as the bytes that they came in."""
UNTRUSTED = frozenset((
    "p-asserted-identity", "p-preferred-identity", "remote-party-id", "diversion", "history-info",
    "p-charging-vector", "p-charging-function-addresses", "p-visited-network-id", "p-access-network-info",
))  # fmt: skip
"""Claims that a phone may not make towards the PBX (RFC 3325 section 5)."""
NOT_PASSED_FROM_PHONE = NOT_PASSED | UNTRUSTED

TARGET_REFRESH = frozenset(("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"))
"""Methods that carry a Contact (RFC 3261 12.2, RFC 6665 4.4.1)."""


class Dialog:
    """One side of a call: we are one end of it."""

    __slots__ = (
        "ack", "branch", "call", "call_id", "contact", "flow", "invite_seq", "local", "local_seq", "local_tag", "ok",
        "peer", "pending", "pinned", "remote", "remote_seq", "remote_tag", "route_set", "target",
    )  # fmt: skip

    def __init__(self, call: Call, call_id: str, local_tag: str, flow: Flow, *, pinned: bool) -> None:
        self.call = call
        self.call_id = call_id
        self.local_tag = local_tag
        self.remote_tag = ""
        self.local = ""
        """Our From or To value, tag included."""
        self.remote = ""
        self.local_seq = 0
        self.remote_seq = -1
        self.route_set: list[str] = []
        self.target = ""
        """URI of the other end's Contact."""
        self.flow = flow
        self.pinned = pinned
        """A phone: requests go back over the flow that it uses, whatever its Contact says (NAT)."""
        self.contact = ""
        """Our Contact in this dialog, with angle brackets."""
        self.peer: Dialog | None = None
        self.branch: Branch | None = None
        """Of a dialog that we began: the INVITE that made it."""
        self.invite_seq = 0
        """CSeq of our last INVITE here: the ACK's too."""
        self.ack = b""
        """Our last ACK here, for 2xx that come again."""
        self.ok: PendingOk | None = None
        """Our 2xx to the other end's INVITE that waits for its ACK."""
        self.pending: Any = None
        """An INVITE inside the dialog that is under way towards the other end (glare)."""

    @property
    def other(self) -> Dialog:
        """The dialog of the other leg; there is one from the moment that a pair is made."""
        if self.peer is None:
            raise LocalError("dialog without its pair")
        return self.peer

    def learn(self, message: Message, flow: Flow, wire: Wire) -> None:
        """Take the remote target of a target refresh (RFC 3261 12.2.1.2), and where to send."""
        if self.pinned:
            self.flow = flow
        try:
            contacts = message.contacts
        except BadMessage:
            contacts = []
        if contacts and not contacts[0].star:
            self.target = contacts[0].uri_text
        self.aim(wire)

    def aim(self, wire: Wire) -> None:
        """Where requests go now: the first route, else the target; names stay with the known flow."""
        if self.pinned or not (self.route_set or self.target):
            return
        try:
            uri = Address.parse(self.route_set[0]).uri_text if self.route_set else self.target
            host, port, transport = next_hop(uri, self.flow.transport)
        except BadMessage:
            return
        self.flow = wire.known_flow(host, port, transport) or self.flow

    def request(
        self,
        wire: Wire,
        method: str,
        branch: str,
        seq: int,
        headers: list[Header],
        body: bytes = b"",
        rest: bytes = b"",
    ) -> bytes:
        """A request inside the dialog (RFC 3261 12.2.1.1)."""
        uri, routes = self._route()
        return build.request(
            method,
            uri,
            [
                ("Via", wire.via(self.flow, branch)),
                ("Max-Forwards", "70"),
                *(("Route", route) for route in routes),
                ("From", self.local),
                ("To", self.remote),
                ("Call-ID", self.call_id),
                ("CSeq", f"{seq} {method}"),
                *([("Contact", self.contact)] if method in TARGET_REFRESH else []),
                *headers,
            ],
            body,
            rest,
        )

    def _route(self) -> tuple[str, list[str]]:
        """Request-URI and Route values: loose routing, or strict as RFC 2543 had it."""
        if not self.route_set:
            return self.target, []
        first = Address.parse(self.route_set[0])
        if "lr" in first.uri.params:
            return self.target, self.route_set
        return first.uri_text, [*self.route_set[1:], f"<{self.target}>"]

    def next_seq(self) -> int:
        self.local_seq += 1
        return self.local_seq


class PendingOk:
    """A 2xx that is sent again until its ACK comes (RFC 3261 13.3.1.4)."""

    __slots__ = ("data", "deadline", "flow", "interval", "seq", "timer")

    def __init__(self, data: bytes, flow: Flow, seq: int, interval: float, deadline: float) -> None:
        self.data = data
        self.flow = flow
        self.seq = seq
        self.interval = interval
        self.deadline = deadline
        self.timer: Timer | None = None


def header_text(message: Message, name: str) -> str:
    """A header value as it came, for use as our side's or the other's From or To."""
    return message.get(name) or ""
