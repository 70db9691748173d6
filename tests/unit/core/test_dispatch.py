"""The decision order for requests from PBXs, in both modes and mixed; what no source may send."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.routing.model import Table
from tests.unit.core.bench import PBX, Bench, connection, credentials, table, tenant, two_tenants
from tests.unit.core.talk import Talk

EDGE = "192.0.2.1"


def ring(routing: Table, uri: str, source: str = PBX) -> tuple[str, int, str]:
    """Which tenant's 101 rings, else the status; and the rule of the refusal."""
    bench = Bench(routing)
    phones = {}
    for number, slug in enumerate(t.slug for t in routing.tenants):
        phones[slug] = bench.end(f"203.0.113.{number + 1}", 5062)
        phones[slug].register(f"{slug}.example")
    bench.events()
    pbx = bench.end(source)
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="c"))
    rang = [slug for slug, phone in phones.items() if any(m.method == "INVITE" for m in phone.taken())]
    answers = [m.status for m in pbx.taken()]
    refused = bench.events("refused")
    return ("+".join(rang), answers[-1], str(refused[0]["rule"]) if refused else "")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:101@acme.example", ("acme", 100, "")),
        ("sip:101@GLOBEX.example:5099;x=y", ("globex", 100, "")),
        ("sip:%3101@acme.example", ("acme", 100, "")),
        ("sip:%32%3201@acme.example", ("", 404, "unknown-user")),
        ("sip:101@other.example", ("", 404, "unknown-domain")),
        (f"sip:101@{EDGE}", ("", 404, "no-domain")),
        (f"sip:101@{EDGE};local-domain=acme.example", ("", 404, "no-domain")),
        ("sip:acme.example", ("", 404, "unknown-user")),
    ],
)
def test_mode_on(uri: str, expected: tuple[str, int, str]) -> None:
    assert ring(two_tenants(), uri) == expected


def test_a_known_domain_from_another_source_looks_unknown() -> None:
    routing = table(tenant("acme"), tenant("globex", of_connection={"sources": ("198.51.100.77",)}))
    assert ring(routing, "sip:101@globex.example") == ("", 404, "unknown-domain")
    assert ring(routing, "sip:101@globex.example", "198.51.100.77") == ("globex", 100, "")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (f"sip:101@{EDGE};local-domain=acme.example", ("acme", 100, "")),
        (f"sip:101@{EDGE};local-domain=GLOBEX.example", ("globex", 100, "")),
        (f"sip:101@{EDGE}", ("", 404, "ambiguous")),
        ("sip:101@acme.example", ("", 404, "ambiguous")),
    ],
)
def test_mode_off_with_two_tenants(uri: str, expected: tuple[str, int, str]) -> None:
    assert ring(two_tenants(mode=False), uri) == expected


def test_mode_off_with_one_tenant() -> None:
    elsewhere = tenant("globex", of_connection={"sources": ("198.51.100.77",)})
    routing = table(tenant("acme", mode=False), elsewhere)
    assert ring(routing, f"sip:101@{EDGE}")[0] == "acme"
    assert ring(routing, f"sip:101@{EDGE};local-domain=nobody.example")[0] == "acme"
    assert ring(routing, f"sip:101@{EDGE};local-domain=globex.example")[1:] == (404, "unknown-domain")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:101@acme.example", "acme"),
        (f"sip:101@{EDGE}", "globex"),
        (f"sip:101@{EDGE};local-domain=globex.example", "globex"),
        ("sip:101@unknown.example", ""),
    ],
)
def test_a_source_in_both_modes(uri: str, expected: str) -> None:
    assert ring(table(tenant("acme"), tenant("globex", mode=False)), uri)[0] == expected


def test_networks_are_numbers_not_text() -> None:
    routing = table(tenant("acme", of_connection={"sources": ("10.0.0.1",)}))
    assert ring(routing, "sip:101@acme.example", "10.0.0.10") == ("", 403, "unknown-source")
    routing = table(tenant("acme", of_connection={"sources": ("10.0.0.0/30",)}))
    assert ring(routing, "sip:101@acme.example", "10.0.0.3")[0] == "acme"
    assert ring(routing, "sip:101@acme.example", "10.0.0.4")[1] == 403


