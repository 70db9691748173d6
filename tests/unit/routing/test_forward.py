"""Loops of forwards, as ladders of who sends calls on to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.routing.model import Member, Number, User
from sipd.routing.problem import Problem
from sipd.routing.validate import check_tenant
from tests.unit.routing.cast import ACME, INSTALLATION, group, schedule, user


def circles(**forwards: tuple[str, str]) -> list[Problem]:
    """Users u1, u2, ... with (field, target) each; aliases a1, a2, ..."""
    users = tuple(
        user(name[1:], aliases=(f"a{name[1:]}",), **{f"forward_{kind}": target} if kind else {})
        for name, (kind, target) in forwards.items()
    )
    tenant = replace(
        ACME, users=users, numbers=(Number("n", "+4930", user="acme-1"), Number("m", "+4931", forward="2"))
    )
    return [problem for problem in check_tenant(tenant, INSTALLATION) if "circle" in problem.message]


NOBODY = ("", "")


@pytest.mark.parametrize(
    ("forwards", "severities"),
    [
        ({"u1": ("always", "2"), "u2": NOBODY}, []),
        ({"u1": ("always", "2"), "u2": ("always", "1")}, ["error"]),
        ({"u1": ("always", "a2"), "u2": ("always", "a1")}, ["error"]),
        ({"u1": ("busy", "2"), "u2": ("always", "+4930")}, ["warning"]),
        ({"u1": ("always", "4931"), "u2": ("always", "4930")}, ["error"]),
        ({"u1": ("always", "2"), "u2": ("no_answer", "1")}, ["warning"]),
        ({"u1": ("unreachable", "1"), "u2": NOBODY}, ["warning"]),
        ({"u1": ("always", "2"), "u2": ("always", "3"), "u3": ("always", "2")}, ["error"]),
        ({"u1": ("always", "2"), "u2": ("always", "1"), "u3": ("always", "4"), "u4": ("always", "3")}, ["error"] * 2),
        ({"u1": ("always", "3"), "u2": ("always", "3"), "u3": NOBODY}, []),
        ({"u1": ("always", "9"), "u2": ("busy", "+1")}, []),
    ],
)
def test_circles(forwards: dict[str, tuple[str, str]], severities: list[str]) -> None:
    assert [problem.severity for problem in circles(**forwards)] == severities


def test_what_always_forwards_does_nothing_else() -> None:
    users = (user("1", forward_always="2", forward_busy="1"), user("2"))
    assert not any("circle" in p.message for p in check_tenant(replace(ACME, users=users, numbers=()), INSTALLATION))


def test_a_disabled_user_forwards_nothing() -> None:
    users = (user("1", forward_always="2"), user("2", forward_always="1", enabled=False))
    assert not any("circle" in p.message for p in check_tenant(replace(ACME, users=users, numbers=()), INSTALLATION))


def test_users_and_numbers_may_have_the_same_id() -> None:
    numbers = (Number("acme-101", "+4930", forward="101"),)
    users = (user("101", forward_always="+4930"),)
    [problem] = check_tenant(replace(ACME, users=users, numbers=numbers), INSTALLATION)
    assert "circle without end: '101', '+4930', '101'" in problem.message


def test_a_long_circle_is_found_and_named_in_short() -> None:
    forwards = {f"u{n}": ("always", str((n + 1) % 3000)) for n in range(3000)}
    [problem] = circles(**forwards)
    assert "'9', 2990 more, '0'" in problem.message
    assert problem.path == "tenants[acme].users[2999].forward_always"


DAY, NIGHT = schedule(id="day"), schedule(id="night")


def around(users: tuple[User, ...], numbers: tuple[Number, ...] = (), **of_group: str) -> list[tuple[str, str]]:
    """Severity and field of each circle, in a tenant with two schedules and the ring group 600."""
    groups = (group(members=(Member(1, users[0].id),), **of_group),)
    tenant = replace(ACME, users=users, numbers=numbers, groups=groups, schedules=(DAY, NIGHT))
    found = [problem for problem in check_tenant(tenant, INSTALLATION) if "circle" in problem.message]
    return [(problem.severity, problem.path.removeprefix("tenants[acme].")) for problem in found]


def closed(extension: str, to: str, hours: str = "day", **changes: str) -> User:
    return user(extension, schedule=hours, forward_closed=to, **changes)


def test_a_circle_while_one_schedule_is_closed_is_an_error() -> None:
    assert around((closed("1", "2"), closed("2", "1"))) == [("error", "users[2].forward_closed")]
    assert around((closed("1", "2"), user("2", forward_always="1"))) == [("error", "users[2].forward_always")]


def test_two_schedules_may_never_be_closed_at_once() -> None:
    assert around((closed("1", "2"), closed("2", "1", "night"))) == [("warning", "users[2].forward_closed")]


def test_nothing_is_open_and_closed_at_once() -> None:
    assert around((closed("1", "2"), closed("2", "3", forward_always="1"), user("3"))) == []


def test_a_circle_in_business_hours_only_is_an_error() -> None:
    pair = (closed("1", "3", forward_always="2"), user("2", forward_always="1"), user("3"))
    assert around(pair) == [("error", "users[2].forward_always")]


def test_groups_are_stations() -> None:
    assert around((user("1", forward_always="600"),), forward_no_answer="1") == [
        ("warning", "groups[600].forward_no_answer")
    ]
    assert around((user("1"),), schedule="day", forward_closed="600") == [("error", "groups[600].forward_closed")]
    number = Number("n", "+4930", group="acme-600")
    assert around((user("1"),), (number,), forward_no_answer="+4930") == [("warning", "groups[600].forward_no_answer")]


def test_members_forwards_do_not_count() -> None:
    assert around((user("1", forward_busy="600"),)) == []


def test_a_number_that_is_closed_is_a_station_on_the_way() -> None:
    number = Number("n", "+4930", user="acme-1", schedule="day", forward_closed="2")
    assert around((user("1"), user("2", forward_always="+4930")), (number,)) == [
        ("error", "numbers[+4930].forward_closed")
    ]
    assert around((user("1", forward_always="+4930"), user("2")), (number,)) == [("error", "users[1].forward_always")]
