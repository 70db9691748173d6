"""The core's way out: what is to be sent, from which listener, and the names that must be looked up first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from sipd.flow import DEFAULT_PORTS, WEB, Answer, Flow, Listener, Query, Target, TlsFlow, TlsName, expected_at
from sipd.message.errors import BadMessage
from sipd.message.grammar import bracketed
from sipd.message.uri import Uri
from sipd.routing.lookup import is_address
from sipd.settings import Settings

Ready = Callable[[tuple[Flow, ...], float], None]
"""Called with the flows there, best first, none when there is no way; and the time."""
Hop = tuple[str, int, str]
"""Host, port (0: default) and transport, before any look-up."""
Groups = tuple[tuple[Flow, ...], ...]
"""The flows at each of several hops, in order of preference."""

MIN_TTL, MAX_TTL = 10.0, 3600.0
"""Seconds for which an answer is used, whatever its records say."""
MIN_NEGATIVE_TTL, MAX_NEGATIVE_TTL = 5.0, 60.0
"""The same for a name that has no address: short, as somebody is about to mend it."""
FAILURE_LIFE = 5.0
"""Seconds before a resolver that failed is asked for the same name again."""
MAX_STALE = 86_400.0
"""Seconds after its time for which the last good answer serves while the resolver fails (RFC 8767)."""
MAX_NAMES = 10_000
"""Names remembered; the one that was asked for longest ago makes room."""
MAX_WAITING = 10_000
"""Requests that wait for look-ups, over all names; more fail at once."""
MAX_TLS_NAMES = 10_000
"""TLS targets whose name is remembered; the oldest makes room."""
OVER_TLS = {"tcp": "tls", "udp": "tls", "auto": "tls", "ws": "wss"}
"""What a sips URI makes of a transport (RFC 3261 26.2.2)."""


class Known(NamedTuple):
    """What the last look-up of a name said."""

    targets: tuple[Target, ...]
    until: float
    stale_until: float
    """When even a resolver that fails is no reason to believe it any more."""
    failing: bool
    """The resolver failed last time."""


class Wire:
    """Outbox, random tokens, and flows to hosts by address or name."""

    def __init__(self, settings: Settings, random_bytes: Callable[[int], bytes]) -> None:
        self.settings = settings
        self.outbox: list[tuple[bytes, Flow]] = []
        self.lookups: list[Query] = []
        self._random = random_bytes
        self.tls_names: dict[tuple[str, str, int], TlsName] = {}
        """Whom to expect at the other end of outgoing TLS connections, by transport, host and port."""
        self._known: dict[Query, Known] = {}
        self._waiting: dict[Query, deque[Callable[[tuple[Target, ...], float], None]]] = {}
        self._waiting_total = 0

    def send(self, data: bytes, flow: Flow) -> None:
        self.outbox.append((data, flow))

    def token(self, octets: int = 8) -> str:
        """A random token for tags, Call-IDs and branches (RFC 3261 19.3: 32 bits at least)."""
        return self._random(octets).hex()

    def branch(self) -> str:
        return "z9hG4bK" + self.token(10)

    def listener(self, flow: Flow) -> Listener:
        return self.settings.listeners[flow.listener]

    def via(self, flow: Flow, branch: str) -> str:
        """Our Via for a request to `flow`; rport asks for the source address back (RFC 3581)."""
        listener = self.listener(flow)
        host = bracketed(listener.advertised_host)
        return f"SIP/2.0/{flow.transport.upper()} {host}:{listener.advertised_port};branch={branch};rport"

    def hostport(self, flow: Flow) -> str:
        """How the other side of `flow` reaches us: host, port and, for streams, the transport."""
        listener = self.listener(flow)
        suffix = transport_param(flow.transport)
        return f"{bracketed(listener.advertised_host)}:{listener.advertised_port}{suffix}"

    def find(
        self, host: str, port: int, transport: str, ready: Ready, now: float, *,
        verify: bool | None = None, like: Flow | None = None,
    ) -> None:  # fmt: skip
        """Call `ready` with the flows there: at once for addresses and known names, else after a look-up.

        `verify` says, for TLS, whether a certificate is checked. Without it, what is known of a place stays, and
        a new place is taken as `like`, the flow that told of it.
        """

        def found(targets: tuple[Target, ...], then: float) -> None:
            flows = self._flows(targets, like.listener if like is not None else 0)
            ready(self._named(flows, host, verify, like), then)

        if is_address(host):
            found(self._at(host, port, transport), now)
            return
        query = Query(host.lower(), port, transport)
        known = self._known.get(query)
        fresh = known is not None and known.until > now
        if not fresh and query not in self._waiting:
            self._waiting[query] = deque()
            self.lookups.append(query)
        if known is not None and (fresh or (known.failing and known.targets and known.stale_until > now)):
            found(known.targets, now)  # a resolver that is down is asked again meanwhile
        elif self._waiting_total >= MAX_WAITING:
            found(known.targets if known else (), now)
        else:
            self._waiting[query].append(found)
            self._waiting_total += 1

    def find_groups(
        self, hops: Sequence[Hop], ready: Callable[[Groups, float], None], now: float, *, verify: bool | None = None
    ) -> None:
        """Call `ready` with the flows at each of `hops`, once the first that has any is known.

        Those behind it count as far as they are known by then, so that nobody waits for the name of an alternate.
        """
        first, *others = hops

        def found(flows: tuple[Flow, ...], then: float) -> None:
            if not flows and others:
                self.find_groups(others, lambda groups, at: ready(((), *groups), at), then, verify=verify)
            else:
                ready((flows, *(self._known_at(hop, then, verify) for hop in others)), then)

        self.find(*first, found, now, verify=verify)

    def _known_at(self, hop: Hop, now: float, verify: bool | None) -> tuple[Flow, ...]:
        """The flows there without waiting; a name that is not known is looked up for the next time."""
        host, port, transport = hop
        targets = self._at(host, port, transport) if is_address(host) else ()
        if not is_address(host):
            query = Query(host.lower(), port, transport)
            known = self._known.get(query)
            if (known is None or known.until <= now) and query not in self._waiting:
                self._waiting[query] = deque()
                self.lookups.append(query)
            if known is not None and known.stale_until > now:
                targets = known.targets
        return self._named(self._flows(targets, 0), host, verify, None)

    def expect(self, flow: Flow, name: str, verify: bool) -> Flow:
        """The flow, with who is at its other end if it is one over TLS; also for the places that it will name."""
        return self._remember(flow, TlsName(name.lower(), verify)) if flow.transport in ("tls", "wss") else flow

    def resolved(self, query: Query, answer: Answer, now: float) -> None:
        """What was found. A resolver that failed leaves the last good answer in use."""
        old = self._known.pop(query, None)
        if len(self._known) >= MAX_NAMES:
            del self._known[next(iter(self._known))]
        known = self._known[query] = _known(answer, old, now)
        waiting = self._waiting.pop(query, ())
        self._waiting_total -= len(waiting)
        with ExitStack() as stack:  # one that raises takes no other along
            for found in reversed(waiting):
                stack.callback(found, known.targets, now)

    def _at(self, host: str, port: int, transport: str) -> tuple[Target, ...]:
        """An address needs no look-up; without a transport it is UDP, or what there is (RFC 3263 4.1)."""
        transports = ("udp", "tcp", "tls") if transport == "auto" else (transport,)
        found = (Target(host, port or DEFAULT_PORTS.get(one, 0), one) for one in transports)
        return tuple(target for target in found if self.settings.flow_to(*target) is not None)[:1]

    def _flows(self, targets: tuple[Target, ...], preferred: int) -> tuple[Flow, ...]:
        """Those that a listener of ours can reach, from the one that the peer knows if that will do."""
        flows = (self.settings.flow_to(*target, preferred) for target in targets)
        return tuple(dict.fromkeys(flow for flow in flows if flow is not None))

    def _named(self, flows: tuple[Flow, ...], host: str, verify: bool | None, like: Flow | None) -> tuple[Flow, ...]:
        """With whom to expect at those over TLS. An address that a peer named in a dialog is still that peer."""
        source = (expected_at(like) or self.tls_names.get(like[:3])) if like is not None else None
        named: list[Flow] = []
        for flow in flows:
            known = self.tls_names.get(flow[:3])
            if flow.transport not in ("tls", "wss"):
                named.append(flow)
            elif verify is not None:
                named.append(self._remember(flow, TlsName(host.lower(), verify)))
            elif source is None:
                named.append(self._remember(flow, known or TlsName(host.lower(), verify=True)))
            else:  # by the word of who named it, and of no other tenant whose PBX is there
                same = is_address(host) or (known is not None and known.name == source.name)
                named.append(self._remember(flow, source if same else TlsName(host.lower(), source.verify)))
        return tuple(named)

    def _remember(self, flow: Flow, name: TlsName) -> Flow:
        names = self.tls_names
        names.pop(flow[:3], None)
        if len(names) >= MAX_TLS_NAMES:
            del names[next(iter(names))]
        names[flow[:3]] = name
        return TlsFlow.expecting(flow, name)


def _known(answer: Answer, old: Known | None, now: float) -> Known:
    if answer.targets:
        until = now + min(max(answer.ttl, MIN_TTL), MAX_TTL)
        return Known(answer.targets, until, until + MAX_STALE, failing=False)
    if answer.ttl > 0:
        until = now + min(max(answer.ttl, MIN_NEGATIVE_TTL), MAX_NEGATIVE_TTL)
        return Known((), until, until, failing=False)
    if old is not None and old.targets and old.stale_until > now:
        return Known(old.targets, now + FAILURE_LIFE, old.stale_until, failing=True)
    return Known((), now + FAILURE_LIFE, now, failing=True)


def transport_param(transport: str) -> str:
    """`;transport=` of a URI that leads to one of our listeners. RFC 7118 knows `ws` only, also where it is secure."""
    return "" if transport == "udp" else ";transport=ws" if transport in WEB else f";transport={transport}"


def next_hop(uri: str, default_transport: str = "udp") -> Hop:
    """Host, port (0: default) and transport that a SIP URI leads to. Raises BadMessage for what is no SIP URI."""
    parsed = Uri.parse(uri)
    if parsed.scheme not in ("sip", "sips"):
        raise BadMessage(416, "Unsupported URI Scheme")
    transport = (parsed.param("transport") or default_transport).lower()
    if parsed.scheme == "sips":
        transport = OVER_TLS.get(transport, transport)
    return parsed.param("maddr") or parsed.host, parsed.port or 0, transport
