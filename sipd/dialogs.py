"""Dialogs (RFC 3261 section 12): what each side of a call needs to send the next request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sipd.callerid import PRIVATE, privacy_of
from sipd.flow import Flow
from sipd.message import build
from sipd.message.address import Address
from sipd.message.build import Header
from sipd.message.errors import BadMessage, LocalError
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.naming import NAMING
from sipd.session import TIMED
from sipd.timers import Timer
from sipd.wire import Wire, next_hop

if TYPE_CHECKING:
    from sipd.auth import PbxAccount
    from sipd.calls import Branch, Call

NOT_PASSED = frozenset((
    "via", "route", "record-route", "from", "to", "call-id", "cseq", "contact", "max-forwards", "content-length",
    "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "authentication-info",
    "proxy-authentication-info", "proxy-require", "path", "service-route", "rack", *NAMING,
))  # fmt: skip
"""Headers that belong to one leg. All others pass as the bytes that they came in."""
UNTRUSTED = frozenset((
    "p-asserted-identity", "p-preferred-identity", "remote-party-id", "diversion", "history-info",
    "p-charging-vector", "p-charging-function-addresses", "p-visited-network-id", "p-access-network-info",
    "p-asserted-service", "p-served-user", "p-private-network-indication", "p-charge-info", "identity",
    "identity-info",
))  # fmt: skip
"""Claims that a phone may not make towards the PBX (RFC 3325 section 5, RFC 6050, RFC 5502, RFC 7316, RFC 8496), and
signatures over From and To, which are others on the other leg (RFC 8224)."""
NOT_PASSED_FROM_PHONE = NOT_PASSED | UNTRUSTED
NOT_PASSED_TO_PHONE = NOT_PASSED | {"p-asserted-identity", "p-preferred-identity", "remote-party-id"}
"""When the caller wants to stay unknown (RFC 3325 section 7)."""

NONE: frozenset[str] = frozenset()
TIMER_HEADERS = frozenset(("session-expires", "min-se", "require"))
"""In INVITE, UPDATE and their 2xx each leg has its own, made by `session`."""
_DROP = {
    (drop, timed): drop | TIMER_HEADERS if timed else drop
    for drop in (NOT_PASSED, NOT_PASSED_FROM_PHONE, NOT_PASSED_TO_PHONE)
    for timed in (False, True)
}
TARGET_REFRESH = frozenset(("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"))
"""Methods that carry a Contact (RFC 3261 12.2, RFC 6665 4.4.1)."""


def lines_to_pass(message: Message, *, from_phone: bool, besides: frozenset[str] = NONE) -> bytes:
    """The header lines that pass from one leg to the other: of a phone, or of a PBX, towards a phone.

    `besides` names more that do not pass.
    """
    if from_phone:
        drop = NOT_PASSED_FROM_PHONE
    else:
        drop = NOT_PASSED if PRIVATE.isdisjoint(privacy_of(message)) else NOT_PASSED_TO_PHONE
    timed = message.method in TIMED and (not message.status or 200 <= message.status < 300)
    return message.rest(_DROP[drop, timed] | besides if besides else _DROP[drop, timed])


def offers_100rel(request: Message) -> bool:
    """Whether the sender of an INVITE takes reliable provisional answers (RFC 3262 4)."""
    return any(tag.lower() == "100rel" for tag in request.split("supported") + request.split("require"))


def is_reliable(response: Message) -> bool:
    """A provisional answer that waits for a PRACK."""
    return response.has("rseq") and any(tag.lower() == "100rel" for tag in response.split("require"))


def unreliable_lines(response: Message, *, from_phone: bool) -> bytes:
    """A reliable provisional answer's lines for a caller that takes no such ones (RFC 3262 3)."""
    drop = NOT_PASSED_FROM_PHONE if from_phone else NOT_PASSED
    return response.rest(drop | {"require", "rseq"})


def hops_left(hops: int | None) -> str:
    """Max-Forwards of a request that is passed on, by that of the one that came (RFC 3261 16.6 step 3); None: none."""
    return str(70 if hops is None else max(0, hops - 1))


def routes(message: Message) -> list[str]:
    """The Record-Route values, top first. Raises BadMessage when one could not be used (RFC 3261 12.1)."""
    values = message.split("record-route")
    for value in values:
        if Address.parse(value).uri.scheme not in ("sip", "sips"):
            raise BadMessage(400, "Malformed Record-Route")
    return values


def target_of(contact: str) -> str:
    """A Contact's URI as a Request-URI: headers in it are left out (RFC 3261 19.1.1, table 1)."""
    uri = Uri.parse(contact)
    return str(uri._replace(headers="")) if uri.headers else contact


