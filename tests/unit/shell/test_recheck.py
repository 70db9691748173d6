"""Rechecking finds what validating anew finds, and looks only at what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd import reload
from sipd.reload import Recheck
from sipd.routing.model import Installation, Limits, Table, Tenant
from sipd.routing.problem import Problem
from sipd.routing.validate import check_tenant, validate
from tests.unit.routing.cast import ACME, GLOBEX, INSTALLATION, TABLE, guard, tenant


def same(found: list[Problem], table: Table) -> bool:
    return sorted(map(repr, found)) == sorted(map(repr, validate(table)))


WARNED = replace(ACME, users=(replace(ACME.users[0], ha1_md5="", ha1_sha256=""), *ACME.users[1:]))
"""acme with a user that has no password."""
BROKEN = replace(ACME, slug="Not A Slug")
THIEF = replace(GLOBEX, alias_domains=("acme.example",))
"""globex claims a domain of acme."""
INITECH = tenant("initech", connections=GLOBEX.connections, numbers=(), outbound=(), default_connection="")


@pytest.mark.parametrize(
    "tenants",
    [
        (ACME, GLOBEX),
        (WARNED, GLOBEX),
        (ACME,),
        (),
        (BROKEN, GLOBEX),
        (ACME, THIEF),
        (THIEF,),
        (ACME, GLOBEX, INITECH),
        (WARNED, THIEF, INITECH),
    ],
)
def test_any_table_after_any_other(tenants: tuple[Tenant, ...]) -> None:
    checks = Recheck()
    table = Table(INSTALLATION, tenants)
    for before in (TABLE, Table(INSTALLATION, (WARNED,)), Table(INSTALLATION, (ACME, THIEF)), TABLE):
        assert same(checks.problems(before), before)
        assert same(checks.problems(table), table)


def test_a_changed_installation_checks_all(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Recheck()
    checks.problems(TABLE)
    table = Table(replace(INSTALLATION, platform_domain="x"), TABLE.tenants)
    assert same(checks.problems(table), table)


BLOCKING = replace(INSTALLATION, blocked=("198.51.100.0/24", "203.0.113.0/24"))
ELSEWHERE = replace(ACME, connections=(replace(ACME.connections[0], sources=("192.0.2.9",)),))


def test_networks_and_guards_that_change_do_not_check_tenants_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network is blocked while an attack runs, and a node may have ten thousand tenants."""
    others = (
        replace(BLOCKING, allowed=("198.51.100.1",)),
        replace(BLOCKING, guards=(guard(),)),
        replace(INSTALLATION, limits=Limits(5)),
        INSTALLATION,
    )
    expected = {each: validate(Table(each, TABLE.tenants)) for each in (BLOCKING, *others)}
    assert expected[BLOCKING]
    checks = Recheck()
    checks.problems(Table(INSTALLATION, (WARNED, GLOBEX)))
    checks.problems(TABLE)
    monkeypatch.setattr(reload, "validate", lambda table: pytest.fail("validated all"))
    monkeypatch.setattr(reload, "check_tenant", lambda *given: pytest.fail("checked a tenant"))
    for each in (BLOCKING, *others, BLOCKING):
        found = checks.problems(Table(each, TABLE.tenants))
        assert sorted(map(repr, found)) == sorted(map(repr, expected[each]))


def test_warnings_of_blocked_networks_follow_the_tenants() -> None:
    checks = Recheck()
    for tenants in (TABLE.tenants, (ELSEWHERE, GLOBEX), (GLOBEX,), (ACME,), TABLE.tenants):
        table = Table(BLOCKING, tenants)
        assert same(checks.problems(table), table)


def test_a_bad_network_is_refused_and_forgotten() -> None:
    checks = Recheck()
    checks.problems(TABLE)
    table = Table(replace(INSTALLATION, blocked=("x",)), TABLE.tenants)
    assert same(checks.problems(table), table)
    assert same(checks.problems(TABLE), TABLE)


def test_what_did_not_change_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Recheck()
    checks.problems(TABLE)
    looked: list[str] = []

    def look(tenant: Tenant, installation: Installation) -> list[Problem]:
        looked.append(tenant.slug)
        return check_tenant(tenant, installation)

    monkeypatch.setattr(reload, "validate", lambda table: pytest.fail("validated all"))
    monkeypatch.setattr(reload, "check_tenant", look)
    checks.problems(Table(INSTALLATION, (WARNED, GLOBEX)))
    checks.problems(Table(INSTALLATION, (WARNED, GLOBEX)))
    assert looked == ["acme"]
