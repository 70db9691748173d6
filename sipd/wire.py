"""The core's way out: what is to be sent, from which listener, and the names that must be looked up first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sipd.flow import WEB, Flow, Listener, Query
from sipd.message.errors import BadMessage
from sipd.message.uri import Uri
from sipd.routing.lookup import is_address
from sipd.settings import Settings

Ready = Callable[[Flow | None, float], None]
"""Called with the flow, or None when there is no way there; and the time."""

ANSWER_LIFE = 30.0
"""Seconds for which a look-up's answer is used; after that the old answer serves while a new one is fetched."""
FAILURE_LIFE = 5.0
MAX_NAMES = 10_000
"""Names remembered; the memory is emptied when it is full."""
MAX_WAITING = 10_000
"""Requests that wait for look-ups, over all names; more fail at once."""


class Wire:
    """Outbox, random tokens, and flows to hosts by address or name."""

    def __init__(self, settings: Settings, random_bytes: Callable[[int], bytes]) -> None:
        self.settings = settings
        self.outbox: list[tuple[bytes, Flow]] = []
        self.lookups: list[Query] = []
        self._random = random_bytes
        self._known: dict[Query, tuple[tuple[str, ...], float]] = {}
        self._waiting: dict[Query, deque[Ready]] = {}
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

    def when_ready(self, host: str, port: int, transport: str, ready: Ready, now: float) -> None:
        """Call `ready` with the flow there: at once for addresses and known names, else after a look-up."""
        if is_address(host):
            ready(self.settings.flow_to(host, port, transport), now)
            return
        query = Query(host, port, transport)
        addresses, until = self._known.get(query, ((), 0.0))
        if until <= now and query not in self._waiting:
            self._waiting[query] = deque()
            self.lookups.append(query)
        if addresses or until > now:
            ready(self._first(query, addresses), now)
        elif self._waiting_total >= MAX_WAITING:
            ready(None, now)
        else:
            self._waiting[query].append(ready)
            self._waiting_total += 1

    def resolved(self, query: Query, addresses: list[str], now: float) -> None:
        """An answer; an empty one is a failure, and leaves the last good answer in use."""
        if len(self._known) >= MAX_NAMES:
            self._known.clear()
        old = self._known.get(query, ((), 0.0))[0]
        self._known[query] = (tuple(addresses) or old, now + (ANSWER_LIFE if addresses else FAILURE_LIFE))
        for ready in self._waiting.pop(query, ()):
            self._waiting_total -= 1
            ready(self._first(query, self._known[query][0]), now)

    def _first(self, query: Query, addresses: tuple[str, ...]) -> Flow | None:
        for address in addresses:
            flow = self.settings.flow_to(address, query.port, query.transport)
            if flow is not None:
                return flow
        return None


def bracketed(host: str) -> str:
    """An IPv6 address as it stands in a URI or Via."""
    return f"[{host}]" if ":" in host else host


def transport_param(transport: str) -> str:
    """`;transport=` of a URI that leads to one of our listeners. RFC 7118 knows `ws` only, also where it is secure."""
    return "" if transport == "udp" else ";transport=ws" if transport in WEB else f";transport={transport}"


def next_hop(uri: str, default_transport: str = "udp") -> tuple[str, int, str]:
    """Host, port (0: default) and transport that a SIP URI leads to. Raises BadMessage for what is no SIP URI."""
    parsed = Uri.parse(uri)
    if parsed.scheme != "sip":
        raise BadMessage(416, "Unsupported URI Scheme")
    transport = (parsed.param("transport") or default_transport).lower()
    return parsed.param("maddr") or parsed.host, parsed.port or 0, transport