def test_a_source_with_a_port() -> None:
    routing = table(tenant("acme", of_connection={"sources": (f"{PBX}:5080",)}))
    assert ring(routing, "sip:101@acme.example") == ("", 403, "unknown-source")


def test_a_stream_connection_is_not_believed_over_udp() -> None:
    routing = table(tenant("acme", of_connection={"transport": "tcp"}))
    assert ring(routing, "sip:101@acme.example") == ("", 403, "unknown-source")


def test_suspended_and_disabled() -> None:
    acme = tenant("acme")
    bench = Bench(table(replace(acme, suspended=True)))
    pbx = bench.end(PBX)
    uri = "sip:101@acme.example"
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c"))
    assert pbx.taken()[-1].status == 403
    off = replace(acme, connections=(replace(connection("acme-pbx"), enabled=False),))
    bench = Bench(table(off))
    pbx = bench.end(PBX)
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c"))
    assert pbx.taken()[-1].status == 403


@pytest.mark.parametrize(
    ("method", "uri", "headers", "status", "names"),
    [
        ("FROB", "sip:x@acme.example", {}, 501, "allow"),
        ("PUBLISH", "sip:101@acme.example", {"Event": "presence"}, 405, "allow"),
        ("SUBSCRIBE", "sip:101@acme.example", {}, 489, ""),
        ("SUBSCRIBE", "sip:101@acme.example", {"Event": "dialog", "Expires": "5"}, 423, "min-expires"),
        ("OPTIONS", "im:123", {}, 416, ""),
        ("OPTIONS", "sip:101@acme.example", {"Require": "nothing"}, 420, "unsupported"),
        ("OPTIONS", "sip:101@acme.example", {"Proxy_Require": "nothing"}, 420, "unsupported"),
        ("OPTIONS", "sip:192.0.2.1", {}, 200, "allow"),
    ],
)
def test_what_is_answered_before_any_routing(
    method: str, uri: str, headers: dict[str, str], status: int, names: str
) -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    pbx.send(pbx.request(method, uri, from_="sip:x@pbx.example", to="sip:y@acme.example", call_id="c", **headers))
    answer = pbx.take(status)
    assert not names or answer.has(names)


def test_no_hops_left_is_483() -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    uri = "sip:101@acme.example"
    text = pbx.request("OPTIONS", uri, from_="sip:x@pbx.example", to=uri, call_id="c")
    pbx.send(text.replace("Max-Forwards: 70", "Max-Forwards: 0"))
    pbx.take(483)


def test_a_merged_request_is_482() -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    bench.end("203.0.113.1", 5062).register()
    uri = "sip:101@acme.example"
    text = pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="c")
    pbx.send(text)
    pbx.take(100)
    pbx.send(text.replace("z9hG4bK-", "z9hG4bK-other-"))
    pbx.take(482)


@pytest.mark.parametrize("method", ["MESSAGE", "NOTIFY"])
def test_messages_to_a_user_reach_its_phones_and_the_answer_comes_back(method: str) -> None:
    bench = Bench(two_tenants())
    pbx, phone = bench.end(PBX), bench.end("203.0.113.1", 5062)
    phone.register()
    uri = "sip:101@acme.example"
    pbx.send(pbx.request(method, uri, from_="sip:x@pbx.example", to=uri, call_id="m", Event="message-summary"))
    phone.answer(phone.take(method), 200, "p", X_From="phone")
    assert pbx.take(200).get("x-from") == "phone"


def test_a_phones_message_goes_out_with_the_users_account() -> None:
    bench = Bench(two_tenants())
    pbx, phone = bench.end(PBX), bench.end("203.0.113.1", 5062)
    phone.register()
    uri, aor = "sip:555@acme.example", "sip:101@acme.example"
    phone.send(phone.request("MESSAGE", uri, from_=aor, to=uri, call_id="m"))
    header = credentials(phone.take(401), "101", "MESSAGE", uri)
    phone.send(phone.request("MESSAGE", uri, from_=aor, to=uri, call_id="m", Authorization=header))
    first = pbx.take("MESSAGE")
    assert first.from_.uri_text == "sip:101@pbx.example"
    pbx.answer(first, 401, "p", WWW_Authenticate='Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"')
    second = pbx.take("MESSAGE")
    assert second.has("authorization")
    assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)  # RFC 3261 8.1.3.5
    assert second.cseq.number == first.cseq.number + 1
    pbx.answer(second, 202, "p")
    phone.take(202)


