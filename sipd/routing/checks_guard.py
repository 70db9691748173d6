"""Checks of the guards against toll fraud, a tenant's and the installation's."""

from __future__ import annotations

from collections.abc import Callable

from sipd.routing.checks_scope import Problems, Ranges, Scope, TextChecks, check_ranges, check_texts
from sipd.routing.checks_text import guarded_fault, id_fault
from sipd.routing.model import MAX_CALLS_PER_HOUR, MAX_GUARDS, Guard
from sipd.routing.problem import Spot, show

GUARD_TEXTS: TextChecks = (("id", id_fault), ("prefix", guarded_fault))
GUARD_RANGES: Ranges = (
    ("calls_per_hour", 0, MAX_CALLS_PER_HOUR, "calls of one user in an hour, where 0 is none at all"),
)


def check_guards(scope: Scope) -> Problems:
    """Those of a tenant."""
    guards = scope.tenant.guards
    yield from _check_all(guards, scope.spot, scope.guard_spot)
    for index, guard in enumerate(guards):
        yield from _check_schedule(scope.guard_spot(guard, index), guard, scope)


def check_installation_guards(spot: Spot, guards: tuple[Guard, ...]) -> Problems:
    """Those of the installation, which has no business hours of its own."""

    def place(guard: Guard, index: int) -> Spot:
        return spot.of_item("guards", guard.prefix, index, guard.id)

    yield from _check_all(guards, spot, place)
    for index, guard in enumerate(guards):
        if guard.schedule:
            yield (
                place(guard, index)
                .at("schedule")
                .error(f"{show(guard.schedule)} is a tenant's schedule; a guard for all tenants has none. Remove it.")
            )


def _check_all(guards: tuple[Guard, ...], whole: Spot, place: Callable[[Guard, int], Spot]) -> Problems:
    if len(guards) > MAX_GUARDS:
        yield whole.at("guards").error(f"There are {len(guards)} guards; the limit is {MAX_GUARDS}. Join some.")
    ids: set[str] = set()
    prefixes: set[str] = set()
    for index, guard in enumerate(guards):
        spot = place(guard, index)
        if guard.id in ids:
            yield spot.at("id").error(f"The id {show(guard.id)} is in guards twice; give each its own.")
        elif guard.prefix in prefixes:
            yield spot.at("prefix").error(f"There is a guard for {show(guard.prefix)} already; remove one.")
        ids.add(guard.id)
        prefixes.add(guard.prefix)
        yield from check_texts(spot, guard, GUARD_TEXTS)
        yield from check_ranges(spot, guard, GUARD_RANGES)


def _check_schedule(spot: Spot, guard: Guard, scope: Scope) -> Problems:
    if guard.schedule and guard.schedule not in scope.schedules:
        yield spot.at("schedule").error(
            f"{show(guard.schedule)} is no schedule of this tenant; choose one that is, or remove this."
        )
    elif guard.schedule and guard.calls_per_hour == 0:
        yield spot.at("schedule").warning(
            f"Calls to {show(guard.prefix)} are refused at any time, so the schedule makes no difference. Allow some "
            "calls an hour, or remove it."
        )
