"""Where bytes come from and go to, as plain values that the core can hold and the store can keep."""

from __future__ import annotations

from typing import NamedTuple

from sipd.message.grammar import bracketed

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}
"""RFC 3261 19.1.2, RFC 7118 section 5.3: of a sent-by or URI without a port."""
WEB = frozenset(("ws", "wss"))
"""Only the other side opens these: a browser cannot be connected to."""
SECURE = frozenset(("tls", "wss"))
"""What a `sips:` request may go over (RFC 3261 26.2.2, RFC 7118 section 5.4)."""
Place = tuple[str, str, int]
"""Transport, host and port of a flow."""


class Flow(NamedTuple):
    """A remote address as seen by one of our listeners; for streams also the connection itself."""

    transport: str
    """One of `TRANSPORTS`."""
    host: str
    """IP address, IPv6 without brackets."""
    port: int
    listener: int
    """Index in `Settings.listeners`: the socket that received, or that shall send."""

    @property
    def reliable(self) -> bool:
        """Streams need no retransmission (RFC 3261 section 17)."""
        return self.transport != "udp"


def shown(place: Flow | Listener | Place) -> str:
    """`udp:192.0.2.1:5060`, `tcp:[2001:db8::1]:5060`, for people."""
    transport, host, port = place[:3]
    return f"{transport}:{bracketed(host)}:{port}"


def may_go(uri: str, flow: Flow) -> bool:
    """Whether what was asked for by this Request-URI may go there: `sips:` asks for TLS on every hop that is ours to
    choose (RFC 3261 26.2.2, RFC 5630 section 5.3)."""
    return flow.transport in SECURE or uri[:5].lower() != "sips:"


class Listener(NamedTuple):
    """A socket that the edge listens on, and how others reach it."""

    transport: str
    host: str
    port: int
    advertised_host: str
    """What goes into Via and Contact (RFC 3261 18.1.1); differs from `host` behind NAT."""
    advertised_port: int


class Query(NamedTuple):
    """A host name that the core wants resolved before it can send (RFC 3263)."""

    host: str
    port: int
    """0: what the records say, else the default of the transport."""
    transport: str
    """Of a flow, or "auto": what the records say."""


class Target(NamedTuple):
    """One place to send to."""

    host: str
    """IP address, IPv6 without brackets."""
    port: int
    transport: str


class Answer(NamedTuple):
    """What a look-up found."""

    targets: tuple[Target, ...] = ()
    """In order of preference, weights already drawn (RFC 2782). Empty: nothing was found."""
    ttl: float = 0.0
    """Seconds: the lowest of the records. Of an empty answer: how long the name has nothing; 0 when the resolver
    failed, which says nothing about the name."""


class TlsName(NamedTuple):
    """Whom the other end of an outgoing TLS connection must prove to be."""

    name: str
    """Server name to ask for (SNI), and to find in the certificate: the host that was looked up, never what DNS made
    of it, as DNS is not to be trusted for that (RFC 5922 7.3)."""
    verify: bool
    """Whether the certificate is checked at all."""


class TlsFlow(Flow):
    """A flow over TLS that knows whom to expect, and otherwise is that flow: tenants that share a PBX's address may
    think differently of its certificate."""

    expected: TlsName

    @classmethod
    def expecting(cls, flow: Flow, name: TlsName) -> TlsFlow:
        made = cls(*flow)
        made.expected = name
        return made


def expected_at(flow: Flow) -> TlsName | None:
    """Whom this flow expects; None: it does not say."""
    return flow.expected if isinstance(flow, TlsFlow) else None
