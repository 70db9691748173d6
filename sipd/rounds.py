"""One round of a call: what rings for it until somebody answers, time is up, or all have failed.

A round has steps. What is in one step rings at once; the next step begins when all of that has failed, or after
`step_seconds`. A user's phones are one step, or one each; so are the members of a group; and each connection that an
outbound number may go through is a step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sipd.auth import PbxAccount
from sipd.limits import Scope
from sipd.message.uri import Uri
from sipd.registrar import Binding, preference
from sipd.routing.model import Connection, Group, User
from sipd.timers import Timer, Timers

if TYPE_CHECKING:
    from sipd.calls import Branch, Call, Final

MAX_BRANCHES = 32
"""Phones that ring at once for one call. Of more, those with the highest q ring."""
MAX_TURNS = 100_000
"""Groups whose turn is remembered; the one that rang longest ago is forgotten first."""

TELLING = (401, 407, 415, 420, 484)
"""Answers that a caller can do something about; preferred among 4xx (RFC 3261 16.7 step 6)."""
NOBODY = (408, 480, 487)
"""Answers that only say that nobody answered."""
BUSY = (486, 600)
NOT_THERE = (404, 408, 410, 430, 480, 502, 503, 504)
FAILED_THERE = range(500, 600)


class Phone(NamedTuple):
    """A place that a call can ring."""

    user: User
    binding: Binding


class Route(NamedTuple):
    """A connection that a call can go out through, and as whom."""

    connection: Connection
    number: str
    user: User | None
    account: PbxAccount | None
    foreign: Uri | None = None
    """What was dialled in a domain that is not the tenant's."""


Step = Sequence[Phone | User | Route]
"""A `User` in a step stands for the phones that it has when the step begins."""


class Round:
    """What rings for a call now."""

    __slots__ = (
        "branches", "call", "finals", "group", "held", "no_answer", "outbound", "ring_timer", "starting",
        "step_seconds", "step_timer", "steps", "user", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        steps: Iterable[Step],
        *,
        user: User | None = None,
        group: Group | None = None,
        outbound: bool = False,
        step_seconds: float = 0.0,
    ) -> None:
        self.call = call
        self.steps = deque(steps)
        self.user = user
        """Whose phones ring, when it is one user's."""
        self.group = group
        self.outbound = outbound
        self.step_seconds = step_seconds
        """0: a step has no time of its own."""
        self.branches: list[Branch] = []
        self.waiting = 0
        """Look-ups on the way to a connection that are not answered yet."""
        self.finals: list[Final] = []
        self.held: dict[str, Scope] = {}
        """What ringing users take of their limits, by user."""
        self.no_answer = False
        """Whether the last step ended because its time was up."""
        self.starting = False
        self.ring_timer: Timer | None = None
        self.step_timer: Timer | None = None

    @property
    def active(self) -> bool:
        return self.waiting > 0 or any(not branch.done for branch in self.branches)

    def rings(self, user: User) -> bool:
        """Whether a phone of this user still rings."""
        return any(not branch.done and branch.user is user for branch in self.branches)

    def stop(self, timers: Timers) -> None:
        """No further step, and no timer."""
        self.steps.clear()
        timers.cancel(self.step_timer)
        timers.cancel(self.ring_timer)


def steps_of_user(user: User, bindings: Sequence[Binding]) -> list[Step]:
    """All phones at once, or one after the other by q, the newest first (RFC 3261 16.6)."""
    phones = [Phone(user, binding) for binding in bindings]
    return [[phone] for phone in phones] if user.fork == "serial" else [phones]


def most_preferred(phones: list[Phone]) -> list[Phone]:
    """As many as may ring at once, the first ones by q."""
    if len(phones) <= MAX_BRANCHES:
        return phones
    return sorted(phones, key=lambda phone: preference(phone.binding), reverse=True)[:MAX_BRANCHES]


class Turns:
    """Whose turn it is in groups that ring round robin. Kept by node, over changes of the table."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], str] = {}
        """The member that was first to ring last time, by tenant and group."""

    def begin(self, group: tuple[str, str], members: Sequence[User], able: Sequence[User]) -> list[User]:
        """`able` (of `members`, in their order) from the one after who was first last time; the new first is kept."""
        last = self._first.pop(group, "")
        ids = [member.id for member in members]
        start = ids.index(last) + 1 if last in ids else 0
        order = {id_: (place - start) % len(ids) for place, id_ in enumerate(ids)}
        turn = sorted(able, key=lambda member: order[member.id])
        if turn:
            last = turn[0].id
        if last:
            self._first[group] = last
        if len(self._first) > MAX_TURNS:
            del self._first[next(iter(self._first))]
        return turn


def best(finals: Sequence[Final], *, of_group: bool) -> Final:
    """The answer for the caller (RFC 3261 16.7 step 6).

    A 6xx of a user's phone speaks for all of them; one of a group's member speaks for that member.
    """
    return min(finals, key=lambda final: _rank(final, of_group=of_group))


def _rank(final: Final, *, of_group: bool) -> tuple[int, int]:
    """Lower is better: 6xx, then the lowest class, in it what tells the caller most."""
    kind = final.status // 100
    if kind == 6:
        kind = 4 if of_group else 0
        return kind, 3
    return kind, 0 if final.status in TELLING else 2 if final.status in NOBODY else 1
