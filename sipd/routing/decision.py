"""Who gets this request, and why: the decision order for requests from a PBX, and for dialling.

Pure: the same table and request give the same decision here, in `sipd` and in any other engine. What
depends on live state (bindings, calls in progress) comes after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from sipd.routing.lookup import Compiled, ConnectionRef, Source, TenantIndex
from sipd.routing.model import Connection, OutboundRule, User

NO_DOMAIN = "No tenant domain in the Request-URI"
AMBIGUOUS = "This source serves several tenants; the Request-URI must name one"


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was tried."""

    rule: str
    passed: bool
    sentence: str


@dataclass(slots=True)
class Decision:
    """`status` 0: deliver to `user`, or dial `forward` in the tenant. Else the answer to give."""

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
    steps: list[Step] | None = None,
) -> Decision:
    """The decision for a request outside a dialog that came from `host`:`port`.

    `user` and `domain` are the Request-URI's, `local_domain` its parameter of that name; "" if absent.
    With `steps`, each rule that is tried is told there, in words.
    """
    source = compiled.sources.find(host, port, transport)
    if steps is not None:
        steps.append(Step("source", source.known, f"{host} over {transport} belongs to {_names(source)}"))
    if not source.known:
        return Decision("unknown-source", 403, "Forbidden")
    ref = None
    refusal = Decision("unknown-domain", 404, "Not Found")
    if source.on:
        ref, refusal = _by_domain(compiled, source, domain, steps)
    if ref is None and source.off and (not source.on or local_domain or refusal.warning):
        ref, refusal = _by_source(compiled, source, local_domain, steps)
    if ref is None:
        return refusal
    return _in_tenant(ref, user, steps)


def explain(compiled: Compiled, host: str, port: int, transport: str, uri: str) -> Decision:
    """`decide_from_pbx` for a Request-URI as text, with its steps, for people who ask who would get a call."""
    user, domain, params = split_uri(uri)
    steps: list[Step] = []
    local_domain = params.get("local-domain", "")
    decision = decide_from_pbx(compiled, host, port, transport, user, domain, local_domain, steps)
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
    compiled: Compiled, source: Source, local_domain: str, steps: list[Step] | None
) -> tuple[ConnectionRef | None, Decision]:
    """Mode off: the local-domain parameter, else the only tenant from this source."""
    if local_domain:
        index = compiled.tenant_of(local_domain.lower())
        ref = source.off.get(index.tenant.id) if index is not None else None
        if steps is not None:
            said = f"is {ref.tenant.tenant.slug}'s" if ref else "is no tenant's with mode off from this source"
            steps.append(Step("local-domain", ref is not None, f"{local_domain} {said}"))
        if ref is not None:
            return ref, Decision("local-domain")
    if len(source.off) == 1:
        (ref,) = source.off.values()
        if steps is not None:
            steps.append(Step("only-tenant", True, f"{ref.tenant.tenant.slug} is the only tenant from this source"))
        return ref, Decision("only-tenant")
    if steps is not None:
        steps.append(Step("only-tenant", False, f"{len(source.off)} tenants with mode off share this source"))
    return None, Decision("ambiguous", 404, "Not Found", AMBIGUOUS)


def _in_tenant(ref: ConnectionRef, user_part: str, steps: list[Step] | None) -> Decision:
    """Suspension comes before the user: a suspended tenant tells nothing about who is in it."""
    index, connection = ref
    if index.tenant.suspended:
        if steps is not None:
            steps.append(Step("suspended", False, f"{index.tenant.slug} is suspended"))
        return Decision("suspended", 403, "Forbidden", tenant=index, connection=connection)
    user, forward, rule = find_user(index, user_part)
    if user is None and not forward:
        if steps is not None:
            steps.append(Step("user", False, f"{user_part!r} is no user or number of {index.tenant.slug}"))
        return Decision("unknown-user", 404, "Not Found", tenant=index, connection=connection)
    if steps is not None:
        steps.append(Step(rule, True, f"{user_part!r} leads to {user.extension if user else forward}"))
    return Decision(rule, tenant=index, connection=connection, user=user, forward=forward)


def find_user(index: TenantIndex, user_part: str) -> tuple[User | None, str, str]:
    """User, or what to dial instead, and the rule: "user", "number", or "" for nobody."""
    user = index.user(user_part)
    if user is not None:
        return user, "", "user"
    number = index.number(user_part)
    if number is None:
        return None, "", ""
    if number.user:
        user = index.users_by_id.get(number.user)
        return user, "", "number" if user else ""
    return None, number.forward, "number"


@dataclass(frozen=True, slots=True)
class Dialled:
    """Where a number that a user dialled goes: to `user`, to `forward`, or as `number` to `connection`."""

    rule: str
    status: int = 0
    user: User | None = None
    forward: str = ""
    connection: Connection | None = None
    number: str = ""


def decide_dialled(index: TenantIndex, dialled: str) -> Dialled:
    """Own users, own numbers, then the outbound rules, then the default connection; else 404."""
    user, forward, rule = find_user(index, dialled)
    if user is not None or forward:
        return Dialled(rule, user=user, forward=forward)
    if not dialled:
        return Dialled("no-number", 404)
    return decide_outbound(index, dialled)


def decide_outbound(index: TenantIndex, dialled: str) -> Dialled:
    """The connection that the tenant's rules pick, and the number as it is sent there."""
    for outbound in index.tenant.outbound:
        connection = index.connections.get(outbound.connection)
        if connection is not None and dialled.startswith(outbound.prefix):
            return Dialled("outbound", connection=connection, number=rewrite(outbound, dialled))
    connection = index.connections.get(index.tenant.default_connection)
    if connection is not None:
        return Dialled("default-connection", connection=connection, number=dialled)
    return Dialled("no-route", 404)


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
