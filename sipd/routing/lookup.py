"""The compiled table: dict look-ups by domain, user part and source address.

Compiling costs what changed: a tenant whose part is the same object as before keeps its index.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sipd.routing import codec
from sipd.routing.hours import Hours
from sipd.routing.model import Connection, Group, Installation, Number, OutboundRule, Table, Tenant, User
from sipd.routing.pattern import Pattern, parse_pattern

MEMO_LIMIT = 65_536
"""Source addresses whose answer is remembered; the memo is emptied when it is full."""


class ConnectionRef(NamedTuple):
    """A connection and whose it is."""

    tenant: TenantIndex
    connection: Connection


class Rule(NamedTuple):
    """An outbound rule, compiled."""

    outbound: OutboundRule
    pattern: Pattern | None

    def takes(self, dialled: str) -> bool:
        """Whether the rule is for this number: it begins with the prefix, and the pattern matches the whole."""
        return dialled.startswith(self.outbound.prefix) and (self.pattern is None or self.pattern.matches(dialled))


class TenantIndex:
    """One tenant with its dicts. Disabled users, groups and connections are not in them."""

    __slots__ = (
        "connections",
        "groups",
        "groups_by_id",
        "hours",
        "members",
        "numbers",
        "outbound",
        "tenant",
        "users",
        "users_by_id",
    )

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        enabled = [user for user in tenant.users if user.enabled]
        self.users_by_id: dict[str, User] = {user.id: user for user in enabled}
        self.users: dict[str, User] = {alias: user for user in enabled for alias in user.aliases}
        self.users.update((user.extension, user) for user in enabled)
        groups = [group for group in tenant.groups if group.enabled]
        self.groups_by_id: dict[str, Group] = {group.id: group for group in groups}
        self.groups: dict[str, Group] = {alias: group for group in groups for alias in group.aliases}
        self.groups.update((group.extension, group) for group in groups)
        self.members: dict[str, tuple[User, ...]] = {group.id: self._members(group) for group in groups}
        """Enabled users of each group, in their turn."""
        self.numbers: dict[str, Number] = {number.number.lstrip("+"): number for number in tenant.numbers}
        self.connections: dict[str, Connection] = {c.id: c for c in tenant.connections if c.enabled}
        self.hours: dict[str, Hours] = {schedule.id: Hours(schedule) for schedule in tenant.schedules}
        self.outbound: tuple[Rule, ...] = tuple(
            Rule(rule, parse_pattern(rule.pattern) if rule.pattern else None)
            for rule in sorted(tenant.outbound, key=lambda rule: (rule.position, rule.id))
        )

    def _members(self, group: Group) -> tuple[User, ...]:
        turns = sorted(group.members, key=lambda member: (member.position, member.user))
        return tuple(self.users_by_id[turn.user] for turn in turns if turn.user in self.users_by_id)

    def has_pbx_at(self, host: str) -> bool:
        """Whether a host is that of a PBX of the tenant, by its own name or as its registrar domain."""
        return any(host in (c.registrar_domain, c.host) for c in self.connections.values())

    def user(self, user_part: str) -> User | None:
        """The enabled user with this extension or alias."""
        return self.users.get(user_part)

    def group(self, user_part: str) -> Group | None:
        """The enabled ring group with this extension or alias."""
        return self.groups.get(user_part)

    def number(self, user_part: str) -> Number | None:
        """The number; a leading + makes no difference, as PBXs send both forms, nor do separators (RFC 3966 5.1.1)."""
        return self.numbers.get(user_part.lstrip("+").translate(_SEPARATORS)) if user_part else None

    def open(self, schedule_id: str, at: float) -> bool:
        """Whether the schedule is open at epoch second `at`; "" and ids that are not there are always open."""
        hours = self.hours.get(schedule_id)
        return hours is None or hours.open(at)


_SEPARATORS = str.maketrans("", "", "-.()")


class Source:
    """Whose an address is: its connections by tenant id and mode, made once per address and table."""

    __slots__ = ("known", "off", "on")

    def __init__(self, refs: Iterable[ConnectionRef]) -> None:
        self.on: dict[str, ConnectionRef] = {}
        """With multi-tenant mode on."""
        self.off: dict[str, ConnectionRef] = {}
        for ref in refs:
            by_tenant = self.on if ref.connection.multi_tenant else self.off
            by_tenant.setdefault(ref.tenant.tenant.id, ref)
        self.known = bool(self.on or self.off)
        """Whether the address belongs to any connection."""

    def at_home(self, port: int) -> bool:
        """Whether a PBX is not only at this address, but at this very port."""
        connections = [ref.connection for ref in (*self.on.values(), *self.off.values())]
        return any(port in (c.port or (5061 if c.transport == "tls" else 5060), *_ports(c)) for c in connections)


def _ports(connection: Connection) -> list[int]:
    """Those that its sources name."""
    return [port for _, port in map(parse_source, connection.sources) if port]


WEB = frozenset(("ws", "wss"))
"""Transports of browsers; a PBX uses none of them (RFC 7118)."""
NOBODY: frozenset[str] = frozenset()
UNKNOWN = Source(())
_CARRIERS: Mapping[str, frozenset[str]] = {
    "udp": frozenset(("udp", "tcp", "tls")),
    "tcp": frozenset(("tcp", "tls")),
    "tls": frozenset(("tls",)),
    "auto": frozenset(("udp", "tcp", "tls")),
}
"""By a connection's transport, the transports over which it is believed."""


