"""Who gets this request, and why: the decision order for requests from a PBX, and for dialling.

Pure: the same table and request give the same decision here, in `sipd` and in any other engine. What
depends on live state (bindings, calls in progress) comes after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from sipd.routing.lookup import Compiled, ConnectionRef, TenantIndex
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
    compiled: Compiled, host: str, port: int, transport: str, user: str, domain: str, local_domain: str
) -> Decision:
    """The decision for a request outside a dialog that came from `host`:`port`.

    `user` and `domain` are the Request-URI's, `local_domain` its parameter of that name; "" if absent.
    """
    steps: list[Step] = []
    decision = _from_pbx(compiled, host, port, transport, user, domain, local_domain, steps)
    decision.steps = steps
    return decision


def explain(compiled: Compiled, host: str, port: int, transport: str, uri: str) -> Decision:
    """`decide_from_pbx` for a Request-URI as text, for people who ask who would get a call."""
    user, domain, params = split_uri(uri)
    return decide_from_pbx(compiled, host, port, transport, user, domain, params.get("local-domain", ""))


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


def _from_pbx(
    compiled: Compiled,
    host: str,
    port: int,
    transport: str,
    user: str,
    domain: str,
    local_domain: str,
    steps: list[Step],
) -> Decision:
    refs = compiled.connections_from(host, port, transport)
    steps.append(Step("source", bool(refs), f"{host} over {transport} belongs to {_names(refs)}"))
    if not refs:
        return Decision("unknown-source", 403, "Forbidden")
    ref = None
    refusal = Decision("unknown-domain", 404, "Not Found")
    on = [ref for ref in refs if ref.connection.multi_tenant]
    off = [ref for ref in refs if not ref.connection.multi_tenant]
    if on:
        ref, refusal = _by_domain(compiled, on, domain, steps)
    if ref is None and off and (not on or local_domain or refusal.warning):
        ref, refusal = _by_source(off, local_domain, steps)
    if ref is None:
        return refusal
    return _in_tenant(ref, user, steps)


def _by_domain(
    compiled: Compiled, refs: list[ConnectionRef], domain: str, steps: list[Step]
) -> tuple[ConnectionRef | None, Decision]:
    """Mode on: the Request-URI's host is the key. Unknown and foreign domains look the same."""
    index = compiled.tenant_of(domain)
    for ref in refs:
        if ref.tenant is index:
            steps.append(Step("domain", True, f"{domain} is {index.tenant.slug}'s, connected from this source"))
            return ref, Decision("domain")
    if compiled.names_no_domain(domain):
        steps.append(Step("domain", False, f"{domain} names no tenant"))
        return None, Decision("no-domain", 404, "Not Found", NO_DOMAIN)
    steps.append(Step("domain", False, f"{domain} is no domain of a tenant that is connected from this source"))
    return None, Decision("unknown-domain", 404, "Not Found")


def _by_source(
    refs: list[ConnectionRef], local_domain: str, steps: list[Step]
) -> tuple[ConnectionRef | None, Decision]:
    """Mode off: the local-domain parameter, else the only tenant from this source."""
    if local_domain:
        for ref in refs:
            if local_domain.lower() in ref.tenant.tenant.domains:
                steps.append(Step("local-domain", True, f"{local_domain} is {ref.tenant.tenant.slug}'s"))
                return ref, Decision("local-domain")
        steps.append(Step("local-domain", False, f"{local_domain} is no tenant's with mode off from this source"))
    tenants = {ref.tenant.tenant.id for ref in refs}
    if len(tenants) == 1:
        steps.append(Step("only-tenant", True, f"{refs[0].tenant.tenant.slug} is the only tenant from this source"))
        return refs[0], Decision("only-tenant")
    steps.append(Step("only-tenant", False, f"{len(tenants)} tenants with mode off share this source"))
    return None, Decision("ambiguous", 404, "Not Found", AMBIGUOUS)


def _in_tenant(ref: ConnectionRef, user_part: str, steps: list[Step]) -> Decision:
    """Suspension comes before the user: a suspended tenant tells nothing about who is in it."""
    index, connection = ref
    if index.tenant.suspended:
        steps.append(Step("suspended", False, f"{index.tenant.slug} is suspended"))
        return Decision("suspended", 403, "Forbidden", tenant=index, connection=connection)
    user, forward, rule = find_user(index, user_part)
    if user is None and not forward:
        steps.append(Step("user", False, f"{user_part!r} is no user or number of {index.tenant.slug}"))
        return Decision("unknown-user", 404, "Not Found", tenant=index, connection=connection)
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


def _names(refs: list[ConnectionRef]) -> str:
    if not refs:
        return "no connection"
    return ", ".join(_name(ref) for ref in refs)


def _name(ref: ConnectionRef) -> str:
    mode = "on" if ref.connection.multi_tenant else "off"
    return f"{ref.tenant.tenant.slug}/{ref.connection.name} (mode {mode})"