class Leg:
    """One side of a dialog, call or subscription: who we are in it, who the other end is, and the way there."""

    __slots__ = (
        "account", "call_id", "contact", "flow", "flows", "local", "local_seq", "local_tag", "pinned", "remote",
        "remote_seq", "remote_tag", "route_set", "target",
    )  # fmt: skip

    def __init__(self, call_id: str, local_tag: str, flow: Flow, *, pinned: bool) -> None:
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
        """Where the ACK of a 2xx goes, and other requests first."""
        self.flows: tuple[Flow, ...] = (flow,)
        """All targets of requests, best first (RFC 3263 4.3)."""
        self.pinned = pinned
        """A phone: requests go back over the flow that it uses, whatever its Contact says (NAT)."""
        self.contact = ""
        """Our Contact in this dialog, with angle brackets."""
        self.account: PbxAccount | None = None
        """Whose credentials answer the challenges of a PBX."""

    def learn(self, message: Message, flow: Flow, wire: Wire, now: float) -> None:
        """Take the remote target of a target refresh (RFC 3261 12.2.1.2), and where to send."""
        if self.pinned:
            self.send_to(flow)
        if message.contacts:
            self.target = target_of(message.contacts[0].uri_text)
        self.aim(wire, now)

    def aim(self, wire: Wire, now: float) -> None:
        """Where requests go now: the first route, else the target. Until a name is found, to the known flow."""
        if self.pinned:
            return
        try:
            uri = Address.parse(self.route_set[0]).uri_text if self.route_set else self.target
            host, port, transport = next_hop(uri, self.flow.transport)
        except BadMessage:
            return

        def ready(flows: tuple[Flow, ...], _: float) -> None:
            if self.flow in flows:  # one of several: the one that knows this call already
                self.send_to(self.flow, *(flow for flow in flows if flow != self.flow))
            elif flows:
                self.send_to(*flows)

        wire.find(host, port, transport, ready, now, like=self.flow)

    def send_to(self, first: Flow, *others: Flow) -> None:
        self.flow, self.flows = first, (first, *others)

    def request(
        self,
        wire: Wire,
        method: str,
        branch: str,
        seq: int,
        headers: list[Header],
        body: bytes = b"",
        rest: bytes = b"",
        flow: Flow | None = None,
        hops: int | None = None,
    ) -> bytes:
        """A request inside the dialog (RFC 3261 12.2.1.1), over the dialog's own flow if no other is given.

        `hops` are those that a request that we pass on had left.
        """
        uri, route_values = self._route()
        return build.request(
            method,
            uri,
            [
                ("Via", wire.via(flow or self.flow, branch)),
                ("Max-Forwards", hops_left(hops)),
                *(("Route", route) for route in route_values),
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

    @property
    def request_uri(self) -> str:
        """Of our requests here."""
        return self._route()[0]

    def _route(self) -> tuple[str, list[str]]:
        """Request-URI and Route values: loose routing, or strict as RFC 2543 had it."""
        if not self.route_set:
            return self.target, []
        first = Address.parse(self.route_set[0])
        if "lr" in first.uri.params:
            return self.target, self.route_set
        return target_of(first.uri_text), [*self.route_set[1:], f"<{self.target}>"]

    def next_seq(self) -> int:
        self.local_seq += 1
        return self.local_seq


class Dialog(Leg):
    """One side of a call: we are one end of it."""

    __slots__ = (
        "acked",
        "acks",
        "branch",
        "call",
        "kept_seq",
        "ok",
        "parting",
        "peer",
        "pending",
        "pracked",
        "resumed",
        "telling",
        "unacked",
        "updating",
        "usages",
    )

    def __init__(self, call: Call, call_id: str, local_tag: str, flow: Flow, *, pinned: bool) -> None:
        super().__init__(call_id, local_tag, flow, pinned=pinned)
        self.call = call
        self.peer: Dialog | None = None
        self.branch: Branch | None = None
        """Of a dialog that we began: the INVITE that made it."""
        self.unacked = 0
        """CSeq of our INVITE here whose 2xx waits for our ACK; 0: none."""
        self.acks: dict[int, bytes] = {}
        """Our last ACKs here by CSeq, for 2xx that come again."""
        self.ok: PendingOk | None = None
        """Our 2xx to the other end's INVITE that waits for its ACK."""
        self.parting: tuple[bytes, bytes] | None = None
        """Header lines and body of our BYE that waits for that ACK (RFC 3261 15)."""
        self.pending: Any = None
        """An INVITE inside the dialog that is under way towards the other end (glare)."""
        self.updating: Any = None
        """An UPDATE that is under way towards the other end (RFC 3311 5.2)."""
        self.pracked = -1
        """RSeq of the last provisional answer that we acknowledged in the caller's place."""
        self.usages: dict[str, float] = {}
        """Until when the other end may send NOTIFYs here, also after the BYE, by Event (RFC 3515 2.4.4, RFC 5057)."""
        self.acked = 0
        """CSeq of the other end's last INVITE here whose 2xx was acknowledged."""
        self.telling = False
        """Our BYE here is not answered yet."""
        self.kept_seq = 0
        """Up to this CSeq of ours a restart goes on above what was sent."""
        self.resumed = False
        """It is from before a restart."""

    @property
    def other(self) -> Dialog:
        """The dialog of the other leg; there is one from the moment that a pair is made."""
        if self.peer is None:
            raise LocalError("dialog without its pair")
        return self.peer

    def keep_ack(self, seq: int, data: bytes) -> None:
        """Remember our ACK; two are enough, as an INVITE waits until the one before is acknowledged."""
        self.unacked = 0
        self.acks = {**dict(list(self.acks.items())[-1:]), seq: data}


class PendingOk:
    """A 2xx that is sent again until its ACK comes (RFC 3261 13.3.1.4)."""

    __slots__ = ("data", "deadline", "first", "flow", "interval", "seq", "timer")

    def __init__(self, data: bytes, flow: Flow, seq: int, interval: float, deadline: float, *, first: bool) -> None:
        self.data = data
        self.flow = flow
        self.seq = seq
        self.first = first
        """It made the dialog; else it answers a re-INVITE."""
        self.interval = interval
        self.deadline = deadline
        self.timer: Timer | None = None


def header_text(message: Message, name: str) -> str:
    """A header value as it came, for use as our side's or the other's From or To."""
    return message.get(name) or ""
