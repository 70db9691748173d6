"""Checks of a tenant's numbers, and of the forwards of all that can be called."""

from __future__ import annotations

from collections.abc import Iterable

from sipd.routing.checks_forward import Key, Station, check_loops, key_of, name_of
from sipd.routing.checks_schedule import check_schedule_of
from sipd.routing.checks_scope import (
    Problems,
    Scope,
    check_ids,
    check_texts,
)
from sipd.routing.checks_text import dial_fault, id_fault, number_fault
from sipd.routing.model import Group, Number, User
from sipd.routing.problem import Spot, show

FORWARDS = ("forward_always", "forward_busy", "forward_no_answer", "forward_unreachable", "forward_closed")
GROUP_FORWARDS = ("forward_no_answer", "forward_closed")
NUMBER_FORWARDS = ("forward", "forward_closed")
DESTINATIONS = ("user", "group", "forward")


def check_numbers(scope: Scope) -> Problems:
    yield from check_ids(scope, "numbers", scope.tenant.numbers, "number")
    taken: dict[str, Number] = {}
    for index, number in enumerate(scope.tenant.numbers):
        spot = scope.number_spot(number, index)
        yield from check_texts(spot, number, (("id", id_fault), ("number", number_fault)))
        digits = number.number.lstrip("+")
        if taken.setdefault(digits, number) is not number:
            yield spot.at("number").error(
                f"{show(number.number)} is there twice (a leading + makes no difference); remove one."
            )
        yield from _check_destination(spot, number, scope)
        yield from check_schedule_of(spot, number, scope)
        yield from _check_hidden(spot, number, scope)


def _check_hidden(spot: Spot, number: Number, scope: Scope) -> Problems:
    """Users and groups go before numbers."""
    digits = number.number.lstrip("+")
    for text in (digits, "+" + digits):
        other = scope.dialled.find(text)
        if isinstance(other, Number) or other is None or other.id == _rung(number, other):
            continue
        kind = "the group " if isinstance(other, Group) else ""
        yield spot.at("number").error(
            f"{show(number.number)} is also the extension or an alias of {kind}{show(other.extension)}, which would "
            "get its calls. Change one of them."
        )


def _rung(number: Number, other: User | Group) -> str:
    """Id of what the number rings, if it is one of the kind of `other`."""
    return number.user if isinstance(other, User) else number.group


def _check_destination(spot: Spot, number: Number, scope: Scope) -> Problems:
    given = [f"a {name}" for name in DESTINATIONS if getattr(number, name)]
    if len(given) != 1:
        have = {0: "neither a user nor a group nor a forward", 2: f"both {' and '.join(given)}"}
        said = have.get(len(given), "a user, a group and a forward")
        yield spot.at("user").error(f"{show(number.number)} has {said}; give it exactly one.")
    if number.user:
        yield from _check_rung(spot, number, "user", scope.dialled.users_by_id.get(number.user))
    if number.group:
        yield from _check_rung(spot, number, "group", scope.dialled.groups_by_id.get(number.group))


def _check_rung(spot: Spot, number: Number, kind: str, station: User | Group | None) -> Problems:
    if station is None:
        yield spot.at(kind).error(f"{show(getattr(number, kind))} is no {kind} of this tenant; choose one that is.")
    elif not station.enabled:
        named = "the group " if isinstance(station, Group) else ""
        who = "who" if isinstance(station, User) else "which"
        yield spot.at(kind).warning(
            f"{show(number.number)} rings {named}{show(station.extension)}, {who} is disabled, so its calls are "
            f"refused. Enable the {kind} or choose another."
        )


def check_forwards(scope: Scope) -> Problems:
    spots: dict[Key, Spot] = {}
    for index, user in enumerate(scope.tenant.users):
        names = [name for name in FORWARDS if getattr(user, name)]
        if names:
            spots[key_of(user)] = spot = scope.user_spot(user, index)
            yield from _check_each(spot, user, names, scope)
    for index, group in enumerate(scope.tenant.groups):
        spots[key_of(group)] = spot = scope.group_spot(group, index)
        yield from _check_each(spot, group, GROUP_FORWARDS, scope)
    for index, number in enumerate(scope.tenant.numbers):
        spots[key_of(number)] = spot = scope.number_spot(number, index)
        yield from _check_each(spot, number, NUMBER_FORWARDS, scope)
    yield from check_loops(scope.tenant, scope.dialled, spots)


def _check_each(spot: Spot, station: Station, names: Iterable[str], scope: Scope) -> Problems:
    for name in names:
        target = getattr(station, name)
        if target:
            yield from _check_forward(spot.at(name), target, scope)
            yield from _check_account(spot.at(name), station, target, scope)


def _check_account(spot: Spot, station: Station, target: str, scope: Scope) -> Problems:
    """What is forwarded to the outside needs an account to go out with. A number is nobody at a PBX; the account of
    a user whose phone registers there is the phone's, which has no part in a call that is forwarded."""
    if dial_fault(target) or scope.dialled.find(target) is not None:
        return
    if scope.needs_phone(target):
        yield spot.warning(
            f"Calls cannot be forwarded to {show(target)}: the connection that it goes out by wants the password that "
            "only a user's own phone has. Choose a connection that needs no registration for this number, or let the "
            "PBX forward."
        )
    elif isinstance(station, Number) and scope.needs_account(target):
        yield spot.warning(
            f"Calls from a PBX to this number cannot be forwarded to {show(target)}: the connection that it goes out "
            "by wants the account of a user, and a number has none. Let the number ring a user who forwards always, or "
            "choose a connection that needs no registration."
        )


def _check_forward(spot: Spot, target: str, scope: Scope) -> Problems:
    fault = dial_fault(target)
    if fault:
        yield spot.error(fault)
        return
    place = scope.dialled.find(target)
    if isinstance(place, User | Group) and not place.enabled:
        who = "who" if isinstance(place, User) else "a group that"
        yield spot.warning(f"Calls are forwarded to {show(name_of(place))}, {who} is disabled. Choose another.")
    elif place is None and not scope.goes_out(target):
        yield spot.warning(
            f"{show(target)} is nobody of this tenant, and no outbound rule takes it, so forwarded calls are refused. "
            "Correct it, or add a rule."
        )
