"""What becomes of a number that a user dials, by the rules that are saved, in words.

The decision is the edge's own (`sipd.routing.decision`), on the table that publishing would make now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from panel.publishing import at_hand, checks
from panel.publishing.rows import installation_of
from panel.scope import TenantScope
from sipd.routing.decision import Destination, destination, outbound_routes
from sipd.routing.guards import guards_for
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, Guard, OutboundRule


@dataclass(frozen=True, slots=True)
class Sent:
    """What one PBX is sent."""

    connection: Connection
    number: str

    @property
    def line(self) -> str:
        """The request line (RFC 3261 section 7.1)."""
        host = self.connection.registrar_domain
        return f"INVITE sip:{self.number}@{f'[{host}]' if ':' in host else host} SIP/2.0"


@dataclass(frozen=True, slots=True)
class Guarding:
    """What one guard does to a call now."""

    sentence: str
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """Who decides, and what is sent where, in the order of trying; nothing sent: the call stays here or is refused."""

    sentence: str
    rule_id: str = ""
    """The outbound rule that takes it."""
    sent: tuple[Sent, ...] = ()
    guards: tuple[Guarding, ...] = ()
    """What guards against toll fraud have to say."""

    @property
    def refused(self) -> bool:
        """Whether a guard keeps it from going out now."""
        return any(guard.refuses for guard in self.guards)


def tried(scope: TenantScope, number: str) -> Tried:
    """What happens to `number` if one of the tenant's users dials it now, once all that is saved is live."""
    try:
        index = TenantIndex(checks.part_of(scope))
    except ValueError:
        return Tried("The rules cannot be tried while something that is saved has errors. See what Publish says of it.")
    with_all = installation_of(scope.session, at_hand.config()).guards
    return decided(index, number, time.time(), with_all)


def decided(index: TenantIndex, number: str, at: float, guards_of_all: tuple[Guard, ...] = ()) -> Tried:
    """The same, of a table; pure. `guards_of_all` are the installation's."""
    found = destination(index, number, at)
    if found is not None:
        return Tried(_inside(found, number))
    routes = outbound_routes(index, number)
    if not routes:
        return Tried(f"No rule takes {number}, and there is no connection for other calls: it is refused with 404.")
    rule = _rule(index, number)
    if rule is None:
        said = f"No rule takes {number}: it goes out as other calls do."
    else:
        said = f"The rule at position {rule.position} takes {number}: {_what(rule)}."
    sent = tuple(Sent(connection, changed) for connection, changed in routes)
    numbers = (number, *(each.number for each in sent))
    own = (_guarded(index, guard, at, "Your guard") for guard in index.tenant.guards if _meant(guard, numbers))
    theirs = (_guarded(index, guard, at, "Your provider’s guard") for guard in guards_of_all if _meant(guard, numbers))
    return Tried(said, rule.id if rule else "", sent, (*own, *theirs))


def _meant(guard: Guard, numbers: tuple[str, ...]) -> bool:
    """As it is dialled, or as it goes out."""
    return bool(guards_for([guard], numbers))


def _guarded(index: TenantIndex, guard: Guard, at: float, whose: str) -> Guarding:
    name = f"{whose} for {guard.prefix}"
    if guard.calls_per_hour == 0:
        return Guarding(f"{name} refuses it.", refuses=True)
    if not index.open(guard.schedule, at):
        return Guarding(f"{name} refuses it now: such calls are allowed in {_hours(index, guard)} only.", refuses=True)
    often = "once an hour" if guard.calls_per_hour == 1 else f"{guard.calls_per_hour} times an hour"
    when = f", in {_hours(index, guard)} only" if guard.schedule else ""
    return Guarding(f"{name} lets each user call such numbers {often}, and refuses more{when}.")


def _hours(index: TenantIndex, guard: Guard) -> str:
    return next((hours.name for hours in index.tenant.schedules if hours.id == guard.schedule), "business hours")


def _rule(index: TenantIndex, number: str) -> OutboundRule | None:
    """The first that takes the number and has a connection in use."""
    for rule in index.outbound:
        outbound = rule.outbound
        if rule.takes(number) and {outbound.connection, outbound.fallback} & index.connections.keys():
            return outbound
    return None


def _what(rule: OutboundRule) -> str:
    if rule.pattern:
        return f"it fits {rule.pattern}"
    return f"it begins with {rule.prefix}" if rule.prefix else "it takes any number"


def _inside(found: Destination, number: str) -> str:
    if found.refused:
        return f"{number} is yours, and closed now: the caller is told that nobody is there (480)."
    if found.rule == "closed":
        return f"{number} is yours, and closed now: the call goes to {found.forward}."
    if found.user is not None:
        name = f" ({found.user.name})" if found.user.name else ""
        return f"{number} is your user {found.user.extension}{name}: no outbound rule is asked."
    if found.group is not None:
        return f"{number} is your ring group {found.group.extension}: no outbound rule is asked."
    return f"{number} is a number of yours, and goes to {found.forward}."