def believed(connection: Connection, transport: str, peer_names: frozenset[str]) -> bool:
    """Whether a request over `transport` may be this connection's, its address being one of the sources.

    A connection over a stream is not believed over UDP, where a source can be forged, and one over TLS over TLS
    only. One over UDP may also send by TCP, as RFC 3261 18.1.1 makes it do for large requests. One whose PBX has a
    client certificate is believed with that alone (RFC 5922 section 7.4).
    """
    if connection.tls_client and (transport != "tls" or connection.tls_client not in peer_names):
        return False
    return transport in _CARRIERS.get(connection.transport, NOBODY)


class SourceIndex:
    """Which connections an address belongs to. Networks are compared as numbers, never as text."""

    def __init__(self, tenants: Iterable[TenantIndex]) -> None:
        self._networks: dict[tuple[int, int], dict[int, list[ConnectionRef]]] = {}
        self._exact: dict[tuple[int, int, int], list[ConnectionRef]] = {}
        self._memo: dict[tuple[str, int, str, frozenset[str]], Source] = {}
        self._names: set[str] = set()
        for index in tenants:
            for connection in index.connections.values():
                if connection.tls_client:
                    self._names.add(connection.tls_client)
                for source in connection.sources:
                    self._add(source, ConnectionRef(index, connection))

    def _add(self, source: str, ref: ConnectionRef) -> None:
        network, port = parse_source(source)
        if port:
            key = (network.version, int(network.network_address), port)
            self._exact.setdefault(key, []).append(ref)
            return
        by_address = self._networks.setdefault((network.version, network.prefixlen), {})
        by_address.setdefault(int(network.network_address), []).append(ref)

    def find(self, host: str, port: int, transport: str, peer_names: frozenset[str] = NOBODY) -> Source:
        """The connections that may send from here; `peer_names` are the DNS names, in lower case, of a
        client certificate that was verified.

        See `believed` for what the transport has to do with it.
        """
        if transport in WEB:
            return UNKNOWN
        names = peer_names & self._names if peer_names else NOBODY  # so that other names fill no memory
        key = (host, port if self._exact else 0, transport, names)
        known = self._memo.get(key)
        if known is None:
            known = Source(ref for ref in self._search(host, port) if believed(ref.connection, transport, names))
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[key] = known
        return known

    def hosts(self) -> Iterator[str]:
        """Of sources that are single addresses, whatever their port."""
        singles = {(version, number) for version, number, _ in self._exact}
        for (version, prefix), by_address in self._networks.items():
            if prefix == (32 if version == 4 else 128):
                singles |= {(version, number) for number in by_address}
        for version, number in singles:
            yield str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))

    def covers(self, host: str) -> bool:
        """Whether an address is in a source that is a network, or an address without a port."""
        return bool(self._search(host, 0))

    def _search(self, host: str, port: int) -> list[ConnectionRef]:
        address = _address(host)
        if address is None:
            return []
        number = int(address)
        found = list(self._exact.get((address.version, number, port), ()))
        for (version, prefix), by_address in self._networks.items():
            if version == address.version:
                shift = address.max_prefixlen - prefix
                found += by_address.get(number >> shift << shift, ())
        return found


