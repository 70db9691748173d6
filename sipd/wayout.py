"""The way out through a connection: where its PBX is, how we are reached from there, and by which Route.

Calls, subscriptions, what is passed on, and registrations all ask here, so that they go the same way.
"""

from __future__ import annotations

from collections.abc import Iterable

from sipd.flow import DEFAULT_PORTS, Flow
from sipd.health import Health
from sipd.message.address import Address
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.uri import Uri, same_uri
from sipd.routing.model import Connection
from sipd.wire import Hop, Ready, Wire, next_hop, transport_param

SERVICE_ROUTES = 5
"""URIs of a Service-Route that are kept; one with more is not followed."""
SERVICE_ROUTE_TEXT = 1024
"""Characters of them all."""


def connection_hops(connection: Connection) -> tuple[tuple[Hop, ...], str]:
    """All places of this PBX, the preferred one first, and the Route value if the outbound proxy is a loose router.

    The outbound proxy is the only way to go, where there is one.
    """
    transport = connection.transport
    if connection.outbound_proxy:
        loose = "lr" in Uri.parse(connection.outbound_proxy).params
        route = f"<{connection.outbound_proxy}>" if loose else ""
        return (next_hop(connection.outbound_proxy, transport),), route
    others = sorted(connection.alternates, key=lambda one: (one.position, one.host, one.port))
    hops = [(connection.host, connection.port, transport), *((one.host, one.port, transport) for one in others)]
    return tuple(dict.fromkeys(hops)), ""


def contact_of(extension: str, domain: str, multi_tenant: bool, wire: Wire, flow: Flow) -> str:
    """The Contact rule: the tenant's domain as host with the mode on, as parameter with it off."""
    user = Uri.build(extension, "x")
    name = str(user)[len("sip:") : -len("@x")]
    listener = wire.listener(flow)
    if not multi_tenant:
        return f"<sip:{name}@{wire.hostport(flow)};local-domain={domain}>"
    own = DEFAULT_PORTS[flow.transport]
    port = f":{listener.advertised_port}" if listener.advertised_port != own else ""
    return f"<sip:{name}@{domain}{port}{transport_param(flow.transport)}>"


def granted_of(response: Message, contact: str, asked: int) -> int:
    """Seconds that a 2xx to REGISTER grants to our Contact, in angle brackets (RFC 3261 10.2.4); at most `asked`."""
    try:
        ours = _ours_among(response.contacts, Uri.parse(contact[1:-1]))
        text = (ours.params.get("expires") or "").strip('"') if ours is not None else ""
        if text.isascii() and text.isdigit():
            return min(int(text), asked) if len(text) < 10 else asked
        return min(response.expires or asked, asked)
    except BadMessage:
        return asked


def _ours_among(contacts: Iterable[Address], sent: Uri) -> Address | None:
    """Our Contact among all that a PBX has for the address of record (RFC 3261 10.3, step 8).

    Some write there what they saw in place of what we said: the only one is ours, and the only one with our user part.
    """
    listed = list(contacts)
    same = [contact for contact in listed if same_uri(contact.uri, sent)]
    named = same or [contact for contact in listed if contact.uri.user == sent.user]
    found = named or listed
    return found[0] if same or len(found) == 1 else None


def service_route_of(response: Message) -> str:
    """The Route value that a 2xx to REGISTER asks for (RFC 3608 5.1); empty where it asks for none.

    Raises BadMessage for one that cannot be followed: malformed, not loose, too long.
    """
    lines = response.all("service-route")
    if not lines:
        return ""
    if sum(map(len, lines)) > SERVICE_ROUTE_TEXT:
        raise BadMessage(400, "Service-Route Too Long")
    routes = Address.parse_list(lines)
    if len(routes) > SERVICE_ROUTES:
        raise BadMessage(400, "Service-Route Too Long")
    if any(route.uri.scheme not in ("sip", "sips") or "lr" not in route.uri.params for route in routes):
        raise BadMessage(400, "Service-Route Not Loose")
    return ", ".join(f"<{route.uri_text}>" for route in routes)


class WayOut:
    """Knows the Service-Route of each registration at a PBX, and who is down."""

    def __init__(self, wire: Wire, health: Health) -> None:
        self._wire = wire
        self._health = health
        self._service_routes: dict[tuple[str, str, str], str] = {}
        """By tenant, user and connection."""

    def find(self, tenant: str, connection: Connection, ready: Ready, now: float) -> None:
        """Call `ready` with all flows to this connection's PBX, those at `host` before those at its alternates."""
        hops, _ = connection_hops(connection)

        def found(groups: tuple[tuple[Flow, ...], ...], then: float) -> None:
            flows = tuple(dict.fromkeys(flow for group in groups for flow in group))
            self._health.used(flows, tenant, connection.id, then)
            ready(flows, then)

        self._wire.find_groups(hops, found, now, verify=connection.tls_verify)

    def route(self, tenant: str, user: str, connection: Connection) -> str:
        """Route value of this user's requests outside a dialog: a loose outbound proxy, then the Service-Route.

        It never says where we send to: that is the connection's word alone (docs/decisions/0017).
        """
        _, proxy = connection_hops(connection)
        service_route = self._service_routes.get((tenant, user, connection.id), "")
        return ", ".join(route for route in (proxy, service_route) if route)

    def keep_service_route(self, tenant: str, user: str, connection: str, value: str) -> None:
        """What the last 2xx to a REGISTER said, empty where it said nothing: it replaces what was (RFC 3608 6.1)."""
        key = tenant, user, connection
        if value:
            self._service_routes[key] = value
        else:
            self._service_routes.pop(key, None)
