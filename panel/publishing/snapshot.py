"""From rows to the routing table: pure, and the same rows give the same bytes whatever their order.

SIP passwords never go into a table: an engine gets the digest HA1 only (RFC 7616 section 3.4.2), sealed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from panel import models
from panel.models.base import Row
from sipd.routing import model

MAX_PORT_DIGITS = 5


class Sealer(Protocol):
    """What `panel.secrets.Vault` offers."""

    def seal(self, place: Sequence[str], secret: str) -> str: ...

    def unseal(self, place: Sequence[str], sealed: str) -> str: ...


@dataclass(frozen=True, slots=True)
class TenantRows:
    """All rows of one tenant that its part is made of."""

    tenant: models.Tenant
    domains: Sequence[models.Domain] = ()
    users: Sequence[models.User] = ()
    connections: Sequence[models.Connection] = ()
    accounts: Sequence[models.UpstreamAccount] = ()
    numbers: Sequence[models.Number] = ()
    rules: Sequence[models.OutboundRule] = ()
    groups: Sequence[models.Group] = ()
    members: Sequence[models.GroupMember] = ()
    schedules: Sequence[models.Schedule] = ()
    guards: Sequence[models.Guard] = ()


def installation_part(
    platform_domain: str,
    edge_hosts: Iterable[str],
    guards: Iterable[models.InstallationGuard] = (),
    rules: Sequence[models.SourceRule] = (),
) -> model.Installation:
    """The part that belongs to no tenant."""
    return model.Installation(
        platform_domain,
        tuple(sorted(set(edge_hosts))),
        guards=tuple(model.Guard(row.id, row.prefix, row.calls_per_hour) for row in sorted(guards, key=_id)),
        allowed=tuple(sorted(rule.network for rule in rules if rule.kind == "allowed")),
        blocked=tuple(sorted(rule.network for rule in rules if rule.kind == "blocked")),
    )


def tenant_part(rows: TenantRows, vault: Sealer) -> model.Tenant:
    """One tenant's part. Raises `SealError` if a secret was sealed with another key."""
    tenant = rows.tenant
    primary = next((domain.name for domain in rows.domains if domain.is_primary), "")
    accounts: dict[str, list[models.UpstreamAccount]] = defaultdict(list)
    relayed = {connection.id for connection in rows.connections if connection.strategy == "relay"}
    for account in rows.accounts:
        accounts[account.user_id].append(account)
    members: dict[str, list[models.GroupMember]] = defaultdict(list)
    for member in rows.members:
        members[member.group_id].append(member)
    return model.Tenant(
        id=tenant.id,
        slug=tenant.slug,
        name=tenant.name,
        suspended=tenant.status == "suspended",
        primary_domain=primary,
        alias_domains=tuple(sorted(domain.name for domain in rows.domains if not domain.is_primary)),
        users=tuple(_user(user, primary, accounts[user.id], relayed, vault) for user in sorted(rows.users, key=_id)),
        connections=tuple(_connection(connection) for connection in sorted(rows.connections, key=_id)),
        groups=tuple(_group(group, members[group.id]) for group in sorted(rows.groups, key=_id)),
        schedules=tuple(schedule_of(schedule) for schedule in sorted(rows.schedules, key=_id)),
        numbers=tuple(_number(number) for number in sorted(rows.numbers, key=_id)),
        outbound=tuple(_rule(rule) for rule in sorted(rows.rules, key=lambda rule: (rule.position, rule.id))),
        default_connection=tenant.default_connection_id or "",
        caller_id=tenant.caller_id,
        limits=model.Limits(tenant.limit_calls, tenant.limit_calls_per_second),
        guards=tuple(guard_of(guard) for guard in sorted(rows.guards, key=_id)),
    )


def ha1(algorithm: str, username: str, realm: str, password: str) -> str:
    """`algorithm` is "md5" or "sha256"; lower-case hex."""
    text = f"{username}:{realm}:{password}".encode()
    return hashlib.new(algorithm, text, usedforsecurity=False).hexdigest()


def _id(row: Row) -> str:
    return row.id


def _user(
    user: models.User,
    realm: str,
    accounts: Iterable[models.UpstreamAccount],
    relayed: Collection[str],
    vault: Sealer,
) -> model.User:
    password = vault.unseal((user.tenant_id, user.id, "sip_password"), user.sip_password)
    return model.User(
        id=user.id,
        extension=user.extension,
        name=user.name,
        enabled=user.enabled,
        ha1_md5=_sealed_ha1("md5", user, realm, password, vault),
        ha1_sha256=_sealed_ha1("sha256", user, realm, password, vault),
        aliases=tuple(sorted(user.aliases)),
        upstream=tuple(
            _account(account, account.connection_id in relayed, vault)
            for account in sorted(accounts, key=lambda a: a.connection_id)
        ),
        forward_always=user.forward_always,
        forward_busy=user.forward_busy,
        forward_no_answer=user.forward_no_answer,
        forward_unreachable=user.forward_unreachable,
        do_not_disturb=user.do_not_disturb,
        schedule=user.schedule_id or "",
        forward_closed=user.forward_closed,
        fork=user.fork,
        serial_seconds=user.serial_seconds,
        ring_seconds=user.ring_seconds,
        max_bindings=user.max_bindings,
        caller_id=user.caller_id,
        hide_caller_id=user.hide_caller_id,
        limits=model.Limits(user.limit_calls),
    )


