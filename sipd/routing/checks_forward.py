"""Forwarding inside a tenant: calls that would be forwarded without end.

A loop of unconditional forwards (always, or of a number) can never be answered: an error, also when it is
one only while a schedule is closed, or open. A loop in which some step waits for busy, no answer or no
phone ends as soon as somebody answers, and two colleagues who cover for each other make one: a warning.
So is a loop that takes several schedules to be in the right state, as a day and a night team that
forward to each other may never be closed at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sipd.routing.model import Group, Number, Tenant, User
from sipd.routing.problem import Problem, Spot, show

MAX_NAMED = 10
"""Stations of a loop that a message names."""
CONDITIONAL = ("forward_busy", "forward_no_answer", "forward_unreachable")
CLOSED = "forward_closed"
RINGS = ("user", "group")
"""Of a number: not forwards, but steps on the way."""

Station = User | Group | Number


class Step(NamedTuple):
    """One forward: which field sends calls on, and to what."""

    field: str
    target: str


class Dialled:
    """Who a dialled text reaches inside the tenant; users go before groups, groups before numbers."""

    def __init__(self, tenant: Tenant) -> None:
        self.users_by_id: Mapping[str, User] = {user.id: user for user in tenant.users}
        self.groups_by_id: Mapping[str, Group] = {group.id: group for group in tenant.groups}
        self._users = {alias: user for user in tenant.users for alias in user.aliases}
        self._users.update((user.extension, user) for user in tenant.users)
        self._groups = {alias: group for group in tenant.groups for alias in group.aliases}
        self._groups.update((group.extension, group) for group in tenant.groups)
        self._numbers = {number.number.lstrip("+"): number for number in tenant.numbers}

    def find(self, text: str) -> Station | None:
        """The user, group or number; disabled ones included."""
        return (
            self._users.get(text) or self._groups.get(text) or (self._numbers.get(text.lstrip("+")) if text else None)
        )

    def steps(self, place: Station) -> list[Step]:
        """Where a call to `place` may go on to. What always forwards does nothing else."""
        if not isinstance(place, Number) and not place.enabled:
            return []
        closed = [Step(CLOSED, place.forward_closed)] if place.schedule and place.forward_closed else []
        if isinstance(place, Number):
            rings = [Step(name, target) for name in (*RINGS, "forward") if (target := getattr(place, name))]
            return [*closed, *rings]
        if isinstance(place, User) and place.forward_always:
            return [*closed, Step("forward_always", place.forward_always)]
        return [*closed, *(Step(name, to) for name in CONDITIONAL if (to := getattr(place, name, "")))]

    def follow(self, step: Step) -> Station | None:
        """Where a step leads."""
        if step.field == "user":
            return self.users_by_id.get(step.target)
        if step.field == "group":
            return self.groups_by_id.get(step.target)
        return self.find(step.target)


Key = tuple[type, str]
"""A user, group or number of the tenant: class and id."""


class _Frame:
    """One station of the walk, with the steps that are left to take from it."""

    __slots__ = ("left", "place", "taken")

    def __init__(self, place: Station, steps: list[Step]) -> None:
        self.place = place
        self.left = iter(steps)
        self.taken = Step("", "")


def check_loops(tenant: Tenant, dialled: Dialled, spots: Mapping[Key, Spot]) -> Iterator[Problem]:
    """Walks each forward once, depth first, and reports each that leads back to where the walk came through."""
    done: set[Key] = set()
    places: list[Station] = [*tenant.users, *tenant.groups, *tenant.numbers]
    for start in places:
        if key_of(start) not in done and dialled.steps(start):
            yield from _walk(start, dialled, spots, done)


def _walk(start: Station, dialled: Dialled, spots: Mapping[Key, Spot], done: set[Key]) -> Iterator[Problem]:
    trail = [_Frame(start, dialled.steps(start))]
    depth = {key_of(start): 0}
    while trail:
        frame = trail[-1]
        step = next(frame.left, None)
        if step is None:
            trail.pop()
            done.add(key_of(frame.place))
            del depth[key_of(frame.place)]
            continue
        frame.taken = step
        following = dialled.follow(step)
        if following is None or key_of(following) in done:
            continue
        key = key_of(following)
        if key in depth:
            yield from _loop(trail[depth[key] :], spots)
        else:
            depth[key] = len(trail)
            trail.append(_Frame(following, dialled.steps(following)))


def key_of(place: Station) -> Key:
    """Users, groups and numbers have ids of their own kind."""
    return type(place), place.id


def name_of(place: Station) -> str:
    """The extension or number."""
    return place.number if isinstance(place, Number) else place.extension


def _loop(frames: list[_Frame], spots: Mapping[Key, Spot]) -> Iterator[Problem]:
    closed = {frame.place.schedule for frame in frames if frame.taken.field == CLOSED}
    within = {frame.place.schedule for frame in frames if frame.place.schedule and frame.taken.field != CLOSED}
    if closed & within:  # open and closed at the same time: never
        return
    last = next(frame for frame in reversed(frames) if frame.taken.field not in RINGS)
    spot = spots[key_of(last.place)].at(last.taken.field)
    way = _way(frames)
    if any(frame.taken.field in CONDITIONAL for frame in frames):
        yield spot.warning(
            f"Calls that nobody takes go in a circle: {way}. If that is not meant, change one of these forwards."
        )
    elif len(closed | within) > 1:
        yield spot.warning(
            f"At some times of the week calls may be forwarded in a circle without end: {way}. See that their "
            "schedules rule it out, or change one of these forwards."
        )
    else:
        when = "Out of business hours calls" if closed else "Calls"
        yield spot.error(f"{when} are forwarded in a circle without end: {way}. Change one of these forwards.")


def _way(frames: list[_Frame]) -> str:
    named = [frame for frame in frames if frame.taken.field not in RINGS]
    shown = [show(name_of(frame.place)) for frame in named[:MAX_NAMED]]
    if len(named) > MAX_NAMED:
        shown.append(f"{len(named) - MAX_NAMED} more")
    return ", ".join([*shown, shown[0]])
