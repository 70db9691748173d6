"""Checks of a tenant's connections: what they are, where they lead, and who may send on them."""

from __future__ import annotations

from sipd.routing.checks_caller_id import check_shown
from sipd.routing.checks_network import source_of
from sipd.routing.checks_relay import check_internal_calls
from sipd.routing.checks_scope import (
    MAX_POSITION,
    Choices,
    Problems,
    Ranges,
    Scope,
    TextChecks,
    check_choices,
    check_ids,
    check_limits,
    check_list,
    check_ranges,
    check_texts,
)
from sipd.routing.checks_sources import SourceMap, sources_of
from sipd.routing.checks_text import (
    client_name_fault,
    host_fault,
    id_fault,
    name_fault,
    network_fault,
    source_fault,
    source_warning,
    split_proxy,
    uri_fault,
)
from sipd.routing.lookup import is_address
from sipd.routing.model import (
    CALLER_IDS,
    INTERNAL_CALLS,
    MAX_ALTERNATES,
    MAX_EXPIRES,
    MAX_SOURCES,
    MEDIA,
    MIN_EXPIRES,
    STRATEGIES,
    TRANSPORTS,
    Connection,
)
from sipd.routing.problem import Spot, show

SIP_PORT = 5060
"""RFC 3261 section 19.1.2."""

CONNECTION_TEXTS: TextChecks = (
    ("id", id_fault),
    ("name", name_fault),
    ("registrar_domain", host_fault),
    ("host", host_fault),
)
PORT_RANGE = ("port", 0, 65535, "a port, where 0 is that of the DNS records, else 5060 or 5061")
ALTERNATE_RANGES: Ranges = (PORT_RANGE, ("position", 0, MAX_POSITION, "a position"))
CONNECTION_RANGES: Ranges = (
    PORT_RANGE,
    ("expires", MIN_EXPIRES, MAX_EXPIRES, "seconds of a registration"),
)
CHOICES: Choices = (
    ("transport", TRANSPORTS),
    ("strategy", STRATEGIES),
    ("internal_calls", INTERNAL_CALLS),
    ("caller_id", CALLER_IDS),
    ("media", MEDIA),
)


def check_connections(scope: Scope) -> Problems:
    yield from check_ids(scope, "connections", scope.tenant.connections, "id")
    for index, connection in enumerate(scope.tenant.connections):
        spot = scope.spot.of_item("connections", connection.id, index, connection.id)
        yield from check_texts(spot, connection, CONNECTION_TEXTS)
        yield from check_ranges(spot, connection, CONNECTION_RANGES)
        yield from check_limits(spot, connection.limits)
        yield from check_choices(spot, connection, CHOICES)
        yield from check_shown(spot, connection, scope)
        yield from _check_sources(spot, connection)
        yield from _check_way(spot, connection, scope)
        yield from _check_alternates(spot, connection, scope)
        yield from check_internal_calls(spot, connection)
        yield from _check_tls(spot, connection)
        yield from _check_auto(spot, connection)
    yield from _check_shared_sources(scope)


def _check_tls(spot: Spot, connection: Connection) -> Problems:
    if not connection.tls_verify and connection.transport in ("tls", "auto"):
        yield spot.at("tls_verify").warning(
            "The PBX's certificate is not checked, so anyone on the way can pose as the PBX. Check it, once the "
            "certificate is good."
        )
    name = connection.tls_client
    fault = client_name_fault(name)
    if fault:
        yield spot.at("tls_client").error(fault)
    elif name and connection.transport in ("udp", "tcp"):
        yield spot.at("tls_client").error(
            f"{show(name)} asks for a client certificate, which there is over TLS only, but the transport is "
            f"{connection.transport}, so that no call from this PBX would be accepted. Choose tls, or remove this."
        )
    elif name and connection.transport == "auto":
        yield spot.at("tls_client").warning(
            f"{show(name)} asks for a client certificate, so what this PBX sends over UDP or TCP is refused. "
            "Choose the transport tls, or remove this."
        )


def _check_auto(spot: Spot, connection: Connection) -> Problems:
    """RFC 3263 section 4.1: NAPTR and SRV records are for names without a port."""
    if connection.transport != "auto" or connection.outbound_proxy:
        return
    if is_address(connection.host):
        yield spot.at("transport").warning(
            f"{show(connection.host)} is an address, for which no DNS records choose a transport, so UDP is used. "
            "Choose the transport, or give a name."
        )
    elif connection.port:
        yield spot.at("transport").warning(
            f"With the port {connection.port} no DNS records are asked for the transport, so UDP is used. "
            "Choose the transport, or set the port to 0."
        )


