"""A tenant as its checks see it, and the small checks that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

from sipd.routing.checks_forward import Dialled
from sipd.routing.lookup import Rule
from sipd.routing.model import (
    MAX_CALLS,
    MAX_CALLS_PER_SECOND,
    Group,
    Guard,
    Installation,
    Limits,
    Number,
    OutboundRule,
    Tenant,
    User,
)
from sipd.routing.pattern import parse_pattern
from sipd.routing.problem import Problem, Spot, show

Problems = Iterator[Problem]
TextChecks = tuple[tuple[str, Callable[[str], str]], ...]
"""Fields and the check of each."""
Ranges = tuple[tuple[str, int, int, str], ...]
"""Fields, the lowest and highest value of each, and what it counts."""
Choices = tuple[tuple[str, tuple[str, ...]], ...]
"""Fields, and what each may be."""

MAX_POSITION = 1_000_000
"""Of outbound rules and members."""

LIMIT_RANGES: Ranges = (
    ("calls", 1, MAX_CALLS, "concurrent calls"),
    ("calls_per_second", 1, MAX_CALLS_PER_SECOND, "calls per second"),
)


class Scope:
    """A tenant, with what its checks look up."""

    def __init__(self, tenant: Tenant, installation: Installation, index: int) -> None:
        self.tenant = tenant
        self.installation = installation
        self.spot = Spot().of_tenant(tenant.slug, index, tenant.id)
        self.connections = {connection.id: connection for connection in tenant.connections}
        self.schedules = frozenset(schedule.id for schedule in tenant.schedules)
        self.dialled = Dialled(tenant)

    @cached_property
    def edge_hosts(self) -> frozenset[str]:
        """What leads to the edge itself."""
        installation = self.installation
        return frozenset(host.lower() for host in (installation.platform_domain, *installation.edge_hosts))

    @cached_property
    def registering(self) -> frozenset[str]:
        """Ids of the connections at which the edge registers users."""
        return frozenset(c.id for c in self.tenant.connections if c.enabled and c.strategy == "on_behalf")

    @cached_property
    def relayed(self) -> frozenset[str]:
        """Ids of the connections at which phones register themselves, through the edge."""
        return frozenset(c.id for c in self.tenant.connections if c.enabled and c.strategy == "relay")

    @cached_property
    def _ways_out(self) -> tuple[Rule, ...]:
        """In their order, outbound rules that have a connection in use, without those whose pattern has a fault."""
        ordered = sorted(self.tenant.outbound, key=lambda rule: (rule.position, rule.id))
        rules = (rule for rule in ordered if {rule.connection, rule.fallback} & self.used)
        return tuple(made for rule in rules if (made := compiled_rule(rule)) is not None)

    @cached_property
    def used(self) -> frozenset[str]:
        """Ids of the connections that are enabled."""
        return frozenset(c.id for c in self.tenant.connections if c.enabled)

    def goes_out(self, dialled: str) -> bool:
        """Whether an outbound rule or the default connection takes this number."""
        return self.tenant.default_connection in self.used or any(rule.takes(dialled) for rule in self._ways_out)

    def needs_account(self, dialled: str) -> bool:
        """Whether each way out for this number is a PBX that takes calls of those it knows only."""
        ways = self._ways(dialled)
        return bool(ways) and ways <= self.registering | self.relayed

    def needs_phone(self, dialled: str) -> bool:
        """Whether each way out for this number is a PBX whose challenges only the caller's own phone can answer."""
        ways = self._ways(dialled)
        return bool(ways) and ways <= self.relayed

    def _ways(self, dialled: str) -> frozenset[str]:
        """Ids of the connections in use that take this number out."""
        rule = next((rule for rule in self._ways_out if rule.takes(dialled)), None)
        ways = (rule.outbound.connection, rule.outbound.fallback) if rule else (self.tenant.default_connection,)
        return self.used.intersection(ways)

    def user_spot(self, user: User, index: int) -> Spot:
        return self.spot.of_item("users", user.extension, index, user.id)

    def group_spot(self, group: Group, index: int) -> Spot:
        return self.spot.of_item("groups", group.extension, index, group.id)

    def guard_spot(self, guard: Guard, index: int) -> Spot:
        return self.spot.of_item("guards", guard.prefix, index, guard.id)

    def number_spot(self, number: Number, index: int) -> Spot:
        return self.spot.of_item("numbers", number.number, index, number.id)


def compiled_rule(rule: OutboundRule) -> Rule | None:
    """None if its pattern has a fault."""
    try:
        return Rule(rule, parse_pattern(rule.pattern) if rule.pattern else None)
    except ValueError:
        return None


def check_choices(spot: Spot, item: object, choices: Choices) -> Problems:
    for name, known in choices:
        value = getattr(item, name)
        if value not in known:
            yield spot.at(name).error(f"{show(value)} is not known here; choose one of {', '.join(known)}.")


def check_texts(spot: Spot, item: object, checks: TextChecks) -> Problems:
    for name, check in checks:
        fault = check(getattr(item, name))
        if fault:
            yield spot.at(name).error(fault)


def check_ranges(spot: Spot, item: object, ranges: Ranges) -> Problems:
    for name, low, high, what in ranges:
        value = getattr(item, name)
        if value is not None and not low <= value <= high:
            yield spot.at(name).error(f"{show(value)} is out of range; {what}: {low} to {high}.")


def check_limits(spot: Spot, limits: Limits) -> Problems:
    if limits.calls is not None or limits.calls_per_second is not None:
        yield from check_ranges(spot.at("limits"), limits, LIMIT_RANGES)


def check_list(spot: Spot, name: str, texts: Iterable[str], check: Callable[[str], str]) -> Problems:
    """Each text of a list, and that none is there twice."""
    seen = set()
    for index, text in enumerate(texts):
        fault = check(text)
        if fault:
            yield spot.entry(name, None, index).error(fault)
        elif text in seen:
            yield spot.entry(name, None, index).error(f"{show(text)} is in this list twice; remove one.")
        seen.add(text)


def check_ids(scope: Scope, collection: str, items: Iterable[Any], label: str) -> Problems:
    seen: dict[str, Any] = {}
    for index, item in enumerate(items):
        if item.id in seen:
            spot = scope.spot.of_item(collection, getattr(item, label), index, item.id)
            yield spot.at("id").error(f"The id {show(item.id)} is in {collection} twice; give each its own.")
        seen[item.id] = item


def reference_fault(connection: str, scope: Scope) -> str:
    if connection in scope.connections:
        return ""
    return f"{show(connection)} is no connection of this tenant; choose one that is, or remove this."