def test_junk_is_counted_and_harms_nothing() -> None:
    bench = Bench(two_tenants())
    end = bench.end(PBX)
    for data in (b"", b"\r\n\r\n", b"\0" * 100, b"INVITE", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))):
        end.send(data)
    assert bench.edge.counters["faults"] == 0
    end.nothing()


def test_refusals_name_rule_connection_and_source() -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    pbx.send(pbx.request("INVITE", "sip:9@acme.example", from_="sip:x@y", to="sip:9@acme.example", call_id="c"))
    (event,) = bench.events("refused")
    assert (event["rule"], event["tenant"], event["connection"]) == ("unknown-user", "acme", "acme-pbx")
    assert event["detail"]["source"] == f"udp:{PBX}:5060"  # type: ignore[index]


def test_what_no_source_may_send_is_an_event_too_and_mutes_a_stranger() -> None:
    bench = Bench(two_tenants())
    pbx, stranger = bench.end(PBX), bench.end("198.51.100.99")
    for end, answers in ((pbx, 30), (stranger, 20)):
        for number in range(30):
            uri = "sip:x@acme.example"
            end.send(end.request("FROB", uri, from_="sip:x@y", to=uri, call_id=f"c{number}"))
        assert {m.status for m in end.taken()} == {501}
        events = bench.events("refused")
        assert len(events) == answers
        assert {event["rule"] for event in events} == {"unfit"}


def test_records_of_refusals_have_a_bound() -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    method, uri = "F" * 5000, "sip:" + "9" * 3000 + "@acme.example"
    pbx.send(pbx.request(method, uri, from_="sip:x@y", to=uri, call_id="c"))
    (event,) = bench.events("refused")
    assert max(len(str(value)) for value in event["detail"].values()) <= 200  # type: ignore[attr-defined]


def test_a_phone_that_sleeps_does_not_make_its_registration_look_dead() -> None:
    """PBXs ping what is registered, and give it up after 3 s of silence: forwards and other phones would go with it."""
    talk = Talk()
    uri = "sip:101@acme.example"
    talk.pbx.send(talk.pbx.request("OPTIONS", uri, from_="sip:x@pbx.example", to=uri, call_id="ping"))
    talk.phone.take("OPTIONS")
    talk.bench.pass_time(2.1)
    assert talk.pbx.take(480).cseq.method == "OPTIONS"
    talk.bench.pass_time(40)
    talk.pbx.nothing()


class TestAPhoneAtThePbx:
    """A phone that registered from the PBX's own address and port (docs/decisions/0007)."""

    @pytest.mark.parametrize("sender", ["sip:x@pbx.example", "sip:+4930@acme.example", "sip:102@acme.example"])
    def test_others_are_called_by_the_pbx(self, sender: str) -> None:
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end("203.0.113.2", 5062)
        pbx.register()
        phone.register(extension="102")
        uri = "sip:102@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_=sender, to=uri, call_id="c"))
        pbx.take(100)
        phone.take("INVITE")

    def test_the_registered_user_proves_who_it_is(self) -> None:
        bench = Bench(two_tenants())
        pbx = bench.end(PBX)
        pbx.register()
        uri = "sip:102@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_="sip:101@acme.example", to=uri, call_id="c"))
        pbx.take(401)

    @pytest.mark.parametrize("sender", ["sip:anonymous@anonymous.invalid", "sip:102@acme.example"])
    def test_at_another_port_nobody_skips_the_password(self, sender: str) -> None:
        bench = Bench(two_tenants())
        phone = bench.end(PBX, 5062)
        phone.register()
        uri = "sip:102@acme.example"
        phone.send(phone.request("INVITE", uri, from_=sender, to=uri, call_id="c"))
        phone.take(401)