def _check_sources(spot: Spot, connection: Connection) -> Problems:
    count = len(connection.sources)
    if count > MAX_SOURCES:
        yield spot.at("sources").error(
            f"There are {count} sources; the limit is {MAX_SOURCES}. Join neighbours to networks."
        )
    if connection.enabled and not count:
        yield spot.at("sources").warning(
            "There are no sources, so no call from this PBX will be accepted. Add the addresses that it sends from."
        )
    yield from check_list(spot, "sources", connection.sources, source_fault)
    for index, text in enumerate(connection.sources):
        warning = "" if source_fault(text) else source_warning(text, connection.transport)
        if warning:
            yield spot.entry("sources", None, index).warning(warning)


def _check_way(spot: Spot, connection: Connection, scope: Scope) -> Problems:
    """Whether what is sent to the PBX can come back to the edge."""
    yield from _check_hop(spot.at("host"), connection.host, connection.port, scope)
    if connection.outbound_proxy:
        fault = uri_fault(connection.outbound_proxy)
        if fault:
            yield spot.at("outbound_proxy").error(fault)
            return
        host, port, _ = split_proxy(connection.outbound_proxy)
        yield from _check_hop(spot.at("outbound_proxy"), host, port, scope)
    elif connection.multi_tenant and connection.host in scope.tenant.domains:
        yield spot.at("host").warning(
            f"{show(connection.host)} is a domain of this tenant, which must lead to the edge when multi-tenant mode "
            "is on. Give the PBX's own address."
        )


def _check_alternates(spot: Spot, connection: Connection, scope: Scope) -> Problems:
    count = len(connection.alternates)
    if count > MAX_ALTERNATES:
        yield spot.at("alternates").error(
            f"There are {count} further addresses; the limit is {MAX_ALTERNATES}. Remove some, or let DNS list them."
        )
    if count and connection.outbound_proxy:
        yield spot.at("alternates").warning(
            "The further addresses are not used, as everything goes to the outbound proxy. Remove one or the other."
        )
    seen = {(connection.host, connection.port)}
    for index, alternate in enumerate(connection.alternates):
        entry = spot.entry("alternates", alternate.host, index)
        yield from check_ranges(entry, alternate, ALTERNATE_RANGES)
        fault = host_fault(alternate.host)
        if not fault and (alternate.host, alternate.port) in seen:
            fault = f"{show(alternate.host)} is an address of this PBX already; remove one."
        seen.add((alternate.host, alternate.port))
        if fault:
            yield entry.at("host").error(fault)
        else:
            yield from _check_hop(entry.at("host"), alternate.host, alternate.port, scope)
    yield from _check_believed(spot, connection)


def _check_believed(spot: Spot, connection: Connection) -> Problems:
    """A PBX that takes over is to be heard, too."""
    sources = SourceMap[str]()
    for _, source in sources_of(connection) if connection.alternates else ():
        sources.add(source, connection.id)
    for index, alternate in enumerate(connection.alternates):
        host = alternate.host
        if is_address(host) and not network_fault(host) and not any(sources.overlapping(source_of(host))):
            yield (
                spot.entry("alternates", host, index)
                .at("host")
                .warning(
                    f"{show(host)} is none of the sources, so what this PBX sends from there is refused. "
                    "Add it to them."
                )
            )


def _check_hop(spot: Spot, host: str, port: int, scope: Scope) -> Problems:
    if host not in scope.edge_hosts:
        return
    if port in (0, SIP_PORT):
        yield spot.error(
            f"{show(host)} is the edge itself, so that all it sends would come back. Give the address of the PBX."
        )
    else:
        yield spot.warning(
            f"{show(host)} is the edge's own host. Make sure that the PBX, and not the edge, listens on port {port}."
        )


def _check_shared_sources(scope: Scope) -> Problems:
    """Calls from an address that two connections name are counted at only one of them."""
    sources: SourceMap[str] = SourceMap()
    for index, connection in enumerate(scope.tenant.connections):
        if not connection.enabled:
            continue
        found = list(sources_of(connection))
        for place, source in found:
            other = next((owner for _, owner in sources.overlapping(source)), None)
            if other is not None:
                spot = scope.spot.of_item("connections", connection.id, index, connection.id)
                yield spot.entry("sources", None, place).warning(
                    f"{show(connection.sources[place])} is also a source of the connection {show(other)}, so calls "
                    "from there may be counted at either. Give each its own addresses, or address and port."
                )
        for _, source in found:
            sources.add(source, connection.name)
