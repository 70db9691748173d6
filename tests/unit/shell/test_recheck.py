"""Rechecking finds what validating anew finds, and looks only at what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd import reload
from sipd.reload import Recheck
from sipd.routing.model import Installation, Table, Tenant
from sipd.routing.problem import Problem
from sipd.routing.validate import check_tenant, validate
from tests.unit.routing.cast import ACME, GLOBEX, INSTALLATION, TABLE, tenant


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
