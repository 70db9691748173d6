"""What the page says of a number that is tried is what the edge decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from panel.numbers.tried import decided
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, Group, Guard, Number, Opening, OutboundRule, Schedule, Tenant, User

pytestmark = pytest.mark.unit


def connection(id: str, **fields: object) -> Connection:
    given = {"name": id.upper(), "enabled": True, "multi_tenant": False, "host": "192.0.2.1", "port": 0}
    return Connection(**{"id": id, "transport": "udp", "registrar_domain": f"{id}.example", **given, **fields})


TENANT = Tenant(
    id="t",
    slug="acme",
    name="Acme",
    suspended=False,
    primary_domain="acme.example",
    users=(User("u", "101", "Ann", True, "", ""),),
    groups=(Group("g", "200", "Reception", True, "all"),),
    schedules=(Schedule("never", "Never", "UTC"),),
    numbers=(
        Number("n", "+491", user="u", schedule="never"),
        Number("m", "+492", user="u", schedule="never", forward_closed="200"),
        Number("f", "+493", forward="0123"),
    ),
    connections=(connection("a"), connection("b"), connection("six", registrar_domain="2001:db8::1")),
    outbound=(
        OutboundRule("r1", 10, "0", 1, "+49", "a", fallback="b"),
        OutboundRule("r2", 20, "", 0, "", "six", pattern="11X"),
    ),
    default_connection="b",
)


def told(number: str, tenant: Tenant = TENANT) -> str:
    return decided(TenantIndex(tenant), number, 0.0).sentence


def lines(number: str, tenant: Tenant = TENANT) -> list[str]:
    return [sent.line for sent in decided(TenantIndex(tenant), number, 0.0).sent]


def test_a_rule_with_a_fall_back() -> None:
    found = decided(TenantIndex(TENANT), "030123", 0.0)
    assert (found.rule_id, found.sentence) == ("r1", "The rule at position 10 takes 030123: it begins with 0.")
    assert lines("030123") == ["INVITE sip:+4930123@a.example SIP/2.0", "INVITE sip:+4930123@b.example SIP/2.0"]


def test_a_pattern() -> None:
    assert told("112").endswith("takes 112: it fits 11X.")
    assert lines("112") == ["INVITE sip:112@[2001:db8::1] SIP/2.0"]


def test_a_rule_whose_connections_are_off_is_passed_over() -> None:
    off = replace(TENANT, connections=tuple(replace(c, enabled=c.id != "six") for c in TENANT.connections))
    assert decided(TenantIndex(off), "112", 0.0).rule_id == ""


def test_other_calls() -> None:
    assert told("999").startswith("No rule takes 999: it goes out as other calls do")
    assert lines("999") == ["INVITE sip:999@b.example SIP/2.0"]
    assert "refused with 404" in told("999", replace(TENANT, default_connection=""))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("101", "your user 101 (Ann)"),
        ("200", "your ring group 200"),
        ("491", "closed now: the caller is told"),
        ("492", "closed now: the call goes to 200"),
        ("493", "goes to 0123"),
    ],
)
def test_what_stays_inside(number: str, words: str) -> None:
    assert words in told(number)
    assert not lines(number)


GUARDED = replace(TENANT, schedules=(*TENANT.schedules, Schedule("day", "Day", "UTC", (Opening(3, "00:00", "24:00"),))))
"""1970-01-01, the time of these tests, was a Thursday."""
MORE = "lets each user call such numbers"


@pytest.mark.parametrize(
    ("guard", "refuses", "sentences"),
    [
        (Guard("w", "0176", 0), True, ["Your guard for 0176 refuses it."]),
        (Guard("w", "0176", 1), False, [f"Your guard for 0176 {MORE} once an hour, and refuses more."]),
        (
            Guard("w", "+49176", 5, "day"),
            False,
            [f"Your guard for +49176 {MORE} 5 times an hour, and refuses more, in Day only."],
        ),
        (
            Guard("w", "0", 5, "never"),
            True,
            ["Your guard for 0 refuses it now: such calls are allowed in Never only."],
        ),
        (Guard("w", "0177", 0), False, []),
    ],
)
def test_guards_of_a_number_as_it_is_dialled_or_goes_out(guard: Guard, refuses: bool, sentences: list[str]) -> None:
    found = decided(TenantIndex(replace(GUARDED, guards=(guard,))), "0176555", 0.0)
    assert [each.sentence for each in found.guards] == sentences
    assert found.refused == refuses


def test_guards_of_the_provider_hold_too_but_not_for_calls_that_stay_here() -> None:
    guards = (Guard("w", "0", 0), Guard("x", "1", 0))
    found = decided(TenantIndex(TENANT), "0176", 0.0, guards)
    assert [each.sentence for each in found.guards] == ["Your provider’s guard for 0 refuses it."]
    assert decided(TenantIndex(TENANT), "101", 0.0, guards).guards == ()
