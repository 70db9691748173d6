"""What changes between two tables, in telephony's words: who, what, before and after.

Pure. Secrets are compared, and only ever shown as "changed".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from sipd.routing.hours import DAYS
from sipd.routing.model import (
    Alternate,
    Connection,
    Group,
    Guard,
    Installation,
    Limits,
    Member,
    Number,
    Opening,
    OutboundRule,
    Schedule,
    Table,
    Tenant,
    UpstreamAccount,
    User,
)

MAX_SHOWN = 500
"""Changes on one page; a page says how many more there are."""

CHANGED = "changed"

Names = Mapping[str, str]
"""Id to what a person calls it: `user 101 (Ann)`, `connection Main PBX`."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One field: `label` was `before` and becomes `after`; for secrets both are empty and `note` says "changed"."""

    label: str
    before: str = ""
    after: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that appears, goes or becomes different."""

    tenant_id: str
    """Empty: the installation."""
    tenant: str
    """Name of the tenant."""
    verb: str
    """"added", "removed" or "changed"."""
    subject: str
    details: tuple[Detail, ...] = ()


def diff_tables(old: Table | None, new: Table | None) -> list[Change]:
    """All changes from `old` to `new`, the installation first, tenants by name."""
    changes = diff_installations(old.installation if old else None, new.installation if new else None)
    before = {tenant.id: tenant for tenant in old.tenants} if old else {}
    after = {tenant.id: tenant for tenant in new.tenants} if new else {}
    both = {**before, **after}
    for tenant in sorted(both.values(), key=lambda item: (item.name, item.id)):
        changes += diff_tenants(before.get(tenant.id), after.get(tenant.id))
    return changes


def diff_installations(old: Installation | None, new: Installation | None) -> list[Change]:
    """Changes to what belongs to no tenant."""
    if old == new:
        return []
    if old is None or new is None:
        return [Change("", "", "added" if old is None else "removed", "installation")]
    before, after = names_of(old), names_of(new)
    changes: list[Change] = []
    if details := tuple(_details(old, new, _INSTALLATION, before, after)):
        changes.append(Change("", "", "changed", "installation", details))
    return [*changes, *_collection("", "", old.guards, new.guards, _GUARD, before, after)]


def diff_tenants(old: Tenant | None, new: Tenant | None) -> list[Change]:
    """Changes of one tenant: itself, then its connections, users, groups, schedules, numbers, rules and guards."""
    tenant = new or old
    if tenant is None or old == new:
        return []
    before, after = names_of(old), names_of(new)
    changes: list[Change] = []
    if old is None or new is None:
        changes.append(Change(tenant.id, tenant.name, "added" if old is None else "removed", f"tenant {tenant.name}"))
        if new is None:
            return changes
    elif details := tuple(_details(old, new, _TENANT, before, after)):
        changes.append(Change(tenant.id, tenant.name, "changed", f"tenant {tenant.name}", details))
    for collection, labels in _COLLECTIONS:
        changes += _collection(tenant.id, tenant.name, collection(old), collection(new), labels, before, after)
    return changes


def summary(changes: Iterable[Change], limit: int = 3) -> str:
    """One line: the first few changes, and how many more."""
    every = list(changes)
    if not every:
        return "nothing changed"
    text = "; ".join(f"{change.subject} {change.verb}" for change in every[:limit])
    return text if len(every) <= limit else f"{text}; and {len(every) - limit} more"


# How values are said

Say = Callable[[object, Names], str]


def _plain(value: object, names: Names) -> str:
    return "" if value is None else str(value)


def _switch(value: object, names: Names) -> str:
    return "on" if value else "off"


def _list(value: object, names: Names) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _name(value: object, names: Names) -> str:
    return names.get(str(value), str(value))


def _seconds(value: object, names: Names) -> str:
    return f"{value} s"


def _port(value: object, names: Names) -> str:
    return str(value) if value else "default"


def _limit(value: object, names: Names) -> str:
    return "no limit" if value is None else str(value)


def _often(value: object, names: Names) -> str:
    return {
        "parallel": "all phones at once",
        "serial": "one phone after the other",
        "all": "all at once",
        "in_turn": "in turn, from the first on",
        "round_robin": "in turn, from the next one on",
    }.get(str(value), str(value))


def _caller_id(value: object, names: Names) -> str:
    return {
        "account": "the account only",
        "from": "in From",
        "asserted": "in P-Asserted-Identity",
        "both": "in From and P-Asserted-Identity",
    }.get(str(value), str(value))


def _transport(value: object, names: Names) -> str:
    return "as DNS says" if value == "auto" else str(value).upper()


def _alternates(value: object, names: Names) -> str:
    places = [each for each in value if isinstance(each, Alternate)] if isinstance(value, tuple) else []
    ordered = sorted(places, key=lambda place: (place.position, place.host, place.port))
    return ", ".join(f"{place.host} port {place.port}" if place.port else place.host for place in ordered)


def _hourly(value: object, names: Names) -> str:
    return {0: "none", 1: "1 call an hour"}.get(value, f"{value} calls an hour") if isinstance(value, int) else ""


def _relayed(value: object, names: Names) -> str:
    return {"direct": "off", "relay": "on"}.get(str(value), str(value))


def _members(value: object, names: Names) -> str:
    members = [each for each in value if isinstance(each, Member)] if isinstance(value, tuple) else []
    turns = sorted(members, key=lambda member: (member.position, member.user))
    return ", ".join(names.get(member.user, member.user) for member in turns)


def _openings(value: object, names: Names) -> str:
    openings = [each for each in value if isinstance(each, Opening)] if isinstance(value, tuple) else []
    return ", ".join(
        f"{_day(each.day)} {each.opens} to {each.closes}"
        for each in sorted(openings, key=lambda each: (each.day, each.opens, each.closes))
    )


def _day(day: int) -> str:
    return DAYS[day] if 0 <= day < len(DAYS) else f"day {day}"


def _internal(value: object, names: Names) -> str:
    return {
        "through_pbx": "through the PBX",
        "direct_when_possible": "direct when the phone is here",
        "always_direct": "always direct",
    }.get(str(value), str(value))


def _strategy(value: object, names: Names) -> str:
    return {
        "on_behalf": "registers each user",
        "relay": "phones register themselves, through the edge",
        "none": "trunk, no registration",
    }.get(str(value), str(value))


_Labels = Mapping[str, tuple[str, Say]]

_LIMITS: _Labels = {"calls": ("calls at once", _limit), "calls_per_second": ("calls per second", _limit)}

_INSTALLATION: _Labels = {
    "platform_domain": ("platform domain", _plain),
    "edge_hosts": ("names and addresses of the edge", _list),
    "allowed": ("networks never banned", _list),
    "blocked": ("networks that get no answer", _list),
}
_TENANT: _Labels = {
    "slug": ("short name", _plain),
    "name": ("name", _plain),
    "suspended": ("suspended", _switch),
    "primary_domain": ("primary domain", _plain),
    "alias_domains": ("further domains", _list),
    "default_connection": ("connection for other calls", _name),
    "caller_id": ("number shown to those called", _plain),
}
_USER: _Labels = {
    "extension": ("extension", _plain),
    "name": ("name", _plain),
    "enabled": ("enabled", _switch),
    "aliases": ("also reached as", _list),
    "forward_always": ("forward always", _plain),
    "forward_busy": ("forward when busy", _plain),
    "forward_no_answer": ("forward when not answered", _plain),
    "forward_unreachable": ("forward when no phone is reachable", _plain),
    "do_not_disturb": ("do not disturb", _switch),
    "schedule": ("business hours", _name),
    "forward_closed": ("forward out of business hours", _plain),
    "fork": ("phones ring", _often),
    "serial_seconds": ("each phone rings for", _seconds),
    "ring_seconds": ("rings for", _seconds),
    "caller_id": ("number shown to those called", _plain),
    "hide_caller_id": ("number hidden", _switch),
    "max_bindings": ("phones at most", _plain),
}
_ACCOUNT: _Labels = {
    "username": ("user at the PBX", _plain),
    "auth_username": ("name for sign-in at the PBX", _plain),
}
_CONNECTION: _Labels = {
    "name": ("name", _plain),
    "enabled": ("enabled", _switch),
    "multi_tenant": ("multi-tenant mode", _switch),
    "registrar_domain": ("registrar domain", _plain),
    "host": ("address", _plain),
    "port": ("port", _port),
    "transport": ("transport", _transport),
    "tls_verify": ("certificate of the PBX checked", _switch),
    "tls_client": ("client certificate asked of the PBX", _plain),
    "outbound_proxy": ("outbound proxy", _plain),
    "sources": ("calls accepted from", _list),
    "strategy": ("registration", _strategy),
    "expires": ("asks for registrations of", _seconds),
    "internal_calls": ("internal calls", _internal),
    "caller_id": ("shows the caller's number", _caller_id),
    "alternates": ("further addresses", _alternates),
    "media": ("media relay", _relayed),
}
_GROUP: _Labels = {
    "extension": ("extension", _plain),
    "name": ("name", _plain),
    "enabled": ("enabled", _switch),
    "aliases": ("also reached as", _list),
    "strategy": ("members ring", _often),
    "members": ("members", _members),
    "member_seconds": ("each member rings for", _seconds),
    "ring_seconds": ("rings for", _seconds),
    "forward_no_answer": ("forward when not answered", _plain),
    "schedule": ("business hours", _name),
    "forward_closed": ("forward out of business hours", _plain),
}
_SCHEDULE: _Labels = {
    "name": ("name", _plain),
    "time_zone": ("time zone", _plain),
    "openings": ("open", _openings),
    "holidays": ("closed on", _list),
}
_NUMBER: _Labels = {
    "number": ("number", _plain),
    "user": ("rings", _name),
    "group": ("rings", _name),
    "forward": ("forwards to", _plain),
    "schedule": ("business hours", _name),
    "forward_closed": ("forward out of business hours", _plain),
}
_RULE: _Labels = {
    "position": ("position", _plain),
    "prefix": ("begins with", _plain),
    "pattern": ("matches", _plain),
    "strip": ("characters removed", _plain),
    "prepend": ("put in front", _plain),
    "connection": ("goes out through", _name),
    "fallback": ("if that fails, through", _name),
}
_GUARD: _Labels = {
    "prefix": ("numbers that begin with", _plain),
    "calls_per_hour": ("each user may make", _hourly),
    "schedule": ("only within", _name),
}

_Item = User | Connection | Group | Schedule | Number | OutboundRule | Guard
_COLLECTIONS: tuple[tuple[Callable[[Tenant | None], tuple[_Item, ...]], _Labels], ...] = (
    (lambda tenant: tenant.connections if tenant else (), _CONNECTION),
    (lambda tenant: tenant.users if tenant else (), _USER),
    (lambda tenant: tenant.groups if tenant else (), _GROUP),
    (lambda tenant: tenant.schedules if tenant else (), _SCHEDULE),
    (lambda tenant: tenant.numbers if tenant else (), _NUMBER),
    (lambda tenant: tenant.outbound if tenant else (), _RULE),
    (lambda tenant: tenant.guards if tenant else (), _GUARD),
)


def _collection(
    tenant_id: str,
    tenant: str,
    old: tuple[_Item, ...],
    new: tuple[_Item, ...],
    labels: _Labels,
    before: Names,
    after: Names,
) -> Iterator[Change]:
    was = {item.id: item for item in old}
    now = {item.id: item for item in new}
    for item in new:
        previous = was.get(item.id)
        if previous is None:
            details = tuple(_first(item, labels, after))
            yield Change(tenant_id, tenant, "added", _subject(item, after), details)
        elif previous != item:
            details = tuple(_details(previous, item, labels, before, after))
            yield Change(tenant_id, tenant, "changed", _subject(item, after), details)
    for item in old:
        if item.id not in now:
            yield Change(tenant_id, tenant, "removed", _subject(item, before))


def _details(old: object, new: object, labels: _Labels, before: Names, after: Names) -> Iterator[Detail]:
    for name, (label, say) in labels.items():
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield Detail(label, say(was, before), say(now, after))
    yield from _limit_details(old, new)
    if isinstance(old, User) and isinstance(new, User):
        if (old.ha1_md5, old.ha1_sha256) != (new.ha1_md5, new.ha1_sha256):
            yield Detail("SIP password", note=CHANGED)
        yield from _account_details(old, new, {**before, **after})


def _limit_details(old: object, new: object) -> Iterator[Detail]:
    was, now = getattr(old, "limits", Limits()), getattr(new, "limits", Limits())
    for name, (label, say) in _LIMITS.items():
        if getattr(was, name) != getattr(now, name):
            yield Detail(label, say(getattr(was, name), {}), say(getattr(now, name), {}))


def _account_details(old: User, new: User, names: Names) -> Iterator[Detail]:
    was = {account.connection: account for account in old.upstream}
    now = {account.connection: account for account in new.upstream}
    for id in sorted({**was, **now}):
        yield from _account_detail(names.get(id, id), was.get(id), now.get(id))


def _account_detail(where: str, old: UpstreamAccount | None, new: UpstreamAccount | None) -> Iterator[Detail]:
    if old is None or new is None:
        label = f"account at {where}"
        yield Detail(label, before=old.username if old else "", after=new.username if new else "")
        return
    for name, (label, say) in _ACCOUNT.items():
        if getattr(old, name) != getattr(new, name):
            yield Detail(f"{label} ({where})", say(getattr(old, name), {}), say(getattr(new, name), {}))
    if old.password != new.password:
        yield Detail(f"password at the PBX ({where})", note=CHANGED)


def _first(item: _Item, labels: _Labels, names: Names) -> Iterator[Detail]:
    """What is worth saying of something new: what differs from the shape's defaults, without secrets."""
    defaults = {shape.name: shape.default for shape in fields(item)}
    guard = isinstance(item, Guard)
    said = {"name", "extension", "number", "enabled", "prefix" if guard else ""}
    for name, (label, say) in labels.items():
        value = getattr(item, name)
        if name not in said and value != defaults[name] and (value or isinstance(value, bool) or guard):
            yield Detail(label, after=say(value, names))
    for account in item.upstream if isinstance(item, User) else ():
        yield from _account_detail(names.get(account.connection, account.connection), None, account)


def _subject(item: _Item, names: Names) -> str:
    return names.get(item.id, item.id)


def names_of(part: Tenant | Installation | None) -> Names:
    """What people call the things of a tenant or the installation, by id."""
    names: dict[str, str] = {}
    if part is None:
        return names
    for guard in part.guards:
        names[guard.id] = f"guard for {guard.prefix}"
    if isinstance(part, Tenant):
        _name_rest(part, names)
    return names


def _name_rest(tenant: Tenant, names: dict[str, str]) -> None:
    for connection in tenant.connections:
        names[connection.id] = f"connection {connection.name}"
    for user in tenant.users:
        names[user.id] = f"user {user.extension} ({user.name})" if user.name else f"user {user.extension}"
    for group in tenant.groups:
        names[group.id] = f"group {group.extension} ({group.name})" if group.name else f"group {group.extension}"
    for schedule in tenant.schedules:
        names[schedule.id] = f"schedule {schedule.name}"
    for number in tenant.numbers:
        names[number.id] = f"number {number.number}"
    for rule in tenant.outbound:
        names[rule.id] = f"outbound rule for {_what(rule)}"


def _what(rule: OutboundRule) -> str:
    return rule.prefix or rule.pattern or "all other calls"