def _sealed_ha1(algorithm: str, user: models.User, realm: str, password: str, vault: Sealer) -> str:
    if not password:
        return ""
    place = (user.tenant_id, user.id, f"ha1_{algorithm}")
    return vault.seal(place, ha1(algorithm, user.extension, realm, password))


def _account(account: models.UpstreamAccount, relayed: bool, vault: Sealer) -> model.UpstreamAccount:
    """Where the phone has the password, the engine needs none, though the row may keep one from before."""
    place = (account.tenant_id, account.user_id, account.connection_id)
    password = "" if relayed else vault.unseal((*place, "upstream_password"), account.password)
    return model.UpstreamAccount(
        connection=account.connection_id,
        username=account.username,
        auth_username=account.auth_username,
        password=vault.seal((*place, "upstream"), password),
    )


def _connection(connection: models.Connection) -> model.Connection:
    return model.Connection(
        id=connection.id,
        name=connection.name,
        enabled=connection.enabled,
        multi_tenant=connection.multi_tenant,
        registrar_domain=connection.registrar_domain,
        host=connection.host,
        port=connection.port,
        transport=connection.transport,
        outbound_proxy=connection.outbound_proxy,
        sources=tuple(sorted(connection.sources)),
        strategy=connection.strategy,
        expires=connection.expires,
        internal_calls=connection.internal_calls,
        tls_verify=connection.tls_verify,
        tls_client=connection.tls_client,
        caller_id=connection.caller_id,
        alternates=tuple(alternate_of(text, turn) for turn, text in enumerate(connection.alternates)),
        media=connection.media,
        limits=model.Limits(connection.limit_calls, connection.limit_calls_per_second),
    )


def alternate_of(text: str, position: int) -> model.Alternate:
    """`host`, `host:port`, an IPv6 address alone, or `[address]:port`; without a port it is 0.

    What is after the last colon and no number stays in the host, for the checks to find.
    """
    host, colon, port = text.rpartition(":")
    if (
        colon
        and port.isascii()
        and port.isdigit()
        and len(port) <= MAX_PORT_DIGITS
        and (":" not in host or "]" in host)
    ):
        return model.Alternate(position, host.removeprefix("[").removesuffix("]"), int(port))
    return model.Alternate(position, text.removeprefix("[").removesuffix("]"), 0)


def _group(group: models.Group, members: Iterable[models.GroupMember]) -> model.Group:
    turns = sorted(members, key=lambda member: (member.position, member.user_id))
    return model.Group(
        id=group.id,
        extension=group.extension,
        name=group.name,
        enabled=group.enabled,
        strategy=group.strategy,
        members=tuple(model.Member(member.position, member.user_id) for member in turns),
        member_seconds=group.member_seconds,
        ring_seconds=group.ring_seconds,
        forward_no_answer=group.forward_no_answer,
        schedule=group.schedule_id or "",
        forward_closed=group.forward_closed,
        aliases=tuple(sorted(group.aliases)),
    )


def schedule_of(schedule: models.Schedule) -> model.Schedule:
    """Business hours as the table has them."""
    return model.Schedule(
        id=schedule.id,
        name=schedule.name,
        time_zone=schedule.time_zone,
        openings=tuple(_opening(text) for text in sorted(schedule.openings)),
        holidays=tuple(sorted(schedule.holidays)),
    )


def _opening(text: str) -> model.Opening:
    """`0 09:00-12:30`, as the row holds it."""
    day, _, hours = text.partition(" ")
    opens, _, closes = hours.partition("-")
    return model.Opening(int(day), opens, closes)


def guard_of(guard: models.Guard) -> model.Guard:
    """A tenant's guard as the table has it."""
    return model.Guard(guard.id, guard.prefix, guard.calls_per_hour, guard.schedule_id or "")


def _number(number: models.Number) -> model.Number:
    return model.Number(
        id=number.id,
        number=number.number,
        user=number.user_id or "",
        group=number.group_id or "",
        forward=number.forward,
        schedule=number.schedule_id or "",
        forward_closed=number.forward_closed,
    )


def _rule(rule: models.OutboundRule) -> model.OutboundRule:
    return model.OutboundRule(
        id=rule.id,
        position=rule.position,
        prefix=rule.prefix,
        strip=rule.strip,
        prepend=rule.prepend,
        connection=rule.connection_id,
        pattern=rule.pattern,
        fallback=rule.fallback_id or "",
    )
