"""Rows become the table that an engine needs: complete, in order, with secrets sealed where they belong."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from panel import models
from panel.publishing.snapshot import TenantRows, alternate_of, ha1, installation_part, tenant_part
from panel.secrets import Vault
from sipd.routing import codec, model
from sipd.routing.seal import SealError

pytestmark = pytest.mark.unit

VAULT = Vault(bytes(range(64)))
TENANT = models.Tenant(id="t1", slug="acme", name="Acme", default_connection_id="c1", limit_calls=9)


def user(id: str, extension: str, **fields: object) -> models.User:
    password = VAULT.seal(("t1", id, "sip_password"), f"secret-{extension}")
    return models.User(id=id, tenant_id="t1", extension=extension, name="", sip_password=password, **fields)


def account(user_id: str, connection_id: str) -> models.UpstreamAccount:
    password = VAULT.seal(("t1", user_id, connection_id, "upstream_password"), "pbx-secret")
    return models.UpstreamAccount(
        tenant_id="t1", user_id=user_id, connection_id=connection_id, username="2101", password=password
    )


def connection(id: str, **fields: object) -> models.Connection:
    given = {"name": id, "registrar_domain": "pbx.example", "host": "192.0.2.5", **fields}
    return models.Connection(id=id, tenant_id="t1", **given)


ROWS = TenantRows(
    tenant=TENANT,
    domains=[
        models.Domain(tenant_id="t1", name="b.example"),
        models.Domain(tenant_id="t1", name="acme.example", is_primary=True),
        models.Domain(tenant_id="t1", name="a.example"),
    ],
    users=[user("u1", "101", limit_calls=2, aliases=["z", "a"]), user("u2", "102", enabled=False)],
    connections=[connection("c1", multi_tenant=True, sources=["192.0.2.9", "192.0.2.5"]), connection("c2", port=5070)],
    accounts=[account("u1", "c2"), account("u1", "c1")],
    numbers=[
        models.Number(id="n1", tenant_id="t1", number="+49301", user_id="u1"),
        models.Number(id="n2", tenant_id="t1", number="+49302", forward="102"),
    ],
    rules=[
        models.OutboundRule(id="r2", tenant_id="t1", position=2, prefix="", connection_id="c1"),
        models.OutboundRule(id="r1", tenant_id="t1", position=1, prefix="00", strip=2, prepend="+", connection_id="c2"),
    ],
)


FULL = replace(
    ROWS,
    tenant=models.Tenant(id="t1", slug="acme", name="Acme", caller_id="+49300"),
    users=[
        user(
            "u1", "101", do_not_disturb=True, schedule_id="s1", forward_closed="102", fork="serial", serial_seconds=9,
            caller_id="+49309", hide_caller_id=True,
        ),
        user("u2", "102"),
    ],
    connections=[connection("c1", transport="tls", tls_verify=False, tls_client="pbx.example", caller_id="both")],
    groups=[models.Group(id="g1", tenant_id="t1", extension="200", name="All", strategy="in_turn", aliases=["z", "a"])],
    members=[
        models.GroupMember(id="m1", tenant_id="t1", group_id="g1", user_id="u1", position=1),
        models.GroupMember(id="m2", tenant_id="t1", group_id="g1", user_id="u2", position=0),
    ],
    schedules=[
        models.Schedule(
            id="s1", tenant_id="t1", name="Office", time_zone="UTC", openings=["4 09:00-12:00", "0 09:00-24:00"],
            holidays=["2026-12-26", "2026-12-25"],
        )
    ],
    numbers=[models.Number(id="n1", tenant_id="t1", number="1", group_id="g1", schedule_id="s1", forward_closed="102")],
    rules=[
        models.OutboundRule(id="r1", tenant_id="t1", position=1, pattern="0X.", connection_id="c1", fallback_id="c2")
    ],
)  # fmt: skip


def test_groups_hours_and_caller_ids_arrive() -> None:
    part = tenant_part(FULL, VAULT)
    one = part.users[0]
    assert (part.caller_id, one.caller_id, one.hide_caller_id) == ("+49300", "+49309", True)
    assert (one.do_not_disturb, one.schedule, one.forward_closed) == (True, "s1", "102")
    assert (one.fork, one.serial_seconds) == ("serial", 9)
    pbx = part.connections[0]
    assert (pbx.transport, pbx.tls_verify, pbx.tls_client, pbx.caller_id) == ("tls", False, "pbx.example", "both")
    (group,) = part.groups
    assert (group.extension, group.strategy, group.aliases) == ("200", "in_turn", ("a", "z"))
    assert group.members == (model.Member(0, "u2"), model.Member(1, "u1"))
    (schedule,) = part.schedules
    assert schedule.openings == (model.Opening(0, "09:00", "24:00"), model.Opening(4, "09:00", "12:00"))
    assert schedule.holidays == ("2026-12-25", "2026-12-26")
    assert part.numbers == (model.Number("n1", "1", group="g1", schedule="s1", forward_closed="102"),)
    assert (part.outbound[0].pattern, part.outbound[0].fallback) == ("0X.", "c2")
    assert codec.decode_part(model.Tenant, codec.encode_part(part)) == part


def test_all_fields_arrive() -> None:
    part = tenant_part(ROWS, VAULT)
    assert (part.primary_domain, part.alias_domains) == ("acme.example", ("a.example", "b.example"))
    assert (part.default_connection, part.limits) == ("c1", model.Limits(9, None))
    assert [u.extension for u in part.users] == ["101", "102"]
    assert (part.users[0].aliases, part.users[0].limits, part.users[1].enabled) == (("a", "z"), model.Limits(2), False)
    assert [a.connection for a in part.users[0].upstream] == ["c1", "c2"]
    assert (part.connections[0].sources, part.connections[1].port) == (("192.0.2.5", "192.0.2.9"), 5070)
    assert [(n.user, n.forward) for n in part.numbers] == [("u1", ""), ("", "102")]
    assert [(r.position, r.connection) for r in part.outbound] == [(1, "c2"), (2, "c1")]


def test_passwords_become_ha1_sealed_in_their_places() -> None:
    made = tenant_part(ROWS, VAULT).users[0]
    text = b"101:acme.example:secret-101"
    assert VAULT.unseal(("t1", "u1", "ha1_md5"), made.ha1_md5) == hashlib.md5(text).hexdigest()
    assert VAULT.unseal(("t1", "u1", "ha1_sha256"), made.ha1_sha256) == hashlib.sha256(text).hexdigest()
    assert VAULT.unseal(("t1", "u1", "c1", "upstream"), made.upstream[0].password) == "pbx-secret"


def test_ha1_of_rfc_7616() -> None:
    # RFC 7616 section 3.9.1
    given = ("Mufasa", "http-auth@example.org", "Circle of Life")
    assert ha1("md5", *given) == "3d78807defe7de2157e2b0b6573a855f"
    assert ha1("sha256", *given) == "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_makes_no_difference(seed: int) -> None:
    shuffled = {
        name: random.Random(seed).sample(getattr(ROWS, name), len(getattr(ROWS, name)))
        for name in ("domains", "users", "connections", "accounts", "numbers", "rules")
    }
    doc = codec.encode_part(tenant_part(replace(ROWS, **shuffled), VAULT))
    assert codec.part_hash(doc) == codec.part_hash(codec.encode_part(tenant_part(ROWS, VAULT)))


def test_a_part_reads_back_as_it_was() -> None:

    part = tenant_part(ROWS, VAULT)
    assert codec.decode_part(model.Tenant, codec.encode_part(part)) == part


def test_a_secret_from_another_place_does_not_open() -> None:
    moved = user("u1", "101")
    moved.id = "u9"
    with pytest.raises(SealError):
        tenant_part(replace(ROWS, users=[moved]), VAULT)


def test_a_bare_tenant_has_a_part() -> None:
    part = tenant_part(TenantRows(models.Tenant(id="t1", slug="x", name="X", status="suspended")), VAULT)
    assert (part.suspended, part.primary_domain, part.users) == (True, "", ())


def test_the_installation() -> None:
    assert installation_part("hosted.example", ["b", "a", "b"]).edge_hosts == ("a", "b")


def test_the_protection_of_the_installation() -> None:
    guards = [models.InstallationGuard(id=f"w{n}", prefix=f"00{n}", calls_per_hour=n) for n in (2, 1)]
    rules = [
        models.SourceRule(network="192.0.2.0/24", kind="blocked", note="a scanner"),
        models.SourceRule(network="10.0.0.9", kind="allowed"),
        models.SourceRule(network="10.0.0.8", kind="allowed"),
    ]
    made = installation_part("hosted.example", [], guards, rules)
    assert made.guards == (model.Guard("w1", "001", 1), model.Guard("w2", "002", 2))
    assert (made.allowed, made.blocked) == (("10.0.0.8", "10.0.0.9"), ("192.0.2.0/24",))


def test_relay_guards_and_further_addresses_arrive_and_no_password_that_is_the_phones() -> None:
    relay = connection("c1", strategy="relay", media="relay", alternates=["b.example:5070", "192.0.2.6"])
    guard = models.Guard(id="w1", tenant_id="t1", prefix="00882", calls_per_hour=5, schedule_id="s1")
    part = tenant_part(replace(ROWS, connections=[relay, connection("c2")], guards=[guard]), VAULT)
    made = part.connections[0]
    assert (made.strategy, made.media) == ("relay", "relay")
    assert made.alternates == (model.Alternate(0, "b.example", 5070), model.Alternate(1, "192.0.2.6", 0))
    assert part.guards == (model.Guard("w1", "00882", 5, "s1"),)
    assert [(account.username, bool(account.password)) for account in part.users[0].upstream] == [
        ("2101", False),
        ("2101", True),
    ]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("b.example", "b.example", 0),
        ("192.0.2.6:5080", "192.0.2.6", 5080),
        ("2001:db8::1", "2001:db8::1", 0),
        ("[2001:db8::1]", "2001:db8::1", 0),
        ("[2001:db8::1]:5080", "2001:db8::1", 5080),
        ("b.example:99999", "b.example", 99999),
        ("b.example:sip", "b.example:sip", 0),
        ("b.example:١", "b.example:١", 0),
    ],
)
def test_a_further_address_is_host_and_perhaps_port(text: str, host: str, port: int) -> None:
    assert alternate_of(text, 3) == model.Alternate(3, host, port)
