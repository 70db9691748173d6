"""Ids are the tenant's own: two tenants whose tables name everything alike have nothing in common."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.message.auth import Challenge, answer, ha1
from sipd.routing.model import Group, Limits, Member, Tenant
from sipd.routing.seal import seal
from sipd.routing.validate import validate
from tests.unit.core.bench import CIPHER, PASSWORD, PBX, Bench, table, tenant

DOMAINS = ("acme.example", "globex.example")


def alike(name: str, strategy: str = "none", **of_user: object) -> Tenant:
    """A tenant with a user u-1 (101), a group g-1 (600) and a connection c-1."""
    made = tenant(name, strategy=strategy, extensions=("101",))
    digests = {
        field: seal(CIPHER, (name, "u-1", field), ha1(digest, "101", f"{name}.example", PASSWORD))
        for digest, field in (("MD5", "ha1_md5"), ("SHA-256", "ha1_sha256"))
    }
    password = seal(CIPHER, (name, "u-1", "c-1", "upstream"), "pbx-secret")
    account = replace(made.users[0].upstream[0], connection="c-1", password=password)
    user = replace(made.users[0], id="u-1", upstream=(account,), **digests, **of_user)
    return replace(
        made, users=(user,), connections=(replace(made.connections[0], id="c-1"),), default_connection="c-1",
        groups=(Group("g-1", "600", "Sales", True, "all", (Member(1, "u-1"),)),),
    )  # fmt: skip


class Twins:
    """acme and globex, alike, each with a registered phone."""

    def __init__(self, strategy: str = "none", **of_user: object) -> None:
        self.table = table(*(alike(name, strategy, **of_user) for name in ("acme", "globex")))
        self.bench = Bench(self.table)
        self.pbx = self.bench.end(PBX)
        self.phones = [self.bench.end(f"203.0.113.{number}", 5062) for number in (1, 2)]

    def register(self) -> None:
        for phone, domain in zip(self.phones, DOMAINS, strict=True):
            phone.register(domain)

    def rings(self, uri: str, call_id: str = "c") -> None:
        self.pbx.send(
            self.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id=call_id, Contact=f"<sip:{PBX}>")
        )


def test_the_table_is_valid() -> None:
    assert not [problem for problem in validate(Twins().table) if problem.severity == "error"]


@pytest.mark.parametrize("user", ["101", "600"])
def test_a_call_rings_the_phones_of_its_own_tenant(user: str) -> None:
    """Catches: bindings that are kept by the id of a user, whoever's it is."""
    twins = Twins()
    twins.register()
    for (own, other), domain in zip((twins.phones, twins.phones[::-1]), DOMAINS, strict=True):
        twins.rings(f"sip:{user}@{domain}", domain)
        own.take("INVITE")
        other.nothing()


def test_a_phone_sees_its_own_contacts_only() -> None:
    twins = Twins()
    answers = [phone.register(domain) for phone, domain in zip(twins.phones, DOMAINS, strict=True)]
    assert [len(answer.contacts) for answer in answers] == [1, 1]


def test_all_contacts_removed_are_ones_own() -> None:
    twins = Twins()
    twins.register()
    twins.phones[0].register(expires=0)
    twins.rings("sip:101@globex.example")
    twins.phones[1].take("INVITE")


def test_a_restart_keeps_the_phones_of_both() -> None:
    """Catches: one record in the store for both."""
    twins = Twins()
    twins.register()
    records = {(kind, key): record for kind, key, record in twins.bench.edge.take_changes() if kind == "binding"}
    again = Bench(twins.table)
    again.edge.restore([(kind, key, record) for (kind, key), record in records.items()], again.now)
    assert sorted(binding.tenant for binding in again.edge.registrar) == ["acme", "globex"]


def test_each_is_registered_at_its_pbx() -> None:
    twins = Twins(strategy="on_behalf")
    twins.bench.pass_time(2)
    contacts = [message.contacts[0].uri.host for message in twins.pbx.taken() if message.method == "REGISTER"]
    assert set(contacts) == set(DOMAINS)
    assert len(twins.bench.edge.upstream) == 2


def test_a_limit_of_one_is_not_eaten_by_the_other() -> None:
    """Catches: calls that are counted by the id of a user or connection alone."""
    twins = Twins(limits=Limits(calls=1))
    twins.register()
    twins.rings("sip:101@acme.example", "one")
    twins.phones[0].take("INVITE")
    twins.rings("sip:101@globex.example", "two")
    twins.phones[1].take("INVITE")


def test_a_secret_that_was_copied_does_not_open() -> None:
    """A seal holds for one place; what was opened for the one tenant is not remembered for the other."""
    acme, globex = alike("acme"), alike("globex")
    stolen = {field: getattr(acme.users[0], field) for field in ("ha1_md5", "ha1_sha256")}
    thief = replace(globex, users=(replace(globex.users[0], **stolen),))
    bench = Bench(table(acme, thief))
    bench.end("203.0.113.1", 5062).register()
    phone, aor = bench.end("203.0.113.2", 5062), "sip:101@globex.example"
    first = phone.request("REGISTER", "sip:globex.example", from_=aor, to=aor, call_id="r")
    phone.send(first)
    challenge = Challenge.parse(phone.take(401).all("www-authenticate")[0])
    copied = ha1("MD5", "101", "acme.example", PASSWORD)
    answered = answer(challenge, "101", "", "REGISTER", "sip:globex.example", 1, "c", ha1=copied)
    phone.send(
        phone.request(
            "REGISTER", "sip:globex.example", from_=aor, to=aor, call_id="r", Authorization=answered,
            Contact="<sip:101@203.0.113.2>",
        )
    )  # fmt: skip
    phone.take(401)
