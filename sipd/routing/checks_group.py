"""Checks of a tenant's ring groups, and that an extension or alias reaches one user or group only."""

from __future__ import annotations

from collections.abc import Iterator

from sipd.routing.checks_schedule import check_schedule_of
from sipd.routing.checks_scope import (
    MAX_POSITION,
    Problems,
    Ranges,
    Scope,
    TextChecks,
    check_choices,
    check_ids,
    check_list,
    check_ranges,
    check_texts,
)
from sipd.routing.checks_text import display_name_fault, extension_fault, id_fault
from sipd.routing.model import (
    GROUP_STRATEGIES,
    MAX_MEMBERS,
    MAX_RING_SECONDS,
    MIN_RING_SECONDS,
    Group,
    User,
)
from sipd.routing.problem import Spot, show

GROUP_TEXTS: TextChecks = (("id", id_fault), ("extension", extension_fault), ("name", display_name_fault))
GROUP_RANGES: Ranges = (
    ("member_seconds", MIN_RING_SECONDS, MAX_RING_SECONDS, "seconds of ringing at each member"),
    ("ring_seconds", MIN_RING_SECONDS, MAX_RING_SECONDS, "seconds of ringing"),
)


def check_groups(scope: Scope) -> Problems:
    yield from check_ids(scope, "groups", scope.tenant.groups, "extension")
    for index, group in enumerate(scope.tenant.groups):
        spot = scope.group_spot(group, index)
        yield from check_texts(spot, group, GROUP_TEXTS)
        yield from check_ranges(spot, group, GROUP_RANGES)
        yield from check_choices(spot, group, (("strategy", GROUP_STRATEGIES),))
        yield from check_list(spot, "aliases", group.aliases, extension_fault)
        yield from check_schedule_of(spot, group, scope)
        yield from _check_members(spot, group, scope)
        if group.strategy != "all" and group.member_seconds > group.ring_seconds:
            yield spot.at("member_seconds").warning(
                f"Each member rings for {show(group.member_seconds)} seconds, and the group for "
                f"{show(group.ring_seconds)}, so only the first one rings. Give the group more."
            )


def _check_members(spot: Spot, group: Group, scope: Scope) -> Problems:
    count = len(group.members)
    if count > MAX_MEMBERS:
        yield spot.at("members").error(f"There are {count} members; the limit is {MAX_MEMBERS}. Remove some.")
    if group.enabled and not count:
        yield spot.at("members").warning("This group has no members, so nobody rings. Add some, or disable the group.")
    seen: set[str] = set()
    for index, member in enumerate(group.members):
        entry = spot.entry("members", member.user, index)
        yield from check_ranges(entry, member, (("position", 0, MAX_POSITION, "a position"),))
        user = scope.dialled.users_by_id.get(member.user)
        if user is None:
            yield entry.at("user").error(f"{show(member.user)} is no user of this tenant; choose one that is.")
        elif member.user in seen:
            yield entry.at("user").error(f"{show(user.extension)} is in this group twice; remove one.")
        elif group.enabled and not user.enabled:
            yield entry.at("user").warning(
                f"{show(user.extension)} is disabled and does not ring. Enable the user, or remove it from the group."
            )
        seen.add(member.user)


def check_user_parts(scope: Scope) -> Problems:
    """An extension or alias reaches one user or group only. Extensions count before aliases."""
    stations = list(_stations(scope))
    taken: dict[str, User | Group] = {}
    for spot, station in stations:
        other = taken.setdefault(station.extension, station)
        if other is not station:
            yield spot.at("extension").error(_taken(station.extension, other))
    for spot, station in stations:
        for place, alias in enumerate(station.aliases):
            other = taken.setdefault(alias, station)
            if other is not station or alias == station.extension:
                yield spot.entry("aliases", None, place).error(_taken(alias, other))


def _stations(scope: Scope) -> Iterator[tuple[Spot, User | Group]]:
    for index, user in enumerate(scope.tenant.users):
        yield scope.user_spot(user, index), user
    for index, group in enumerate(scope.tenant.groups):
        yield scope.group_spot(group, index), group


def _taken(user_part: str, other: User | Group) -> str:
    kind = "the extension" if user_part == other.extension else "an alias"
    whose = "the group " if isinstance(other, Group) else ""
    name = show(other.name or other.extension)
    return f"{show(user_part)} is {kind} of {whose}{name} already; choose one that is free."
