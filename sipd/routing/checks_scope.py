"""A tenant as its checks see it, and the small checks that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

from sipd.routing.checks_forward import Dialled
from sipd.routing.model import MAX_CALLS, MAX_CALLS_PER_SECOND, Installation, Limits, Number, Tenant, User
from sipd.routing.problem import Problem, Spot, show

Problems = Iterator[Problem]
TextChecks = tuple[tuple[str, Callable[[str], str]], ...]
"""Fields and the check of each."""
Ranges = tuple[tuple[str, int, int, str], ...]
"""Fields, the lowest and highest value of each, and what it counts."""

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
    def prefixes(self) -> tuple[str, ...]:
        """What outbound rules match that have a connection in use; all, if there is a default connection."""
        used = {c.id for c in self.tenant.connections if c.enabled}
        rules = tuple(rule.prefix for rule in self.tenant.outbound if rule.connection in used)
        return (*rules, "") if self.tenant.default_connection in used else rules

    def user_spot(self, user: User, index: int) -> Spot:
        return self.spot.of_item("users", user.extension, index, user.id)

    def number_spot(self, number: Number, index: int) -> Spot:
        return self.spot.of_item("numbers", number.number, index, number.id)


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
