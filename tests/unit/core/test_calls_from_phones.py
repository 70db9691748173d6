"""Calls that phones make: identity, the tenant's rules, upstream credentials, calls inside the tenant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.message.auth import Credentials
from sipd.routing.model import Limits, Number, OutboundRule
from tests.unit.core.bench import PASSWORD, PBX, Bench, ack_of, credentials, table, tenant, two_tenants

PHONE = ("203.0.113.1", 5062)


def test_a_call_goes_out_with_the_users_account_and_the_contact_rule() -> None:
    bench = Bench(two_tenants())
    phone, pbx = bench.end(*PHONE), bench.end(PBX)
    phone.register()
    phone.call("+4930123", P_Asserted_Identity="<sip:boss@acme.example>")
    invite = pbx.take("INVITE")
    assert invite.uri == "sip:+4930123@pbx.example"
    assert invite.from_.uri_text == "sip:101@pbx.example"
    assert invite.contacts[0].uri_text == "sip:101@acme.example"
    assert not invite.has("authorization")
    assert not invite.has("p-asserted-identity")

    pbx.answer(invite, 407, "p", Proxy_Authenticate='Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"')
    pbx.take("ACK")
    again = pbx.take("INVITE")
    assert again.call_id == invite.call_id
    assert again.cseq.number == invite.cseq.number + 1
    assert Credentials.parse(again.get("proxy-authorization") or "").username == "101"
    pbx.answer(again, 183, "p", body="early")
    assert phone.take(183).body == b"early"
    pbx.answer(again, 200, "p", body="answer")
    ok = phone.take(200)
    phone.send(phone.within(ok, "ACK", ok.cseq.number))
    assert pbx.take("ACK").cseq.number == again.cseq.number

    pbx.send(pbx.back(again, "p", "BYE", 1))
    pbx.take(200)
    phone.take("BYE")
    assert bench.events("call.ended")[0]["detail"]["by"] == "callee"  # type: ignore[index]


def test_a_refusal_of_the_users_credentials_is_not_passed_as_a_challenge() -> None:
    bench = Bench(two_tenants())
    phone, pbx = bench.end(*PHONE), bench.end(PBX)
    phone.register()
    phone.call("+4930123")
    for _ in range(2):
        pbx.answer(
            pbx.take("INVITE"), 401, "p", WWW_Authenticate='Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"'
        )
        pbx.take("ACK")
    refused = phone.take(403)
    assert not refused.has("www-authenticate")


@pytest.mark.parametrize("sender", ["sip:102@acme.example", "sip:101@globex.example", "sip:x@elsewhere.example"])
def test_the_from_must_be_the_users_own(sender: str) -> None:
    bench = Bench(two_tenants())
    phone = bench.end(*PHONE)
    phone.register()
    uri = "sip:+4930@acme.example"
    phone.send(phone.request("INVITE", uri, from_=sender, to=uri, call_id="spoof"))
    came = phone.taken()[0]
    if came.status == 401:
        phone.send(ack_of(came, uri))
        header = credentials(came, "101", "INVITE", uri, "not globex's" if "globex" in sender else PASSWORD)
        phone.send(phone.request("INVITE", uri, from_=sender, to=uri, call_id="spoof2", Authorization=header))
        came = phone.taken()[0]
    assert came.status in (401, 403)
    bench.end(PBX).nothing()


def test_another_tenants_user_is_reached_like_the_public_never_across() -> None:
    bench = Bench(two_tenants())
    phone, other, pbx = bench.end(*PHONE), bench.end("203.0.113.2", 5062), bench.end(PBX)
    phone.register()
    other.register("globex.example")
    uri, aor = "sip:101@globex.example", "sip:101@acme.example"
    phone.send(phone.request("INVITE", uri, from_=aor, to=uri, call_id="x"))
    header = credentials(phone.take(401), "101", "INVITE", uri)
    phone.send(phone.request("INVITE", uri, from_=aor, to=uri, call_id="x", Authorization=header))
    assert pbx.take("INVITE").uri == "sip:101@globex.example"
    other.nothing()


@pytest.mark.parametrize(
    ("rule", "registered", "direct"),
    [
        ("through_pbx", True, False),
        ("direct_when_possible", True, True),
        ("direct_when_possible", False, False),
        ("always_direct", True, True),
    ],
)
def test_calls_inside_the_tenant_go_by_the_connections_rule(rule: str, registered: bool, direct: bool) -> None:
    bench = Bench(table(tenant("acme", of_connection={"internal_calls": rule})))
    phone, callee, pbx = bench.end(*PHONE), bench.end("203.0.113.2", 5062), bench.end(PBX)
    phone.register()
    if registered:
        callee.register(extension="102")
    phone.call("102")
    if direct:
        assert callee.take("INVITE").to.uri_text == "sip:102@acme.example"
        pbx.nothing()
    else:
        assert pbx.take("INVITE").uri == "sip:102@pbx.example"
        callee.nothing()


def test_outbound_rules_pick_strip_and_prepend() -> None:
    acme = tenant("acme")
    rule = OutboundRule("r", 1, "00", 2, "+", acme.connections[0].id)
    bench = Bench(table(replace(acme, outbound=(rule,), default_connection="")))
    phone, pbx = bench.end(*PHONE), bench.end(PBX)
    phone.register()
    phone.call("0049301")
    assert pbx.take("INVITE").uri == "sip:+49301@pbx.example"
    phone.call("12345")
    phone.take(404)


def test_own_numbers_ring_their_user() -> None:
    acme = tenant("acme", of_connection={"internal_calls": "always_direct"})
    bench = Bench(table(replace(acme, numbers=(Number("n", "+4930102", user="acme-102"),))))
    phone, callee = bench.end(*PHONE), bench.end("203.0.113.2", 5062)
    phone.register()
    callee.register(extension="102")
    phone.call("4930102")
    callee.take("INVITE")


def test_limits_refuse_with_their_own_answers_and_are_given_back() -> None:
    acme = replace(tenant("acme"), limits=Limits(calls=1))
    bench = Bench(table(acme))
    phone, pbx = bench.end(*PHONE), bench.end(PBX)
    phone.register()
    phone.call("111")
    invite = pbx.take("INVITE")
    phone.call("222")
    assert phone.take(503).get("retry-after") == "10"
    pbx.answer(invite, 486, "p")
    phone.take(486)
    phone.call("333")
    pbx.take("ACK")
    pbx.take("INVITE")


def test_a_user_limit_is_busy() -> None:
    acme = tenant("acme")
    limited = tuple(replace(user, limits=Limits(calls=1)) for user in acme.users)
    bench = Bench(table(replace(acme, users=limited)))
    phone, pbx = bench.end(*PHONE), bench.end(PBX)
    phone.register()
    for number, status in (("1", 100), ("2", 486)):
        uri = "sip:101@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id=number))
        assert pbx.taken()[-1].status == status


def test_a_registered_phone_behind_the_pbx_address_is_still_a_phone() -> None:
    bench = Bench(two_tenants())
    phone, pbx = bench.end(PBX, 5099), bench.end(PBX)
    phone.register()
    phone.call("555")
    pbx.take("INVITE")


@pytest.mark.parametrize(
    ("field", "happens"),
    [
        ("forward_always", None),
        ("forward_unreachable", None),
        ("forward_busy", 486),
        ("forward_no_answer", "time"),
    ],
)
def test_forwards_ring_the_other_user(field: str, happens: int | str | None) -> None:
    acme = tenant("acme")
    users = (replace(acme.users[0], **{field: "102", "ring_seconds": 10}), acme.users[1])
    bench = Bench(table(replace(acme, users=users)))
    pbx, one, two = bench.end(PBX), bench.end(*PHONE), bench.end("203.0.113.2", 5062)
    two.register(extension="102")
    if happens:
        one.register()
    uri = "sip:101@acme.example"
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="f"))
    pbx.take(100)
    if happens == "time":
        one.answer(one.take("INVITE"), 180, "one")
        bench.pass_time(10.1)
        one.take("CANCEL")
    elif happens:
        one.answer(one.take("INVITE"), 486, "one")
    invite = two.take("INVITE")
    two.answer(invite, 200, "two")
    assert [m.status for m in pbx.taken()][-1] == 200


def test_a_forward_to_a_number_goes_out_with_the_users_account() -> None:
    acme = tenant("acme")
    users = (replace(acme.users[0], forward_always="+49170"), acme.users[1])
    bench = Bench(table(replace(acme, users=users)))
    pbx = bench.end(PBX)
    uri = "sip:101@acme.example"
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="f"))
    pbx.take(100)
    invite = pbx.take("INVITE")
    assert invite.uri == "sip:+49170@pbx.example"
    assert invite.from_.uri_text == "sip:101@pbx.example"
    assert "101@acme.example" in (invite.get("diversion") or "")


def test_forwards_in_a_circle_end() -> None:
    acme = tenant("acme")
    users = tuple(replace(u, forward_always=o) for u, o in zip(acme.users, ("102", "101"), strict=True))
    bench = Bench(table(replace(acme, users=users)))
    pbx = bench.end(PBX)
    uri = "sip:101@acme.example"
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="f"))
    assert pbx.taken()[-1].status == 480
