"""Who gets this request, and why: the decision order for requests from a PBX, and for dialling.

Pure: the same table, request and time give the same decision here, in `sipd` and in any other engine.
What depends on live state (bindings, calls in progress) comes after.

Schedules are for calls: a message or a subscription reaches a user outside of business hours, too. So the
time `at` is epoch seconds for calls, and None for what takes no notice of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from sipd.routing.lookup import NOBODY, Compiled, ConnectionRef, Source, TenantIndex
from sipd.routing.model import Connection, Group, Number, OutboundRule, User

NO_DOMAIN = "No tenant domain in the Request-URI"
AMBIGUOUS = "This source serves several tenants; the Request-URI must name one"


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was tried."""

    rule: str
    passed: bool
    sentence: str


Station = User | Group | Number
"""What an extension, alias or number can be."""


@dataclass(slots=True)
class Decision:
    """`status` 0: deliver to `user`, ring `group`, or dial `forward` in the tenant. Else the answer to give."""

    rule: str
    """The rule that decided."""
    status: int = 0
    reason: str = ""
    warning: str = ""
    """Text of a Warning header (RFC 3261 20.43, code 399), or empty."""
    tenant: TenantIndex | None = None
    connection: Connection | None = None
    user: User | None = None
    forward: str = ""
    steps: list[Step] = field(default_factory=list)
    group: Group | None = None
    diverted_by: Station | None = None
    """Whose `forward` it is, or who is closed."""

    @property
    def accepted(self) -> bool:
        return self.status == 0


def decide_from_pbx(
    compiled: Compiled,
    host: str,
    port: int,
    transport: str,
    user: str,
    domain: str,
    local_domain: str,
    at: float | None,
    peer_names: frozenset[str] = NOBODY,
    steps: list[Step] | None = None,
) -> Decision:
    """The decision for a request outside a dialog that came from `host`:`port`.

    `user` and `domain` are the Request-URI's, `local_domain` its parameter of that name; "" if absent. `peer_names`
    are the DNS names of a client certificate that was verified. With `steps`,
    each rule that is tried is told there, in words.
    """
    source = compiled.sources.find(host, port, transport, peer_names)
    if steps is not None:
        steps.append(Step("source", source.known, f"{host} over {transport} belongs to {_names(source)}"))
    if not source.known:
        return Decision("unknown-source", 403, "Forbidden")
    ref = None
    refusal = Decision("unknown-domain", 404, "Not Found")
    if source.on:
        ref, refusal = _by_domain(compiled, source, domain, steps)
    if ref is None and source.off and (not source.on or local_domain or refusal.warning):
        ref, refusal = _by_source(compiled, source, domain, local_domain, steps)
    if ref is None:
        return refusal
    return _in_tenant(ref, user, at, steps)


def explain(
    compiled: Compiled,
    host: str,
    port: int,
    transport: str,
    uri: str,
    at: float | None = None,
    peer_names: frozenset[str] = NOBODY,
) -> Decision:
    """`decide_from_pbx` for a Request-URI as text, with its steps, for people who ask who would get a call."""
    user, domain, params = split_uri(uri)
    steps: list[Step] = []
    local_domain = params.get("local-domain", "")
    decision = decide_from_pbx(compiled, host, port, transport, user, domain, local_domain, at, peer_names, steps)
    decision.steps = steps
    return decision


def split_uri(uri: str) -> tuple[str, str, dict[str, str]]:
    """User, host and parameters of a SIP URI. Raises ValueError with a sentence."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() not in ("sip", "sips"):
        raise ValueError(f"{uri!r} is no SIP URI; write it like sip:101@acme.example")
    userinfo, at, hostpart = rest.partition("?")[0].rpartition("@")
    hostport, *pairs = hostpart.split(";")
    host = hostport[1 : hostport.find("]")] if hostport.startswith("[") else hostport.partition(":")[0]
    if not host:
        raise ValueError(f"{uri!r} has no host; write it like sip:101@acme.example")
    params = {name.lower(): unquote(value) for name, _, value in (pair.partition("=") for pair in pairs)}
    return (unquote(userinfo.partition(":")[0]) if at else ""), host.lower(), params


def _by_domain(
    compiled: Compiled, source: Source, domain: str, steps: list[Step] | None
) -> tuple[ConnectionRef | None, Decision]:
    """Mode on: the Request-URI's host is the key. Unknown and foreign domains look the same."""
    index = compiled.tenant_of(domain)
    ref = source.on.get(index.tenant.id) if index is not None else None
    if ref is not None:
        if steps is not None:
            slug = ref.tenant.tenant.slug
            steps.append(Step("domain", True, f"{domain} is {slug}'s, connected from this source"))
        return ref, Decision("domain")
    if compiled.names_no_domain(domain):
        if steps is not None:
            steps.append(Step("domain", False, f"{domain} names no tenant"))
        return None, Decision("no-domain", 404, "Not Found", NO_DOMAIN)
    if steps is not None:
        steps.append(Step("domain", False, f"{domain} is no domain of a tenant that is connected from this source"))
    return None, Decision("unknown-domain", 404, "Not Found")


