"""Checks of a tenant's numbers, outbound rules and forwards."""

from __future__ import annotations

from sipd.routing.checks_forward import Key, check_loops, key_of, name_of
from sipd.routing.checks_scope import (
    Problems,
    Ranges,
    Scope,
    TextChecks,
    check_ids,
    check_ranges,
    check_texts,
    reference_fault,
)
from sipd.routing.checks_text import dial_fault, digits_fault, id_fault, number_fault
from sipd.routing.model import MAX_USER_PART, Number, OutboundRule, User
from sipd.routing.problem import Spot, show

MAX_POSITION = 1_000_000
FORWARDS = ("forward_always", "forward_busy", "forward_no_answer", "forward_unreachable")
RULE_TEXTS: TextChecks = (("id", id_fault), ("prefix", digits_fault), ("prepend", digits_fault))
RULE_RANGES: Ranges = (
    ("position", 0, MAX_POSITION, "a position"),
    ("strip", 0, MAX_USER_PART, "characters to remove"),
)


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
        for text in (digits, "+" + digits):
            user = scope.dialled.find(text)
            if isinstance(user, User) and user.id != number.user:
                yield spot.at("number").error(
                    f"{show(number.number)} is also the extension or an alias of {show(user.extension)}, which would "
                    "get its calls. Change one of them."
                )


def _check_destination(spot: Spot, number: Number, scope: Scope) -> Problems:
    if bool(number.user) == bool(number.forward):
        have = "both a user and a forward" if number.user else "neither a user nor a forward"
        yield spot.at("user").error(f"{show(number.number)} has {have}; give it exactly one.")
    if not number.user:
        return
    user = scope.dialled.users_by_id.get(number.user)
    if user is None:
        yield spot.at("user").error(f"{show(number.user)} is no user of this tenant; choose one that is.")
    elif not user.enabled:
        yield spot.at("user").warning(
            f"{show(number.number)} rings {show(user.extension)}, who is disabled, so its calls are refused. "
            "Enable the user or choose another."
        )


def check_outbound(scope: Scope) -> Problems:
    yield from check_ids(scope, "outbound", scope.tenant.outbound, "id")
    earlier: dict[str, OutboundRule] = {}
    places = {id(rule): index for index, rule in enumerate(scope.tenant.outbound)}
    for rule in sorted(scope.tenant.outbound, key=lambda rule: (rule.position, rule.id)):
        spot = scope.spot.of_item("outbound", rule.id, places[id(rule)], rule.id)
        yield from check_texts(spot, rule, RULE_TEXTS)
        yield from check_ranges(spot, rule, RULE_RANGES)
        fault = reference_fault(rule.connection, scope)
        if fault:
            yield spot.at("connection").error(fault)
        elif not scope.connections[rule.connection].enabled:
            yield spot.at("connection").warning(
                "The connection of this rule is disabled, so the rule is passed over. Enable it or choose another."
            )
        else:
            yield from _check_shadow(spot, rule, earlier)


def _check_shadow(spot: Spot, rule: OutboundRule, earlier: dict[str, OutboundRule]) -> Problems:
    """`earlier` holds, by prefix, the rules that are tried before; it gets this one."""
    for end in range(min(len(rule.prefix), MAX_USER_PART) + 1):
        before = earlier.get(rule.prefix[:end])
        if before is not None:
            yield spot.at("prefix").warning(
                f"This rule for {show(rule.prefix)} is never used: the one at position {before.position} for "
                f"{show(before.prefix)} takes all its calls. Move this one before it."
            )
            break
    earlier.setdefault(rule.prefix, rule)


def check_forwards(scope: Scope) -> Problems:
    spots: dict[Key, Spot] = {}
    for index, user in enumerate(scope.tenant.users):
        names = [name for name in FORWARDS if getattr(user, name)]
        if names:
            spots[key_of(user)] = spot = scope.user_spot(user, index)
            for name in names:
                yield from _check_forward(spot.at(name), getattr(user, name), scope)
    for index, number in enumerate(scope.tenant.numbers):
        spots[key_of(number)] = spot = scope.number_spot(number, index)
        if number.forward:
            yield from _check_forward(spot.at("forward"), number.forward, scope)
    yield from check_loops(scope.tenant, scope.dialled, spots)


def _check_forward(spot: Spot, target: str, scope: Scope) -> Problems:
    fault = dial_fault(target)
    if fault:
        yield spot.error(fault)
        return
    place = scope.dialled.find(target)
    if isinstance(place, User) and not place.enabled:
        yield spot.warning(f"Calls are forwarded to {show(name_of(place))}, who is disabled. Choose another.")
    elif place is None and not any(target.startswith(prefix) for prefix in scope.prefixes):
        yield spot.warning(
            f"{show(target)} is nobody of this tenant, and no outbound rule takes it, so forwarded calls are refused. "
            "Correct it, or add a rule."
        )
