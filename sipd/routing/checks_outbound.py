"""Checks of a tenant's outbound rules: what they match, where they lead, and which are never used."""

from __future__ import annotations

from sipd.routing.checks_scope import (
    MAX_POSITION,
    Problems,
    Ranges,
    Scope,
    TextChecks,
    check_ids,
    check_ranges,
    check_texts,
    compiled_rule,
    reference_fault,
)
from sipd.routing.checks_text import digits_fault, id_fault, pattern_fault
from sipd.routing.lookup import Rule
from sipd.routing.model import MAX_USER_PART, OutboundRule
from sipd.routing.pattern import Pattern, of_prefix
from sipd.routing.problem import Problem, Spot, show

RULE_TEXTS: TextChecks = (
    ("id", id_fault),
    ("prefix", digits_fault),
    ("pattern", pattern_fault),
    ("prepend", digits_fault),
)
RULE_RANGES: Ranges = (
    ("position", 0, MAX_POSITION, "a position"),
    ("strip", 0, MAX_USER_PART, "characters to remove"),
)
MAX_COMPARED = 200
"""Earlier rules that a pattern is compared with, so that the cost grows with the table and not with its square."""


def check_outbound(scope: Scope) -> Problems:
    yield from check_ids(scope, "outbound", scope.tenant.outbound, "id")
    earlier = _Earlier()
    places = {id(rule): index for index, rule in enumerate(scope.tenant.outbound)}
    for rule in sorted(scope.tenant.outbound, key=lambda rule: (rule.position, rule.id)):
        spot = scope.spot.of_item("outbound", rule.id, places[id(rule)], rule.id)
        yield from check_texts(spot, rule, RULE_TEXTS)
        yield from check_ranges(spot, rule, RULE_RANGES)
        yield from _check_connection(spot, rule, scope)
        if rule.fallback:
            yield from _check_fallback(spot, rule, scope)
        compiled = compiled_rule(rule)
        if compiled is None or not {rule.connection, rule.fallback} & scope.used:
            continue
        if rule.prefix and compiled.pattern is not None:
            yield _both(spot, rule, compiled.pattern)
        yield from _check_shadow(spot, compiled, earlier)
        earlier.add(compiled)


def _check_connection(spot: Spot, rule: OutboundRule, scope: Scope) -> Problems:
    fault = reference_fault(rule.connection, scope)
    if fault:
        yield spot.at("connection").error(fault)
    elif rule.connection not in scope.used:
        what = "its calls go to the fall-back" if rule.fallback in scope.used else "the rule is passed over"
        yield spot.at("connection").warning(
            f"The connection of this rule is disabled, so {what}. Enable it or choose another."
        )


def _check_fallback(spot: Spot, rule: OutboundRule, scope: Scope) -> Problems:
    fault = reference_fault(rule.fallback, scope)
    if fault:
        yield spot.at("fallback").error(fault)
    elif rule.fallback == rule.connection:
        yield spot.at("fallback").error(
            "The fall-back is the connection of this rule itself; choose another, or remove it."
        )
    elif rule.fallback not in scope.used:
        yield spot.at("fallback").warning(
            "The fall-back of this rule is disabled, so that there is none. Enable it or choose another."
        )


class _Earlier:
    """Rules that are tried before, without those that have both a prefix and a pattern."""

    def __init__(self) -> None:
        self.prefixes: dict[str, OutboundRule] = {}
        self.patterns: list[tuple[Pattern, OutboundRule]] = []

    def add(self, rule: Rule) -> None:
        outbound = rule.outbound
        if rule.pattern is None:
            self.prefixes.setdefault(outbound.prefix, outbound)
        if len(self.patterns) < MAX_COMPARED and not (rule.pattern is not None and outbound.prefix):
            self.patterns.append((rule.pattern or of_prefix(outbound.prefix), outbound))

    def covering(self, rule: Rule) -> OutboundRule | None:
        """The first found that takes all that `rule` takes."""
        prefix = rule.outbound.prefix
        for end in range(min(len(prefix), MAX_USER_PART) + 1):
            if prefix[:end] in self.prefixes:
                return self.prefixes[prefix[:end]]
        mine = rule.pattern or of_prefix(prefix)
        return next((outbound for pattern, outbound in self.patterns if pattern.covers(mine)), None)


def _check_shadow(spot: Spot, rule: Rule, earlier: _Earlier) -> Problems:
    before = earlier.covering(rule)
    if before is not None:
        field = "pattern" if rule.pattern is not None else "prefix"
        yield spot.at(field).warning(
            f"This rule for {show(rule.outbound.pattern or rule.outbound.prefix)} is never used: the one at position "
            f"{before.position} for {show(before.pattern or before.prefix)} takes all its calls. "
            "Move this one before it."
        )


def _both(spot: Spot, rule: OutboundRule, pattern: Pattern) -> Problem:
    both = zip(rule.prefix, pattern.items, strict=False)
    apart = any(character not in item for character, item in both)
    if apart or (not pattern.end and len(rule.prefix) > len(pattern.items)):
        return spot.at("pattern").warning(
            f"This rule is never used: no number begins with {show(rule.prefix)} and matches {show(rule.pattern)} "
            "in whole. The pattern takes the prefix, too; write it into the pattern."
        )
    return spot.at("pattern").warning(
        f"This rule has the prefix {show(rule.prefix)} and the pattern {show(rule.pattern)}, and takes only numbers "
        "that fit both. Write the prefix into the pattern, and leave it out."
    )