def _by_source(
    compiled: Compiled, source: Source, domain: str, local_domain: str, steps: list[Step] | None
) -> tuple[ConnectionRef | None, Decision]:
    """Mode off: the local-domain parameter, else the only tenant from this source, unless the host is another's."""
    if local_domain:
        index = compiled.tenant_of(local_domain.lower())
        ref = source.off.get(index.tenant.id) if index is not None else None
        if steps is not None:
            said = f"is {ref.tenant.tenant.slug}'s" if ref else "is no tenant's with mode off from this source"
            steps.append(Step("local-domain", ref is not None, f"{local_domain} {said}"))
        if ref is not None:
            return ref, Decision("local-domain")
        if index is not None:  # another's by name, so it is not the only tenant's
            return None, Decision("unknown-domain", 404, "Not Found")
    if len(source.off) == 1:
        (ref,) = source.off.values()
        if compiled.tenant_of(domain) not in (None, ref.tenant):
            if steps is not None:
                steps.append(Step("only-tenant", False, f"{domain} is another tenant's"))
            return None, Decision("unknown-domain", 404, "Not Found")
        if steps is not None:
            steps.append(Step("only-tenant", True, f"{ref.tenant.tenant.slug} is the only tenant from this source"))
        return ref, Decision("only-tenant")
    if steps is not None:
        steps.append(Step("only-tenant", False, f"{len(source.off)} tenants with mode off share this source"))
    return None, Decision("ambiguous", 404, "Not Found", AMBIGUOUS)


def _in_tenant(ref: ConnectionRef, user_part: str, at: float | None, steps: list[Step] | None) -> Decision:
    """Suspension comes before the user: a suspended tenant tells nothing about who is in it."""
    index, connection = ref
    if index.tenant.suspended:
        if steps is not None:
            steps.append(Step("suspended", False, f"{index.tenant.slug} is suspended"))
        return Decision("suspended", 403, "Forbidden", tenant=index, connection=connection)
    found = destination(index, user_part, at, steps)
    if found is None:
        return Decision("unknown-user", 404, "Not Found", tenant=index, connection=connection)
    decision = Decision(found.rule, 0, "", "", index, connection, found.user, found.forward)
    decision.group, decision.diverted_by = found.group, found.diverted_by
    if found.refused:
        decision.status, decision.reason = CLOSED_STATUS, CLOSED_REASON
    return decision


CLOSED_STATUS, CLOSED_REASON = 480, "Temporarily Unavailable"
"""The answer out of business hours where calls are forwarded nowhere."""


@dataclass(slots=True)
class Destination:
    """Who or what an extension, alias or number of the tenant leads to: one of the three, or none while closed."""

    rule: str
    """"user", "group", "number", or "closed"."""
    user: User | None = None
    group: Group | None = None
    forward: str = ""
    """What to dial instead."""
    diverted_by: Station | None = None
    """Whose `forward` it is, or who is closed."""

    @property
    def refused(self) -> bool:
        """Closed, and forwarded nowhere."""
        return self.user is None and self.group is None and not self.forward


def destination(
    index: TenantIndex, user_part: str, at: float | None, steps: list[Step] | None = None
) -> Destination | None:
    """Users go before groups, groups before numbers; None for nobody.

    The schedule of each station on the way counts: that of a number first, then that of the user or group that it
    rings. The first that is closed decides. Members of a group ring whatever their own schedules say.

    Parameters of a telephone number are no part of it: carriers add `;npdi` or `;phone-context=` (RFC 3966, 4694).
    """
    if ";" in user_part and user_part not in index.users:
        user_part = user_part.partition(";")[0]
    station: User | Group | None = index.users.get(user_part)
    rule = "user"
    if station is None:
        station, rule = index.groups.get(user_part), "group"
    if station is None:
        number, rule = index.number(user_part), "number"
        if number is not None:
            closed = _closed(index, number, at, steps)
            if closed is not None:
                return closed
            if number.forward:
                _tell(steps, rule, True, f"{user_part!r} leads to {number.forward}")
                return Destination(rule, forward=number.forward, diverted_by=number)
            station = index.users_by_id.get(number.user) or index.groups_by_id.get(number.group)
    if station is None:
        _tell(steps, "user", False, f"{user_part!r} is no user, group or number of {index.tenant.slug}")
        return None
    closed = _closed(index, station, at, steps) if station.schedule else None
    if closed is not None:
        return closed
    if isinstance(station, Group):
        members = len(index.members[station.id])
        _tell(steps, rule, True, f"{user_part!r} leads to group {station.extension}, members in use: {members}")
        return Destination(rule, group=station)
    if steps is not None:
        _tell(steps, rule, True, f"{user_part!r} leads to {station.extension}")
    return Destination(rule, user=station)