class Access:
    """The networks that the installation allows and blocks. Where both hold, the narrower one does."""

    def __init__(self, installation: Installation) -> None:
        self._networks: dict[tuple[int, int], dict[int, str]] = {}
        self._memo: dict[str, str] = {}
        for listed, texts in (("allowed", installation.allowed), ("blocked", installation.blocked)):
            for network in map(ipaddress.ip_network, texts):
                addresses = self._networks.setdefault((network.version, network.prefixlen), {})
                addresses[int(network.network_address)] = listed
        self._networks = dict(sorted(self._networks.items(), key=lambda item: -item[0][1]))

    def __bool__(self) -> bool:
        return bool(self._networks)

    def of(self, host: str) -> str:
        """`allowed`, `blocked`, or "" for an address that neither list has."""
        known = self._memo.get(host)
        if known is None:
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            known = self._memo[host] = self._search(host)
        return known

    def _search(self, host: str) -> str:
        address = _address(host)
        if address is None:
            return ""
        number = int(address)
        for (version, prefix), listed in self._networks.items():
            shift = address.max_prefixlen - prefix
            if version == address.version and (number >> shift << shift) in listed:
                return listed[number >> shift << shift]
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """IPv4 also where it is mapped into IPv6; None for what is no address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_source(source: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int]:
    """`192.0.2.0/24`, `192.0.2.1`, `192.0.2.1:5080`, `[2001:db8::1]:5080` -> network and port (0: any).

    Raises ValueError with a sentence.
    """
    text, port = source, 0
    bracketed = source.startswith("[")
    if bracketed or source.count(":") == 1:
        text, _, port_text = source.rpartition(":")
        if not (port_text.isascii() and port_text.isdigit() and 1 <= int(port_text) <= 65535):
            raise ValueError(f"{source!r} has no port from 1 to 65535 after the last colon")
        port = int(port_text)
        if bracketed:
            if not text.endswith("]"):
                raise ValueError(f"{source!r} has no ']' before the port")
            text = text[1:-1]
    network = ipaddress.ip_network(text)
    if port and network.num_addresses != 1:
        raise ValueError(f"{source!r} names a port, which goes with a single address only")
    return network, port


class Compiled:
    """A table made ready for calls. Immutable; swapped as one reference."""

    __slots__ = ("access", "domains", "edge_hosts", "hash", "installation", "sources", "table", "tenants")

    def __init__(self, table: Table, name: str, tenants: Mapping[str, TenantIndex], edge_hosts: frozenset[str]) -> None:
        self.table = table
        self.hash = name
        self.installation: Installation = table.installation
        self.tenants = tenants
        self.domains: dict[str, TenantIndex] = {d: index for index in tenants.values() for d in index.tenant.domains}
        self.sources = SourceIndex(tenants.values())
        self.access = Access(table.installation)
        self.edge_hosts = edge_hosts

    def changed_since(self, previous: Compiled) -> set[str]:
        """Ids of the tenants that came, went or have another part."""
        ids = self.tenants.keys() | previous.tenants.keys()
        return {id_ for id_ in ids if self.tenants.get(id_) is not previous.tenants.get(id_)}

    def tenant_of(self, host: str) -> TenantIndex | None:
        """The tenant that owns this domain (lower case); a dot may end a complete name (RFC 3261 25.1)."""
        return self.domains.get(host.removesuffix("."))

    def stands_for(self, index: TenantIndex, host: str) -> bool:
        """Whether a host in a request of the tenant's own means the tenant: its domains, the edge, an address."""
        return host in index.tenant.domains or self.names_no_domain(host)

    def names_no_domain(self, host: str) -> bool:
        """Whether a Request-URI host is the edge itself or a bare address: no tenant was named."""
        return host in self.edge_hosts or is_address(host)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, IPv6 without brackets."""
    if not host or not (host[0].isdigit() or ":" in host):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


EMPTY = Table(Installation(platform_domain=""))
"""What an engine runs before its first table: it knows nobody."""


def compile_table(
    table: Table, previous: Compiled | None = None, *, name: str | None = None, edge_hosts: Iterable[str] = ()
) -> Compiled:
    """Compile a valid table; `name` is its hash when the caller knows it already.

    `edge_hosts` are the engine's own names and addresses, beside those that the table lists.
    """
    old = previous.tenants if previous else {}
    tenants: dict[str, TenantIndex] = {}
    for tenant in table.tenants:
        index = old.get(tenant.id)
        tenants[tenant.id] = index if index is not None and index.tenant is tenant else TenantIndex(tenant)
    hosts = frozenset(table.installation.edge_hosts) | frozenset(edge_hosts)
    return Compiled(table, name if name is not None else codec.encode(table).hash, tenants, hosts)
