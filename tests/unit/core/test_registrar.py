"""REGISTER from phones: digest, nonces, bindings, expiry, and what a new table takes away."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from sipd.flow import Flow, Listener
from sipd.message.auth import Challenge, answer
from sipd.message.message import Message
from sipd.routing.lookup import compile_table
from sipd.settings import Settings
from tests.unit.core.bench import EDGE, PASSWORD, PBX, Bench, End, credentials, table, tenant, two_tenants

AOR, DOMAIN = "sip:101@acme.example", "sip:acme.example"


@pytest.fixture
def bench() -> Bench:
    return Bench(two_tenants())


@pytest.fixture
def phone(bench: Bench) -> End:
    return bench.end("203.0.113.1", 5062)


def ask(phone: End, uri: str = DOMAIN, to: str = AOR, call_id: str = "r", **headers: str) -> Message:
    phone.send(phone.request("REGISTER", uri, from_=to, to=to, call_id=call_id, **headers))
    (answer,) = phone.taken()
    return answer


def ask_signed(phone: End, username: str = "101", **headers: str) -> Message:
    challenge = ask(phone)
    return ask(phone, Authorization=credentials(challenge, username, "REGISTER", DOMAIN), **headers)


def contacts(bench: Bench) -> list[str]:
    return [str(b["contact"]) for b in bench.edge.registrations(None, bench.now)["bindings"]]


def test_both_digests_are_offered_md5_first(phone: End) -> None:
    offers = ask(phone).all("www-authenticate")
    assert ["MD5" in offers[0], "SHA-256" in offers[1]] == [True, True]
    assert all('realm="acme.example"' in offer for offer in offers)


@pytest.mark.parametrize("agent", ["baresip v1.0.0 (x86_64/linux)", "sipsak 0.9.8", "Python/3.12.1 aiosip/0.1.0"])
def test_clients_that_give_up_at_another_digest_are_offered_md5_alone(phone: End, agent: str) -> None:
    (offer,) = ask(phone, User_Agent=agent).all("www-authenticate")
    assert "algorithm=MD5" in offer


def test_only_what_is_offered_counts() -> None:
    """For phones that fail at a challenge which they cannot answer."""
    phone = Bench(two_tenants(), Settings((Listener("udp", *EDGE, *EDGE),), digest=("MD5",))).end("203.0.113.1", 5062)
    (offer,) = ask(phone).all("www-authenticate")
    assert "algorithm=MD5" in offer
    stronger = answer(Challenge.parse(offer)._replace(algorithm="SHA-256"), "101", PASSWORD, "REGISTER", DOMAIN, 1, "c")
    assert ask(phone, Authorization=stronger).status == 401
    assert ask_signed(phone, Contact="<sip:101@10.0.0.9>").status == 200


@pytest.mark.parametrize("offer", [0, 1])
def test_either_digest_registers(bench: Bench, phone: End, offer: int) -> None:
    challenge = Challenge.parse(ask(phone).all("www-authenticate")[offer])
    header = answer(challenge, "101", PASSWORD, "REGISTER", DOMAIN, 1, "c")
    ok = ask(phone, Authorization=header, Contact="<sip:101@10.0.0.9>")
    assert ok.status == 200
    assert ok.contacts[0].params["expires"] == "3600"
    assert contacts(bench) == ["sip:101@10.0.0.9"]


def test_an_unknown_domain_is_404(phone: End) -> None:
    assert ask(phone, "sip:nobody.example", "sip:101@nobody.example").status == 404


def test_a_wrong_user_looks_like_a_wrong_password(bench: Bench, phone: End) -> None:
    answers = []
    for username, password in (("101", "wrong"), ("999", "wrong")):
        header = credentials(ask(phone), username, "REGISTER", DOMAIN, password)
        got = ask(phone, to=f"sip:{username}@acme.example", Authorization=header, Contact="<sip:a@b>")
        answers.append((got.status, got.reason, sorted(got.names())))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    assert {e["rule"] for e in bench.events("refused")} == {"wrong-credentials"}


def test_nobody_registers_for_another_user(phone: End) -> None:
    header = credentials(ask(phone), "101", "REGISTER", DOMAIN)
    assert ask(phone, to="sip:102@acme.example", Authorization=header, Contact="<sip:a@b>").status == 403


def test_credentials_of_one_tenant_are_worth_nothing_in_another(phone: End) -> None:
    header = credentials(ask(phone), "101", "REGISTER", DOMAIN)
    got = ask(phone, "sip:globex.example", "sip:101@globex.example", Authorization=header, Contact="<sip:a@b>")
    assert got.status == 401


def test_a_nonce_counter_serves_once(phone: End) -> None:
    header = credentials(ask(phone), "101", "REGISTER", DOMAIN)
    assert ask(phone, Authorization=header, Contact="<sip:a@b>").status == 200
    again = ask(phone, Authorization=header, Contact="<sip:a@b>")
    assert again.status == 401
    assert "stale=true" in (again.get("www-authenticate") or "")


def test_an_old_nonce_is_stale_and_a_foreign_one_is_not(bench: Bench, phone: End) -> None:
    challenge = ask(phone)
    bench.pass_time(301)
    phone.taken()
    old = ask(phone, Authorization=credentials(challenge, "101", "REGISTER", DOMAIN))
    assert "stale=true" in (old.get("www-authenticate") or "")
    forged = credentials(challenge, "101", "REGISTER", DOMAIN).replace('nonce="', 'nonce="AAAA')
    assert "stale" not in (ask(phone, Authorization=forged).get("www-authenticate") or "")


def test_a_brief_interval_is_423_and_a_long_one_is_cut(phone: End) -> None:
    brief = ask_signed(phone, Contact="<sip:a@b>;expires=5")
    assert (brief.status, brief.get("min-expires")) == (423, "60")
    assert ask_signed(phone, Contact="<sip:a@b>;expires=999999").contacts[0].params["expires"] == "3600"


def test_a_query_lists_the_users_own_contacts_only(bench: Bench, phone: End) -> None:
    bench.end("203.0.113.8", 5062).register("globex.example")
    ask_signed(phone, Contact="<sip:a@b>")
    assert [c.uri_text for c in ask_signed(phone).contacts] == ["sip:a@b"]


def test_the_same_contact_in_other_words_is_one_binding(bench: Bench, phone: End) -> None:
    ask_signed(phone, Contact="<sip:101@HOST.example;x=1>")
    ask_signed(phone, Contact="<sip:101@host.EXAMPLE;y=2>")
    assert len(contacts(bench)) == 1


def test_one_device_keeps_one_binding_across_addresses(bench: Bench, phone: End) -> None:
    instance = ';reg-id=1;+sip.instance="<urn:uuid:1>"'
    ask_signed(phone, Contact=f"<sip:101@10.0.0.1>{instance}")
    ok = ask_signed(phone, Contact=f"<sip:101@10.0.0.2>{instance}", Supported="outbound")
    assert contacts(bench) == ["sip:101@10.0.0.2"]
    assert ok.get("require") == "outbound"
    assert ok.contacts[0].params["+sip.instance"] == "<urn:uuid:1>"


def test_expires_0_and_star_remove(bench: Bench, phone: End) -> None:
    ask_signed(phone, Contact="<sip:a@b>")
    ask_signed(phone, Contact="<sip:c@d>")
    ask_signed(phone, Contact="<sip:a@b>;expires=0")
    assert contacts(bench) == ["sip:c@d"]
    assert ask_signed(phone, Contact="*").status == 400
    assert ask_signed(phone, Contact="*", Expires="0").status == 200
    assert contacts(bench) == []


def test_all_or_nothing(bench: Bench, phone: End) -> None:
    assert ask_signed(phone, Contact="<sip:a@b>, <sip:c@d>;expires=5").status == 423
    assert contacts(bench) == []


def test_an_older_register_of_the_same_call_is_refused(bench: Bench, phone: End) -> None:
    challenge = ask(phone)
    text = phone.request("REGISTER", DOMAIN, from_=AOR, to=AOR, call_id="r", Contact="<sip:a@b>")
    ask_signed(phone, Contact="<sip:a@b>")
    header = credentials(challenge, "101", "REGISTER", DOMAIN)
    phone.send(text.replace("Contact:", f"Authorization: {header}\nContact:"))
    assert phone.taken()[0].status == 500


def test_bindings_expire(bench: Bench, phone: End) -> None:
    ask_signed(phone, Contact="<sip:a@b>;expires=60")
    bench.pass_time(59)
    assert contacts(bench) == ["sip:a@b"]
    bench.pass_time(2)
    assert contacts(bench) == []
    assert bench.events("binding.removed")[0]["detail"]["reason"] == "expired"  # type: ignore[index]


def test_the_limit_of_phones_drops_the_oldest(phone: End) -> None:
    acme = tenant("acme")
    bench = Bench(table(replace(acme, users=(replace(acme.users[0], max_bindings=2),))))
    phone = bench.end("203.0.113.1", 5062)
    for number in range(3):
        ask_signed(phone, Contact=f"<sip:a{number}@b>")
        bench.pass_time(1)
    assert contacts(bench) == ["sip:a1@b", "sip:a2@b"]


def test_a_lost_stream_takes_its_phone_along(bench: Bench) -> None:
    phone = bench.end("203.0.113.1", 40000, "tcp")
    phone.register()
    bench.edge.flow_lost(phone.flow, bench.now)
    assert contacts(bench) == []


def test_a_removed_user_and_a_suspended_tenant_lose_their_phones(bench: Bench, phone: End) -> None:
    phone.register()
    acme = tenant("acme")
    bench.load(table(replace(acme, suspended=True)))
    assert contacts(bench) == []
    assert ask(phone).status == 403


def test_a_restart_keeps_the_bindings(bench: Bench, phone: End) -> None:
    phone.register()
    again = Bench()
    again.now = bench.now
    again.edge.restore(bench.edge.take_changes(), again.now)
    again.edge.load(compile_table(two_tenants()), again.now)
    pbx = again.end(PBX)
    pbx.send(pbx.request("INVITE", AOR, from_="sip:x@pbx.example", to=AOR, call_id="c"))
    again.end("203.0.113.1", 5062).take("INVITE")


def test_hostile_credentials_are_challenged(bench: Bench) -> None:
    hostile = ("Digest", "Digest =", "Basic abc", 'Digest username="', "Digest " + "a=b," * 500, "\x01")
    for number, value in enumerate(hostile):
        assert ask(bench.end(f"203.0.113.{number}"), Authorization=value).status in (400, 401)


@pytest.mark.parametrize(
    ("contact", "uris"),
    [
        ('"Smith, John <x>" <sip:a@b>;q=0.5, "\\"" <sip:c,1@d;x=1>', ["sip:a@b", "sip:c,1@d;x=1"]),
        ("sip:a@b;expires=100, sip:c@d", ["sip:a@b", "sip:c@d"]),
        ("<sip:a@[2001:db8::1]:5070;transport=tcp>", ["sip:a@[2001:db8::1]:5070;transport=tcp"]),
        ("<sip:a%20b@c>", ["sip:a%20b@c"]),
    ],
)
def test_contacts_with_quotes_commas_and_brackets(bench: Bench, phone: End, contact: str, uris: list[str]) -> None:
    assert ask_signed(phone, Contact=contact).status == 200
    assert sorted(contacts(bench)) == sorted(uris)


@pytest.mark.parametrize(
    "contact",
    ["<sip:a@b>, *", "<tel:1>", "<sip:@>", "<sip:a@b", '"<sip:a@b>', "<sip:a@b>,", "<sip:" + "a" * 2000 + "@b>", "<>"],
)
def test_contacts_that_are_none_are_400(bench: Bench, phone: End, contact: str) -> None:
    assert ask_signed(phone, Contact=contact).status == 400
    assert contacts(bench) == []


@pytest.mark.parametrize(
    ("contact", "granted"),
    [
        ("<sip:a@b>;expires=4294967295", "3600"),
        ("<sip:a@b>;expires=99999999999999999999", "3600"),
        ("<sip:a@b>;expires=x", "3600"),
        ("<sip:a@b>;expires=60", "60"),
        ('<sip:a@b>;expires="70"', "70"),
    ],
)
def test_odd_lifetimes(phone: End, contact: str, granted: str) -> None:
    assert ask_signed(phone, Contact=contact).contacts[0].params["expires"] == granted


def test_an_alias_domain_registers_the_same_user(bench: Bench) -> None:
    acme = replace(tenant("acme"), alias_domains=("acme.test",))
    bench = Bench(table(replace(acme, users=(replace(acme.users[0], aliases=("alice",)), acme.users[1]))))
    phone, pbx = bench.end("203.0.113.1", 5062), bench.end(PBX)
    uri = "sip:acme.test"
    phone.send(phone.request("REGISTER", uri, from_="sip:alice@acme.test", to="sip:alice@acme.test", call_id="r"))
    challenge = phone.take(401)
    more = {"Authorization": credentials(challenge, "101", "REGISTER", uri), "Contact": "<sip:alice@10.0.0.9>"}
    text = phone.request("REGISTER", uri, from_="sip:alice@acme.test", to="sip:alice@acme.test", call_id="r", **more)
    phone.send(text)
    phone.take(200)
    for called in ("101@acme.example", "alice@acme.test", "101@ACME.test"):
        pbx.send(pbx.request("INVITE", f"sip:{called}", from_="sip:x@y", to=f"sip:{called}", call_id=called))
        phone.take("INVITE")


def test_algorithms_that_were_not_offered_are_challenged(phone: End) -> None:
    header = credentials(ask(phone), "101", "REGISTER", DOMAIN)
    for other in ("MD5-sess", "SHA-512-256", "x"):
        got = ask(phone, Authorization=re.sub(r"algorithm=[^,]*", f"algorithm={other}", header), Contact="<sip:a@b>")
        assert got.status == 401


def test_a_lost_stream_looks_at_its_own_phones_only(bench: Bench) -> None:
    ends = [bench.end("203.0.113.1", 40000 + n, "tcp") for n in range(3)]
    for number, end in enumerate(ends):
        end.register(Contact=f"<sip:101@10.0.0.{number}>")
    bench.edge.flow_lost(ends[1].flow, bench.now)
    assert contacts(bench) == ["sip:101@10.0.0.0", "sip:101@10.0.0.2"]
    bench.edge.flow_lost(ends[1].flow, bench.now)
    bench.end("203.0.113.1", 40009, "tcp").register(Contact="<sip:101@10.0.0.2>")  # moved to another stream
    bench.edge.flow_lost(ends[2].flow, bench.now)
    assert contacts(bench) == ["sip:101@10.0.0.0", "sip:101@10.0.0.2"]
    assert len(bench.edge.registrar._flows) == 2


def test_a_restart_with_other_listeners_sends_by_the_right_one(bench: Bench, phone: End) -> None:
    phone.register()
    changes = bench.edge.take_changes()
    listeners = tuple(Listener(t, "192.0.2.1", 5060, "192.0.2.1", 5060) for t in ("tcp", "udp"))
    again = Bench(settings=Settings(listeners))
    again.edge.restore(changes, again.now)
    assert [b.flow for b in again.edge.registrar] == [Flow("udp", "203.0.113.1", 5062, 1)]
    only_tcp = Bench(settings=Settings(listeners[:1]))
    only_tcp.edge.restore(changes, only_tcp.now)
    assert len(only_tcp.edge.registrar) == 0


def test_texts_that_are_no_utf8_do_not_stay_so_in_records(bench: Bench, phone: End) -> None:
    ask_signed(phone, Contact="<sip:a@b>", User_Agent="phone\udcff")
    for _, _, record in bench.edge.take_changes():
        assert record is not None
        str(record).encode()


class TestKeepAlives:
    """What phones send so that their NAT keeps the way open is no malformed SIP (RFC 5626 4.4)."""

    STUN = bytes.fromhex("000100002112a442b7e7a701bc34d686fa87dfae")

    @pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\n \r\n"])
    def test_nothing_is_answered_and_nothing_is_malformed(self, bench: Bench, phone: End, data: bytes) -> None:
        phone.register()
        phone.send(data)
        assert bench.sent == []
        assert bench.edge.counters["keepalives"] == 1
        assert bench.edge.counters["malformed"] == 0

    def test_stun_is_answered_to_a_registered_phone(self, bench: Bench, phone: End) -> None:
        phone.register()
        bench.edge.receive(self.STUN, phone.flow, bench.now)
        ((answer, flow),) = bench.edge.datagrams_to_send()
        assert flow == phone.flow
        assert answer[:2] == b"\x01\x01"
        assert answer[4:20] == self.STUN[4:]

    def test_and_to_nobody_else(self, bench: Bench) -> None:
        """The answer is larger than the question, and the source may be forged."""
        bench.edge.receive(self.STUN, Flow("udp", "198.18.0.1", 999, 0), bench.now)
        assert bench.edge.datagrams_to_send() == []
        assert bench.edge.counters["malformed"] == 0


def test_what_an_older_release_stored_is_read_and_named_anew() -> None:
    """Stores of before had no tenant in the names of bindings and upstream registrations."""
    bench = Bench(two_tenants(strategy="on_behalf"))
    bench.end("203.0.113.1", 5062).register()
    bench.pass_time(1)
    stored = [(kind, key, record) for kind, key, record in bench.edge.take_changes() if record is not None]
    old = [(kind, key.partition(" ")[2], record) for kind, key, record in stored]
    again = Bench()
    again.now = bench.now
    again.edge.restore(old, again.now)
    again.load(two_tenants(strategy="on_behalf"))
    found = again.edge.registrations(None, again.now)
    assert [binding["user"] for binding in found["bindings"]] == ["acme-101"]
    assert {record["call_id"] for kind, _, record in stored if kind == "upstream"} == {
        registration.call_id for registration in again.edge.upstream
    }
    gone = {(kind, key) for kind, key, record in again.edge.take_changes() if record is None}
    assert {(kind, key) for kind, key, _ in old} <= gone