def _closed(index: TenantIndex, station: Station, at: float | None, steps: list[Step] | None) -> Destination | None:
    """What happens at a station out of its business hours; None within."""
    hours = index.hours.get(station.schedule) if at is not None else None
    if hours is None or at is None:
        return None
    is_open = hours.open(at)
    if steps is not None:
        state = "open" if is_open else "closed"
        name = station.number if isinstance(station, Number) else station.extension
        told = f"schedule {hours.schedule.name!r} of {name} is {state}: it is {hours.told(at)}"
        steps.append(Step("schedule", is_open, told))
        if not is_open:
            to = f"calls go to {station.forward_closed}" if station.forward_closed else "there is no forward for this"
            steps.append(Step("closed", bool(station.forward_closed), to))
    return None if is_open else Destination("closed", forward=station.forward_closed, diverted_by=station)


def _tell(steps: list[Step] | None, rule: str, passed: bool, sentence: str) -> None:
    if steps is not None:
        steps.append(Step(rule, passed, sentence))


@dataclass(frozen=True, slots=True)
class Dialled:
    """Where a number that a user dialled goes: to `user`, `group` or `forward`, or as `number` to `connection`."""

    rule: str
    status: int = 0
    user: User | None = None
    forward: str = ""
    connection: Connection | None = None
    number: str = ""
    group: Group | None = None
    fallback: Connection | None = None
    """Where `number` goes when `connection` fails."""
    diverted_by: Station | None = None
    """Whose `forward` it is, or who is closed."""


def decide_dialled(index: TenantIndex, dialled: str, at: float | None) -> Dialled:
    """Own users, groups and numbers, then the outbound rules, then the default connection; else 404."""
    found = destination(index, dialled, at)
    if found is not None:
        return Dialled(
            found.rule,
            CLOSED_STATUS if found.refused else 0,
            found.user,
            found.forward,
            group=found.group,
            diverted_by=found.diverted_by,
        )
    if not dialled:
        return Dialled("no-number", 404)
    return decide_outbound(index, dialled)


def decide_outbound(index: TenantIndex, dialled: str) -> Dialled:
    """The connections that the tenant's rules pick, and the number as it is sent there."""
    rule, routes = _routes(index, dialled)
    if not routes:
        return Dialled("no-route", 404)
    connection, number = routes[0]
    fallback = routes[1][0] if len(routes) > 1 else None
    return Dialled(rule, connection=connection, number=number, fallback=fallback)


def outbound_routes(index: TenantIndex, dialled: str) -> list[tuple[Connection, str]]:
    """Connections with the number as it is sent there, in the order in which to try them; empty: no route."""
    return _routes(index, dialled)[1]


def _routes(index: TenantIndex, dialled: str) -> tuple[str, list[tuple[Connection, str]]]:
    """The first rule that takes the number and has a connection in use decides alone."""
    for rule in index.outbound:
        if rule.takes(dialled):
            ids = dict.fromkeys((rule.outbound.connection, rule.outbound.fallback))
            found = [index.connections[id_] for id_ in ids if id_ in index.connections]
            if found:
                number = rewrite(rule.outbound, dialled)
                return "outbound", [(connection, number) for connection in found]
    connection = index.connections.get(index.tenant.default_connection)
    return "default-connection", [(connection, dialled)] if connection is not None else []


def rewrite(rule: OutboundRule, dialled: str) -> str:
    """The number as the rule sends it on."""
    return rule.prepend + dialled[rule.strip :]


MAX_NAMED = 5
"""Connections that a step names; the others are counted."""


def _names(source: Source) -> str:
    refs = [*source.on.values(), *source.off.values()]
    named = ", ".join(_name(ref) for ref in refs[:MAX_NAMED]) or "no connection"
    return f"{named} and {len(refs) - MAX_NAMED} more" if len(refs) > MAX_NAMED else named


def _name(ref: ConnectionRef) -> str:
    mode = "on" if ref.connection.multi_tenant else "off"
    return f"{ref.tenant.tenant.slug}/{ref.connection.name} (mode {mode})"
