"""Checks across tenants, on a small index: one changed tenant costs what changed.

A message is read by the tenant that it is about, so it never names another one; the ids of the others
are in `Problem.others`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sipd.routing.checks_network import blocking
from sipd.routing.checks_sources import Source, SourceMap, sources_of
from sipd.routing.model import Installation, Tenant
from sipd.routing.problem import Problem, Spot, show

MAX_OTHERS = 10
"""Other tenants that one problem lists."""


class Claim(NamedTuple):
    """One source of an enabled connection."""

    source: Source
    text: str
    place: int
    """In the connection's sources."""
    connection: str
    """Id."""
    connection_place: int
    multi_tenant: bool
    tls_client: str
    """Name that its PBX's client certificate must have; "": none is asked for."""

    def apart(self, client: str) -> bool:
        """Whether certificates tell it from a connection that asks for the name `client`."""
        return bool(self.tls_client and client) and self.tls_client != client


class Contribution(NamedTuple):
    """What the checks across tenants need of one."""

    tenant: str
    """Id."""
    place: int
    """In the table, for paths of tenants whose slug cannot be shown."""
    slug: str
    primary_domain: str
    alias_domains: tuple[str, ...]
    claims: tuple[Claim, ...]

    @property
    def domains(self) -> frozenset[str]:
        """All of them, each once."""
        return frozenset((self.primary_domain, *self.alias_domains))

    @property
    def spot(self) -> Spot:
        """Where the tenant is."""
        return Spot().of_tenant(self.slug, self.place, self.tenant)


def contribution(tenant: Tenant, place: int = 0) -> Contribution:
    """What a tenant puts into the index."""
    claims = tuple(
        Claim(
            source,
            connection.sources[index],
            index,
            connection.id,
            number,
            connection.multi_tenant,
            connection.tls_client,
        )
        for number, connection in enumerate(tenant.connections)
        if connection.enabled
        for index, source in sources_of(connection)
    )
    return Contribution(tenant.id, place, tenant.slug, tenant.primary_domain, tenant.alias_domains, claims)


class Index:
    """The contributions of all tenants, by what must not be shared."""

    def __init__(self, contributions: Iterable[Contribution] = ()) -> None:
        self._contributions: dict[str, Contribution] = {}
        self._domains: dict[str, list[str]] = {}
        self._slugs: dict[str, list[str]] = {}
        self._sources: SourceMap[tuple[str, str]] = SourceMap()
        """Owners are tenants, with the client certificate that each asks for."""
        for each in contributions:
            self.put(each)

    def __iter__(self) -> Iterator[str]:
        """Ids of the tenants."""
        return iter(self._contributions)

    def __contains__(self, tenant: object) -> bool:
        return tenant in self._contributions

    def put(self, new: Contribution) -> None:
        """Add a tenant, or replace what it contributed before."""
        self.remove(new.tenant)
        self._contributions[new.tenant] = new
        self._slugs.setdefault(new.slug, []).append(new.tenant)
        for domain in new.domains:
            self._domains.setdefault(domain, []).append(new.tenant)
        for claim in new.claims:
            if not claim.multi_tenant:
                self._sources.add(claim.source, (new.tenant, claim.tls_client))

    def remove(self, tenant: str) -> None:
        """Take a tenant out; nothing happens if it is not there."""
        old = self._contributions.pop(tenant, None)
        if old is None:
            return
        _take_out(self._slugs, old.slug, tenant)
        for domain in old.domains:
            _take_out(self._domains, domain, tenant)
        for claim in old.claims:
            if not claim.multi_tenant:
                self._sources.remove(claim.source, (tenant, claim.tls_client))

    def problems_of(self, tenant: str) -> Iterator[Problem]:
        """What this tenant shares with others and must not."""
        mine = self._contributions[tenant]
        spot = mine.spot
        others = _others(self._slugs[mine.slug], tenant)
        if others:
            yield spot.at("slug").error(f"{show(mine.slug)} is another tenant's short name; choose another.", others)
        yield from self._shared_domain(spot.at("primary_domain"), mine.primary_domain, tenant)
        for index, domain in enumerate(mine.alias_domains):
            yield from self._shared_domain(spot.entry("alias_domains", None, index), domain, tenant)
        for claim in mine.claims:
            if not claim.multi_tenant:
                yield from self._shared_source(spot, claim, tenant)

    def blocked_of(self, tenant: str, installation: Installation) -> Iterator[Problem]:
        """PBXs of this tenant that send from where the installation answers nobody."""
        mine = self._contributions[tenant]
        for claim in mine.claims:
            network = next(blocking(claim.source, installation.allowed, installation.blocked), None)
            if network is not None:
                yield _source_spot(mine.spot, claim).warning(
                    f"{show(claim.text)} is where the provider blocks {show(network)}, so what comes from there gets "
                    "no answer. Ask the provider to unblock it."
                )

    def _shared_domain(self, spot: Spot, domain: str, tenant: str) -> Iterator[Problem]:
        others = _others(self._domains[domain], tenant)
        if others:
            yield spot.error(f"{show(domain)} is another tenant's domain; choose one that is free.", others)

    def _shared_source(self, tenant_spot: Spot, claim: Claim, tenant: str) -> Iterator[Problem]:
        sharing = self._sources.overlapping(claim.source)
        others = _others((owner for _, (owner, client) in sharing if not claim.apart(client)), tenant)
        if not others:
            return
        yield _source_spot(tenant_spot, claim).error(
            f"{show(claim.text)} is also where another tenant's PBX sends from, and with multi-tenant mode off the "
            "edge cannot tell whose calls these are. Switch the mode on, or give an address (or address and port) "
            "that is this tenant's alone, or have each PBX show a client certificate with a name of its own.",
            others,
        )


def _source_spot(tenant_spot: Spot, claim: Claim) -> Spot:
    spot = tenant_spot.of_item("connections", claim.connection, claim.connection_place, claim.connection)
    return spot.entry("sources", None, claim.place)


def _take_out(owners: dict[str, list[str]], key: str, tenant: str) -> None:
    owners[key].remove(tenant)
    if not owners[key]:
        del owners[key]


def _others(owners: Iterable[str], tenant: str) -> tuple[str, ...]:
    """Up to `MAX_OTHERS` owners that are not this tenant."""
    found: dict[str, None] = {}
    for owner in owners:
        if owner != tenant:
            found[owner] = None
            if len(found) == MAX_OTHERS:
                break
    return tuple(found)
