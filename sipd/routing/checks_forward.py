"""Forwarding inside a tenant: calls that would be forwarded without end.

A loop of unconditional forwards (always, or of a number) can never be answered: an error. A loop in which
some step waits for busy, no answer or no phone ends as soon as somebody answers, and two colleagues
who cover for each other make one: a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sipd.routing.model import Number, Tenant, User
from sipd.routing.problem import Problem, Spot, show

MAX_NAMED = 10
"""Stations of a loop that a message names."""
CONDITIONAL = ("forward_busy", "forward_no_answer", "forward_unreachable")


class Step(NamedTuple):
    """One forward: which field sends calls on, and to what."""

    field: str
    target: str


class Dialled:
    """Who a dialled text reaches inside the tenant; users go before numbers, as in `decision`."""

    def __init__(self, tenant: Tenant) -> None:
        self.users_by_id: Mapping[str, User] = {user.id: user for user in tenant.users}
        self._users = {alias: user for user in tenant.users for alias in user.aliases}
        self._users.update((user.extension, user) for user in tenant.users)
        self._numbers = {number.number.lstrip("+"): number for number in tenant.numbers}

    def find(self, text: str) -> User | Number | None:
        """The user or number, disabled users included."""
        return self._users.get(text) or (self._numbers.get(text.lstrip("+")) if text else None)

    def steps(self, place: User | Number) -> list[Step]:
        """Where a call to `place` may go on to. What always forwards does nothing else."""
        if isinstance(place, Number):
            return [Step("forward", place.forward)] if place.forward else []
        if not place.enabled:
            return []
        if place.forward_always:
            return [Step("forward_always", place.forward_always)]
        return [Step(name, target) for name in CONDITIONAL if (target := getattr(place, name))]

    def follow(self, step: Step) -> User | Number | None:
        """Where a step leads: a number with a user is that user."""
        place = self.find(step.target)
        if isinstance(place, Number) and place.user:
            return self.users_by_id.get(place.user)
        return place


Key = tuple[type, str]
"""A user or number of the tenant: class and id."""


class _Frame:
    """One station of the walk, with the steps that are left to take from it."""

    __slots__ = ("left", "place", "taken")

    def __init__(self, place: User | Number, steps: list[Step]) -> None:
        self.place = place
        self.left = iter(steps)
        self.taken = Step("", "")


def check_loops(tenant: Tenant, dialled: Dialled, spots: Mapping[Key, Spot]) -> Iterator[Problem]:
    """Walks each forward once, depth first, and reports each that leads back to where the walk came through."""
    done: set[Key] = set()
    places: list[User | Number] = [*tenant.users, *tenant.numbers]
    for start in places:
        if key_of(start) not in done and dialled.steps(start):
            yield from _walk(start, dialled, spots, done)


def _walk(start: User | Number, dialled: Dialled, spots: Mapping[Key, Spot], done: set[Key]) -> Iterator[Problem]:
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
            yield _loop(spots[key_of(frame.place)].at(step.field), trail[depth[key] :])
        else:
            depth[key] = len(trail)
            trail.append(_Frame(following, dialled.steps(following)))


def key_of(place: User | Number) -> Key:
    """Users and numbers have ids of their own kind."""
    return type(place), place.id


def name_of(place: User | Number) -> str:
    """The extension or number."""
    return place.extension if isinstance(place, User) else place.number


def _loop(spot: Spot, frames: list[_Frame]) -> Problem:
    shown = [show(name_of(frame.place)) for frame in frames[:MAX_NAMED]]
    if len(frames) > MAX_NAMED:
        shown.append(f"{len(frames) - MAX_NAMED} more")
    way = ", ".join([*shown, shown[0]])
    if any(frame.taken.field in CONDITIONAL for frame in frames):
        return spot.warning(
            f"Calls that nobody takes go in a circle: {way}. If that is not meant, change one of these forwards."
        )
    return spot.error(f"Calls are forwarded in a circle without end: {way}. Change one of these forwards.")
