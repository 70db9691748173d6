"""Loops of forwards, as ladders of who sends calls on to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.routing.model import Number
from sipd.routing.problem import Problem
from sipd.routing.validate import check_tenant
from tests.unit.routing.cast import ACME, INSTALLATION, user


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
