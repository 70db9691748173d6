"""Phones that hold the account of the PBX: their registrations and requests pass through the edge (strategy relay)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sipd.message.message import Message
from sipd.relaying import ANSWER_SECONDS, MAX_WAITING
from sipd.routing.lookup import EMPTY, compile_table
from sipd.routing.model import Guard, OutboundRule, Tenant
from tests.unit.core.bench import PBX, Bench, End, ack_of, connection, found, table, tenant
from tests.unit.core.house import acme, relayed_acme
from tests.unit.core.talk import assert_nothing_left

CHALLENGE = 'Digest realm="pbx.example",  nonce="{}",algorithm=MD5 , x-own="as it came"'
PROOF = 'Digest username="pbx-{}",realm="pbx.example", nonce="{}",uri="{}",  response="0123456789abcdef"'
PLACES = {"101": ("203.0.113.1", 5062), "102": ("203.0.113.2", 5062), "103": ("203.0.113.3", 5062)}


def proof(extension: str = "101", nonce: str = "n1", uri: str = "sip:acme.example") -> str:
    return PROOF.format(extension, nonce, uri)


class Relay:
    """The edge between a PBX that challenges, and phones with accounts there."""

    def __init__(self, of: Tenant | None = None) -> None:
        self.bench = Bench(table(of or relayed_acme(), tenant("globex", extensions=("101",), strategy="relay")))
        self.pbx = self.bench.end(PBX)
        self.phone = self.end("101")

    def end(self, extension: str, place: int = 0, transport: str = "udp") -> End:
        host, port = PLACES[extension]
        return self.bench.end(host, port + place, transport)

    def ask(self, phone: End, extension: str = "101", contact: str = "", **headers: str) -> None:
        """A phone's REGISTER; without `contact` its own for 600 seconds, with "-" none."""
        if contact != "-":
            headers["Contact"] = contact or f"<sip:{extension}@10.0.0.9:{phone.flow.port}>;expires=600"
        aor, call_id = f"sip:{extension}@acme.example", headers.pop("call_id", f"reg-{phone.hostport}")
        phone.send(phone.request("REGISTER", "sip:acme.example", from_=aor, to=aor, call_id=call_id, **headers))

    def grant(self, asked: Message, seconds: int | None = None, **headers: str) -> None:
        """The PBX's 200, with its own idea of what else is bound."""
        contact = asked.contacts[-1] if asked.has("contact") else None
        if contact is not None:
            given = contact.params["expires"] if seconds is None else seconds
            headers.setdefault("Contact", f"<{contact.uri_text}>;expires={given}")
        self.pbx.answer(asked, 200, "p", **headers)

    def register(self, phone: End | None = None, extension: str = "101", contact: str = "", **headers: str) -> Message:
        """With credentials, and granted as asked; the 200."""
        phone = phone or self.phone
        self.ask(phone, extension, contact, Authorization=proof(extension), **headers)
        self.grant(self.pbx.take("REGISTER"))
        return phone.take(200)

    def states(self) -> list[dict[str, Any]]:
        return self.bench.edge.registrations("acme", self.bench.now)["upstream"]

    def bindings(self) -> list[tuple[str, float]]:
        rows = self.bench.edge.registrations("acme", self.bench.now)["bindings"]
        return [(row["contact"], row["expires"] - self.bench.now) for row in rows]

    def invite(self, phone: End, to: str, extension: str = "101", call_id: str = "c", **headers: str) -> str:
        """Sent; as it was sent."""
        uri, aor = f"sip:{to}@acme.example", f"sip:{extension}@acme.example"
        headers.setdefault("Contact", f"<sip:{extension}@10.0.0.9:5062>")
        text = phone.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **headers)
        phone.send(text)
        return text

    def refused_by(self) -> list[object]:
        return [event["rule"] for event in self.bench.events("refused")]


# -- REGISTER


@pytest.mark.parametrize(
    ("mode", "contact"),
    [(True, "sip:101@acme.example"), (False, "sip:101@192.0.2.1:5060;local-domain=acme.example")],
)
def test_it_goes_to_the_pbx_as_the_account_and_comes_back_as_the_phone_s_own(mode: bool, contact: str) -> None:
    relay = Relay(relayed_acme(mode=mode))
    relay.ask(relay.phone)
    asked = relay.pbx.take("REGISTER")
    assert asked.uri == "sip:pbx.example"
    assert asked.to.untagged() == "<sip:pbx-101@pbx.example>"
    assert asked.from_.untagged() == "<sip:pbx-101@pbx.example>"
    assert [c.uri_text for c in asked.contacts] == [contact]
    assert (asked.contacts[0].params["expires"], asked.expires) == ("600", 600)
    assert not asked.has("authorization")
    relay.pbx.answer(asked, 401, "p", WWW_Authenticate=CHALLENGE.format("n1"))
    assert relay.phone.take(401).all("www-authenticate") == [CHALLENGE.format("n1")]
    assert relay.bindings() == []

    relay.ask(relay.phone, Authorization=proof())
    again = relay.pbx.take("REGISTER")
    assert again.all("authorization") == [proof()]
    assert (again.call_id, again.cseq.number) == (asked.call_id, asked.cseq.number + 1)
    assert again.from_.tag == asked.from_.tag
    assert relay.bindings() == []
    relay.grant(again, 120)
    answer = relay.phone.take(200)
    assert answer.all("contact") == ["<sip:101@10.0.0.9:5062>;expires=120"]
    assert relay.bindings() == [("sip:101@10.0.0.9:5062", 120)]


def test_proxies_between_may_challenge_as_well() -> None:
    relay = Relay()
    relay.ask(relay.phone)
    relay.pbx.answer(relay.pbx.take("REGISTER"), 407, "p", Proxy_Authenticate=CHALLENGE.format("n2"))
    assert relay.phone.take(407).all("proxy-authenticate") == [CHALLENGE.format("n2")]
    relay.ask(relay.phone, Authorization=proof(), Proxy_Authorization=proof(nonce="n2"))
    asked = relay.pbx.take("REGISTER")
    assert (asked.all("authorization"), asked.all("proxy-authorization")) == ([proof()], [proof(nonce="n2")])


def test_the_user_is_who_to_names_by_extension_or_alias_and_the_tenant_where_it_goes_or_whose_to_is() -> None:
    of = relayed_acme()
    of = replace(of, users=(replace(of.users[0], aliases=("anna",)), *of.users[1:]), alias_domains=("acme.test",))
    relay = Relay(of)
    aor = "sip:anna@acme.test"
    relay.phone.send(
        relay.phone.request("REGISTER", "sip:192.0.2.1", from_=aor, to=aor, call_id="r", Contact="<sip:x@h>")
    )
    asked = relay.pbx.take("REGISTER")
    assert asked.to.uri_text == "sip:pbx-101@pbx.example"
    assert asked.contacts[0].uri_text == "sip:101@acme.example"


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [(423, "Min-Expires", "900"), (503, "Retry-After", "17"), (403, "Warning", '399 pbx "no"'), (404, "X-Any", "")],
)
def test_a_refusal_passes_with_its_status_and_stores_nothing(status: int, name: str, value: str) -> None:
    relay = Relay()
    relay.ask(relay.phone, Authorization=proof())
    asked = relay.pbx.take("REGISTER")
    relay.pbx.answer(asked, status, "p", Server="PBX 1.0", **{name: value, "Contact": "<sip:x@other.example>"})
    answer = relay.phone.take(status)
    assert answer.get(name.lower()) == (value or None)
    assert not answer.has("contact")
    assert not answer.has("server")
    assert relay.bindings() == []
    (row,) = relay.states()
    assert (row["state"], row["code"], row["connection"], row["user"]) == ("refused", status, "acme-pbx", "acme-101")
    (event,) = relay.bench.events("registration.changed")
    assert event["detail"] == {"state": "refused", "code": status, "reason": "Reason"}


def test_a_redirection_does_not_pass() -> None:
    relay = Relay()
    relay.ask(relay.phone)
    relay.pbx.answer(relay.pbx.take("REGISTER"), 302, "p", Contact="<sip:elsewhere@pbx2.example>")
    assert not relay.phone.take(480).has("contact")


def test_a_refused_refresh_leaves_the_binding_until_its_time_is_over_and_is_seen() -> None:
    relay = Relay()
    relay.register()
    relay.ask(relay.phone, Authorization=proof())
    relay.pbx.answer(relay.pbx.take("REGISTER"), 403, "p")
    relay.phone.take(403)
    assert len(relay.bindings()) == 1
    assert [(row["state"], row["code"]) for row in relay.states()] == [("refused", 403)]
    relay.bench.pass_time(601)
    assert relay.bindings() == []


def test_the_pbx_s_time_counts_within_the_edge_s_bounds() -> None:
    relay = Relay()
    relay.ask(relay.phone, contact="<sip:101@10.0.0.9:5062>;expires=30")
    relay.phone.take(423)
    relay.pbx.nothing()
    relay.ask(relay.phone, contact="<sip:101@10.0.0.9:5062>;expires=99999")
    asked = relay.pbx.take("REGISTER")
    assert asked.expires == 3600
    relay.grant(asked, 99999)
    assert relay.phone.take(200).contacts[0].params["expires"] == "3600"
    relay.ask(relay.phone)
    relay.grant(relay.pbx.take("REGISTER"), 20)
    assert relay.phone.take(200).contacts[0].params["expires"] == "20"


def test_two_hundred_lists_others_and_the_phone_hears_of_its_own_alone() -> None:
    relay = Relay()
    relay.ask(relay.phone)
    others = "<sip:102@acme.example>;expires=9, <sip:x@evil.example>;expires=3600, <sip:101@acme.example>;expires=300"
    relay.grant(relay.pbx.take("REGISTER"), Contact=others)
    assert relay.phone.take(200).all("contact") == ["<sip:101@10.0.0.9:5062>;expires=300"]
    assert relay.bindings() == [("sip:101@10.0.0.9:5062", 300)]


def test_no_time_granted_is_no_binding() -> None:
    relay = Relay()
    relay.ask(relay.phone)
    relay.grant(relay.pbx.take("REGISTER"), 0)
    assert not relay.phone.take(200).has("contact")
    assert relay.bindings() == []
    assert relay.states() == []


# -- several phones


def test_all_phones_of_a_user_are_one_registration_and_each_hears_of_itself() -> None:
    relay = Relay()
    first, second = relay.phone, relay.end("101", place=1)
    asked = []
    for phone in (first, second, first):
        relay.ask(phone, Authorization=proof())
        asked.append(relay.pbx.take("REGISTER"))
        relay.grant(asked[-1])
        assert [c.uri.port for c in phone.take(200).contacts] == [phone.flow.port]
    assert len({message.call_id for message in asked}) == 1
    assert len({message.from_.tag for message in asked}) == 1
    assert {c.uri_text for message in asked for c in message.contacts} == {"sip:101@acme.example"}
    numbers = [message.cseq.number for message in asked]
    assert numbers == sorted(set(numbers))
    assert sorted(contact for contact, _ in relay.bindings()) == ["sip:101@10.0.0.9:5062", "sip:101@10.0.0.9:5063"]
    (row,) = relay.states()
    assert (row["state"], row["code"], row["expires"]) == ("registered", 200, relay.bench.now + 600)


def test_the_time_asked_for_covers_the_longest_of_them() -> None:
    relay = Relay()
    relay.register(contact="<sip:101@10.0.0.9:5062>;expires=3000")
    relay.bench.pass_time(100)
    second = relay.end("101", place=1)
    relay.ask(second, contact="<sip:101@10.0.0.9:5063>;expires=120")
    asked = relay.pbx.take("REGISTER")
    assert asked.expires == 2900
    relay.grant(asked)
    assert second.take(200).contacts[0].params["expires"] == "120"
    assert sorted(seconds for _, seconds in relay.bindings()) == [120, 2900]


@pytest.mark.parametrize("leave", ["<sip:101@10.0.0.9:5062>;expires=0", "*"])
def test_one_that_leaves_takes_nothing_from_the_others(leave: str) -> None:
    relay = Relay()
    second = relay.end("101", place=1)
    relay.register()
    relay.register(second)
    relay.bench.pass_time(100)
    headers = {"Expires": "0"} if leave == "*" else {}
    relay.ask(relay.phone, contact=leave, Authorization=proof(), **headers)
    asked = relay.pbx.take("REGISTER")
    assert ([c.uri_text for c in asked.contacts], asked.expires) == (["sip:101@acme.example"], 500)
    assert len(relay.bindings()) == 2  # until the PBX has said that it is the user
    relay.grant(asked)
    assert not relay.phone.take(200).has("contact")
    assert relay.bindings() == [("sip:101@10.0.0.9:5063", 500)]

    headers = {"Expires": "0"} if leave == "*" else {}
    relay.ask(second, contact=leave.replace("5062", "5063"), Authorization=proof(), **headers)
    asked = relay.pbx.take("REGISTER")
    assert ([c.uri_text for c in asked.contacts], asked.expires) == (["sip:101@acme.example"], 0)
    relay.grant(asked)
    assert not second.take(200).has("contact")
    assert relay.bindings() == []
    assert relay.states() == []


def test_who_may_not_leave_stays() -> None:
    relay = Relay()
    relay.register()
    relay.ask(relay.end("103"), contact="<sip:101@10.0.0.9:5062>;expires=0")
    relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=CHALLENGE.format("n9"))
    assert len(relay.bindings()) == 1


def test_a_refresh_of_the_edge_s_own_making_is_never_too_brief() -> None:
    relay = Relay()
    second = relay.end("101", place=1)
    relay.register()
    relay.bench.pass_time(590)
    relay.register(second)
    relay.ask(second, contact="<sip:101@10.0.0.9:5063>;expires=0")
    asked = relay.pbx.take("REGISTER")
    assert asked.expires == relay.bench.settings.min_expires


def test_a_query_passes_and_lists_the_phone_s_own() -> None:
    relay = Relay()
    second = relay.end("101", place=1)
    relay.register()
    relay.register(second)
    relay.ask(relay.phone, contact="-", Authorization=proof())
    asked = relay.pbx.take("REGISTER")
    assert not asked.has("contact")
    assert not asked.has("expires")
    relay.grant(asked, Contact="<sip:101@acme.example>;expires=500, <sip:101@other.example>;expires=7")
    assert relay.phone.take(200).all("contact") == ["<sip:101@10.0.0.9:5062>;expires=600"]


def test_switching_the_mode_takes_the_old_contact_back_in_the_same_request() -> None:
    relay = Relay()
    relay.register()
    relay.bench.load(table(relayed_acme(mode=False)))
    relay.ask(relay.phone, Authorization=proof())
    asked = relay.pbx.take("REGISTER")
    assert asked.all("contact") == [
        "<sip:101@acme.example>;expires=0",
        "<sip:101@192.0.2.1:5060;local-domain=acme.example>;expires=600",
    ]
    relay.grant(asked)
    relay.phone.take(200)
    relay.ask(relay.phone, Authorization=proof())
    assert len(relay.pbx.take("REGISTER").contacts) == 1


# -- one at a time


def test_what_comes_again_is_asked_once_and_answered_the_same() -> None:
    relay = Relay()
    text = relay.phone.request(
        "REGISTER", "sip:acme.example", from_="sip:101@acme.example", to="sip:101@acme.example", call_id="r",
        Contact="<sip:101@10.0.0.9:5062>",
    )  # fmt: skip
    relay.phone.send(text)
    relay.phone.send(text)
    asked = relay.pbx.take("REGISTER")
    relay.pbx.nothing()
    relay.phone.nothing()
    relay.grant(asked)
    answer = relay.phone.take(200)
    relay.phone.send(text)
    relay.pbx.nothing()
    assert relay.phone.take(200).data == answer.data


def test_a_second_one_waits_for_its_turn() -> None:
    relay = Relay()
    second = relay.end("101", place=1)
    relay.ask(relay.phone)
    relay.ask(second)
    relay.ask(relay.phone, contact="<sip:101@10.0.0.9:5062>;expires=0")
    for phone, seconds in ((relay.phone, 600), (second, 600), (relay.phone, 600)):
        asked = relay.pbx.take("REGISTER")
        relay.pbx.nothing()
        assert asked.expires == seconds
        relay.grant(asked)
        phone.take(200)
    assert [contact for contact, _ in relay.bindings()] == ["sip:101@10.0.0.9:5063"]


def test_one_that_was_overtaken_is_out_of_order() -> None:
    relay = Relay()
    aor = "sip:101@acme.example"
    contact = "<sip:101@10.0.0.9:5062>"
    texts = [
        relay.phone.request("REGISTER", "sip:acme.example", from_=aor, to=aor, call_id="r", Contact=contact)
        for _ in range(2)
    ]
    for text in reversed(texts):
        relay.phone.send(text)
    relay.grant(relay.pbx.take("REGISTER"))
    assert [message.status for message in relay.phone.taken()] == [200, 500]
    relay.pbx.nothing()


def test_of_one_user_so_many_wait_and_no_more() -> None:
    relay = Relay()
    for place in range(1 + MAX_WAITING):
        relay.ask(relay.end("101", place))
    last = relay.end("101", 99)
    relay.ask(last)
    assert last.take(503).has("retry-after")
    relay.ask(relay.end("102"), "102")  # another user waits for nobody
    assert [m.to.uri.user for m in relay.pbx.taken()] == ["pbx-101", "pbx-102"]


def test_a_silent_pbx_is_504_before_the_phone_gives_up() -> None:
    relay = Relay()
    relay.ask(relay.phone)
    relay.ask(relay.end("101", 1))
    relay.bench.pass_time(ANSWER_SECONDS - 1)
    relay.phone.nothing()
    relay.bench.pass_time(2)
    relay.phone.take(504)
    relay.end("101", 1).take(504)
    assert [(row["state"], row["code"]) for row in relay.states()] == [("unreachable", 504)]
    relay.bench.pass_time(600)
    assert_nothing_left(relay.bench)


def test_no_way_to_the_pbx_is_503_with_retry_after() -> None:
    relay = Relay(relayed_acme(host="pbx.example.net"))
    relay.ask(relay.phone)
    (query,) = relay.bench.edge.lookups_to_start()
    relay.bench.edge.resolved(query, found(ttl=5), relay.bench.now)
    relay.bench.collect()
    assert relay.phone.take(503).has("retry-after")
    assert [row["state"] for row in relay.states()] == ["unreachable"]


def test_it_uses_the_next_target_of_the_pbx_under_the_same_cseq() -> None:
    relay = Relay(relayed_acme(host="pbx.example.net", port=0))
    relay.ask(relay.phone)
    (query,) = relay.bench.edge.lookups_to_start()
    relay.bench.edge.resolved(query, found(PBX, "198.51.100.11"), relay.bench.now)
    relay.bench.collect()
    first = relay.pbx.take("REGISTER")
    relay.pbx.answer(first, 503, "p")
    other = relay.bench.end("198.51.100.11")
    second = other.take("REGISTER")
    assert second.cseq.number == first.cseq.number
    other.answer(second, 200, "p", Contact=f"{second.get('contact')}")
    relay.phone.take(200)


def test_a_loose_outbound_proxy_is_the_route() -> None:
    relay = Relay(relayed_acme(outbound_proxy=f"sip:{PBX};lr"))
    relay.ask(relay.phone)
    asked = relay.pbx.take("REGISTER")
    assert (asked.uri, asked.get("route")) == ("sip:pbx.example", f"<sip:{PBX};lr>")


def test_a_phone_whose_stream_ended_is_not_bound() -> None:
    relay = Relay()
    phone = relay.end("101", transport="tcp")
    relay.ask(phone)
    asked = relay.pbx.take("REGISTER")
    relay.bench.edge.flow_lost(phone.flow, relay.bench.now)
    relay.grant(asked)
    assert relay.bindings() == []
    relay.register()
    assert len(relay.bindings()) == 1


# -- who it is


def test_unknown_users_look_like_those_whom_the_edge_knows_and_no_pbx_hears_of_them() -> None:
    relay = Relay(relayed_acme("103"))
    answers = []
    for place, extension in enumerate(("103", "999")):
        stranger = relay.bench.end(f"203.0.113.{100 + place}")
        relay.ask(stranger, extension)
        answers.append(stranger.take(401))
    shapes = [[value.partition("nonce")[0] for value in answer.all("www-authenticate")] for answer in answers]
    assert shapes[0] == shapes[1] != []
    relay.pbx.nothing()
    relay.end("103").register(extension="103")  # as ever


def test_a_suspended_tenant_is_refused_by_the_edge() -> None:
    relay = Relay(replace(relayed_acme(), suspended=True))
    relay.ask(relay.phone)
    relay.phone.take(403)
    relay.pbx.nothing()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (proof("102"), 403),
        (proof("101").replace("pbx-101", "pbx-101@evil.example"), 403),
        (proof("101") + ', username="pbx-102"', 400),
        ("Digest username*=UTF-8''pbx-102, realm=x, nonce=x, uri=x, response=x", 400),
    ],
)
def test_another_s_credentials_do_not_pass(header: str, status: int) -> None:
    relay = Relay()
    relay.ask(relay.phone, Authorization=header)
    relay.phone.take(status)
    relay.pbx.nothing()
    relay.register()
    relay.invite(relay.phone, "+49", Authorization=header)
    relay.phone.take(status)
    relay.pbx.nothing()


def test_the_name_for_digest_and_one_with_the_registrar_s_domain_are_the_user_s_own() -> None:
    of = relayed_acme()
    account = replace(of.users[0].upstream[0], auth_username="secret-name")
    relay = Relay(replace(of, users=(replace(of.users[0], upstream=(account,)),)))
    for name in ("secret-name", "pbx-101", "pbx-101@pbx.example"):
        relay.ask(relay.phone, Authorization=proof().replace("pbx-101", name))
        relay.grant(relay.pbx.take("REGISTER"))
        relay.phone.take(200)


def test_nothing_of_the_phone_s_but_its_credentials_reaches_the_pbx() -> None:
    """Folded lines stay folds; what else a phone writes into its REGISTER is left here."""
    relay = Relay()
    folded = proof().replace(", ", ",\n ")
    contact = '<sip:101@10.0.0.9:5062>;x="%0d%0aVia: evil"'
    relay.ask(relay.phone, contact=contact, Authorization=folded, Path="<sip:evil;lr>", Subject="x", Route="<sip:e;lr>")
    asked = relay.pbx.take("REGISTER")
    assert len(asked.vias) == 1
    assert set(asked.names()) == {
        "via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "expires", "authorization", "user-agent",
        "content-length", "supported",
    }  # fmt: skip


def test_credentials_that_answer_the_last_challenge_and_are_challenged_again_are_a_refusal() -> None:
    relay = Relay()
    relay.ask(relay.phone)
    relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=CHALLENGE.format("n1"))
    relay.phone.take(401)
    assert relay.states() == []
    relay.ask(relay.phone, Authorization=proof(nonce="n1"))
    relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=CHALLENGE.format("n2"))
    relay.phone.take(401)
    assert [(row["state"], row["code"]) for row in relay.states()] == [("refused", 401)]


@pytest.mark.parametrize("nonce", ["n0", "n1"])
def test_a_nonce_that_is_too_old_is_no_refusal(nonce: str) -> None:
    relay = Relay()
    relay.ask(relay.phone)
    relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=CHALLENGE.format("n1"))
    relay.ask(relay.phone, Authorization=proof(nonce=nonce))
    again = CHALLENGE.format("n2") + (",stale=true" if nonce == "n1" else "")
    relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=again)
    assert relay.states() == []


def test_what_a_stranger_gets_refused_does_not_change_what_people_see() -> None:
    relay = Relay()
    relay.register()
    stranger = relay.end("103")
    relay.ask(stranger, Authorization=proof(), call_id="s")
    relay.pbx.answer(relay.pbx.take("REGISTER"), 403, "p")
    stranger.take(403)
    assert [row["state"] for row in relay.states()] == ["registered"]


def test_who_guesses_at_a_password_is_heard_no_more_and_the_pbx_is_left_alone() -> None:
    relay = Relay()
    stranger = relay.end("101", transport="tcp")
    tried = 0
    for _ in range(100):
        relay.ask(stranger, Authorization=proof())
        for asked in relay.pbx.taken():
            tried += 1
            relay.pbx.answer(asked, 403, "p")
    assert tried < 50
    assert len(stranger.taken()) < 50


def test_guesses_count_by_whatever_nonce_they_are_made() -> None:
    """A PBX may take a nonce for a while, and challenge anew with each refusal."""
    relay = Relay()
    stranger = relay.end("101", transport="tcp")
    tried = 0
    for number in range(200):
        relay.ask(stranger, Authorization=proof(nonce="n0"))
        for asked in relay.pbx.taken():
            tried += 1
            relay.pbx.answer(asked, 401, "p", WWW_Authenticate=CHALLENGE.format(f"n{number}"))
    assert tried < 50


def test_what_is_forged_in_a_phone_s_name_is_no_guess_of_its_own() -> None:
    """Over UDP anybody can send wrong credentials in anybody's name: the phone itself is served all the same."""
    relay = Relay()
    relay.ask(relay.phone)
    relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=CHALLENGE.format("n1"))
    relay.phone.take(401)
    relay.register()
    relay.register(contact="<sip:101@10.0.0.9:5062>;expires=0")
    forged = relay.end("101", place=9)
    for _ in range(30):
        relay.ask(forged, Authorization=proof(nonce="made up"))
        for asked in relay.pbx.taken():
            relay.pbx.answer(asked, 401, "p", WWW_Authenticate=CHALLENGE.format("n1"))
    assert relay.bench.edge.guard.bans() == []
    relay.register()
    assert len(relay.bindings()) == 1


def test_what_waits_when_the_table_changes_is_answered() -> None:
    relay = Relay()
    second = relay.end("101", place=1)
    relay.ask(relay.phone)
    relay.ask(second)
    relay.bench.load(table(relayed_acme(registrar_domain="other.example")))
    assert second.take(503).has("retry-after")
    relay.grant(relay.pbx.take("REGISTER"))
    relay.phone.take(503)
    assert relay.bindings() == []


def test_a_service_route_is_that_of_the_user_s_calls_also_after_a_restart() -> None:
    relay = Relay()
    relay.ask(relay.phone, Authorization=proof())
    relay.grant(relay.pbx.take("REGISTER"), Service_Route=f"<sip:{PBX};lr;x=1>")
    relay.phone.take(200)
    new = restarted(relay)
    for each, call_id in ((relay, "a"), (new, "b")):
        each.invite(each.phone, "+49", call_id=call_id)
        assert each.pbx.take("INVITE").get("route") == f"<sip:{PBX};lr;x=1>"


def test_nothing_is_kept_of_what_a_stranger_was_refused() -> None:
    relay = Relay()
    relay.ask(relay.phone)
    relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=CHALLENGE.format("n1"))
    relay.phone.take(401)
    assert relay.bench.edge.layer.servers == 0


def test_they_are_counted_by_state() -> None:
    relay = Relay()
    relay.register()
    relay.ask(relay.end("102"), "102", Authorization=proof("102"))
    relay.pbx.answer(relay.pbx.take("REGISTER"), 403, "p")
    census, steps = relay.bench.edge.census()
    list(steps)
    assert census.upstream == {"registered": 1, "refused": 1}


def test_a_registration_that_nobody_refreshes_is_over_without_a_word() -> None:
    relay = Relay()
    relay.register()
    relay.bench.pass_time(601)
    relay.pbx.nothing()
    assert relay.states() == []
    assert_nothing_left(relay.bench)


# -- restarts and tables


def restarted(relay: Relay) -> Relay:
    """A node that begins with what the other had stored."""
    changes = relay.bench.edge.take_changes()
    new = Relay()
    new.bench.now = relay.bench.now
    stored = {(kind, key): record for kind, key, record in changes}
    new.bench.edge = type(new.bench.edge)(new.bench.settings, new.bench.edge.core.cipher, new.bench.random)
    new.bench.edge.restore([(kind, key, record) for (kind, key), record in stored.items()], new.bench.now)
    new.bench.load(relay.bench.edge.compiled.table)
    return new


def test_after_a_restart_the_phone_is_known_and_the_numbers_go_on() -> None:
    relay = Relay()
    relay.ask(relay.phone, Authorization=proof())
    before = relay.pbx.take("REGISTER")
    relay.grant(before)
    relay.phone.take(200)
    new = restarted(relay)
    new.pbx.nothing()
    assert new.bindings() == [("sip:101@10.0.0.9:5062", 600)]
    assert [(row["state"], row["contact"]) for row in new.states()] == [("registered", "<sip:101@acme.example>")]
    new.invite(new.phone, "+49")
    new.pbx.take("INVITE")
    new.ask(new.end("101", place=1), Authorization=proof())
    after = new.pbx.take("REGISTER")
    assert after.call_id == before.call_id
    assert after.cseq.number > before.cseq.number


def test_strangers_are_no_writes_to_disk() -> None:
    relay = Relay()
    relay.bench.edge.take_changes()
    stranger = relay.end("101", transport="tcp")
    for _ in range(50):
        relay.ask(stranger)
        relay.pbx.answer(relay.pbx.take("REGISTER"), 401, "p", WWW_Authenticate=CHALLENGE.format("n1"))
        stranger.take(401)
    assert len(relay.bench.edge.take_changes()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda of: replace(of, connections=(replace(of.connections[0], registrar_domain="other.example"),)),
        lambda of: replace(of, connections=(replace(of.connections[0], enabled=False),)),
        lambda of: replace(of, connections=(replace(of.connections[0], strategy="on_behalf"),)),
        lambda of: replace(of, users=of.users[1:]),
        lambda of: replace(of, suspended=True),
    ],
    ids=["registrar", "disabled", "strategy", "user", "suspended"],
)
def test_what_the_table_wants_no_more_is_forgotten(change: Any) -> None:
    relay = Relay()
    relay.register()
    relay.bench.load(table(change(relayed_acme())))
    assert relay.bindings() == []
    assert [row for row in relay.states() if row["state"] == "registered"] == []
    stored = {(kind, key): record for kind, key, record in relay.bench.edge.take_changes()}
    assert {record for (kind, _), record in stored.items() if kind in ("binding", "relayed")} == {None}


def test_a_change_of_something_else_leaves_it_alone() -> None:
    relay = Relay()
    relay.register()
    relay.bench.load(table(replace(relayed_acme(), name="Acme Inc")))
    assert len(relay.bindings()) == 1
    assert len(relay.states()) == 1


# -- calls


def test_a_call_goes_to_the_pbx_with_the_phone_s_credentials_and_its_challenge_comes_back() -> None:
    relay = Relay()
    relay.register()
    text = relay.invite(relay.phone, "+49")
    relay.phone.take(100)
    first = relay.pbx.take("INVITE")
    assert (first.uri, first.from_.uri_text) == ("sip:+49@pbx.example", "sip:pbx-101@pbx.example")
    assert first.contacts[0].uri_text == "sip:101@acme.example"
    relay.pbx.answer(first, 407, "p1", Proxy_Authenticate=CHALLENGE.format("n5"))
    relay.pbx.take("ACK")
    challenge = relay.phone.take(407)
    assert challenge.all("proxy-authenticate") == [CHALLENGE.format("n5")]
    relay.phone.send(ack_of(challenge, "sip:+49@acme.example"))
    relay.phone.send(text.replace("INVITE", "CANCEL"))  # too late
    relay.phone.take(200)

    credentials = proof(nonce="n5", uri="sip:+49@acme.example")
    relay.invite(relay.phone, "+49", Proxy_Authorization=credentials)
    relay.phone.take(100)
    second = relay.pbx.take("INVITE")
    assert second.all("proxy-authorization") == [credentials]
    assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
    assert second.cseq.number == first.cseq.number + 1
    relay.pbx.answer(second, 180, "p2")
    relay.phone.take(180)
    relay.pbx.answer(second, 200, "p2", body="answer")
    ok = relay.phone.take(200)
    relay.phone.send(relay.phone.within(ok, "ACK", ok.cseq.number, Proxy_Authorization=credentials))
    ack = relay.pbx.take("ACK")
    assert (ack.cseq.number, ack.all("proxy-authorization")) == (second.cseq.number, [credentials])
    relay.pbx.send(relay.pbx.back(second, "p2", "BYE", 1))
    relay.pbx.take(200)
    relay.phone.answer(relay.phone.take("BYE"), 200)
    events = relay.bench.edge.take_events()
    assert [event["kind"] for event in events if event["kind"].startswith("call.")] == [
        "call.started", "call.answered", "call.ended",
    ]  # fmt: skip
    relay.bench.pass_time(700)
    assert_nothing_left(relay.bench)


def test_a_challenge_that_nobody_answers_ends_the_call() -> None:
    relay = Relay()
    relay.register()
    relay.invite(relay.phone, "+49")
    relay.pbx.answer(relay.pbx.take("INVITE"), 401, "p1", WWW_Authenticate=CHALLENGE.format("n5"))
    relay.bench.pass_time(60)
    (ended,) = relay.bench.events("call.ended")
    assert ended["detail"]["code"] == 401  # type: ignore[index]
    relay.bench.pass_time(700)
    assert_nothing_left(relay.bench)
    assert relay.bench.edge.calls_._unproved == {}


def test_an_operator_may_end_a_call_that_waits_for_credentials() -> None:
    relay = Relay()
    relay.register()
    relay.invite(relay.phone, "+49")
    relay.pbx.answer(relay.pbx.take("INVITE"), 401, "p1", WWW_Authenticate=CHALLENGE.format("n5"))
    (call,) = relay.bench.edge.calls("acme", relay.bench.now)
    assert relay.bench.edge.hang_up(call["id"], None, 480, "x", relay.bench.now)
    relay.invite(relay.phone, "+49", Authorization=proof(nonce="n5"))  # a call of its own
    relay.pbx.take("ACK")
    relay.pbx.answer(relay.pbx.take("INVITE"), 486, "p2")
    assert relay.phone.taken()[-1].status == 486


@pytest.mark.parametrize("rule", ["through_pbx", "direct_when_possible", "always_direct"])
def test_also_a_call_to_another_user_goes_to_the_pbx(rule: str) -> None:
    relay = Relay(relayed_acme(internal_calls=rule))
    relay.register()
    other = relay.end("102")
    relay.register(other, "102")
    relay.invite(relay.phone, "102")
    assert relay.pbx.take("INVITE").uri == "sip:102@pbx.example"
    other.nothing()


def test_outbound_rules_that_lead_there_make_the_number_and_others_do_not() -> None:
    of = relayed_acme()
    there = OutboundRule("a", 1, "0", 1, "+49", of.connections[0].id)
    elsewhere = OutboundRule("b", 2, "9", 1, "+1", "trunk")
    trunk = connection("trunk", source="198.51.100.99")
    relay = Relay(replace(of, connections=(*of.connections, trunk), outbound=(there, elsewhere)))
    relay.register()
    for dialled, sent in (("030", "+4930"), ("911", "911"), ("102", "102")):
        relay.invite(relay.phone, dialled, call_id=dialled)
        assert relay.pbx.take("INVITE").uri == f"sip:{sent}@pbx.example"


def test_guards_against_toll_fraud_hold_and_do_not_count_calls_inside() -> None:
    relay = Relay(replace(relayed_acme(), guards=(Guard("g", "1", 1),)))
    relay.register()
    for number, dialled in enumerate(("102", "103", "1900", "1901")):
        relay.invite(relay.phone, dialled, call_id=f"c{number}")
    assert [message.uri for message in relay.pbx.taken()] == [
        f"sip:{dialled}@pbx.example" for dialled in ("102", "103", "1900")
    ]
    assert relay.refused_by() == ["toll-guard"]


def test_a_redirection_by_the_pbx_leads_back_there() -> None:
    relay = Relay()
    relay.register()
    other = relay.end("102")
    relay.register(other, "102")
    relay.invite(relay.phone, "+49")
    relay.pbx.answer(relay.pbx.take("INVITE"), 302, "p", Contact="<sip:102@pbx.example>")
    relay.pbx.take("ACK")
    assert relay.pbx.take("INVITE").uri == "sip:102@pbx.example"
    other.nothing()


def test_an_anonymous_from_is_nobody_s_own() -> None:
    """The user's own setting hides the caller; who the phone is, is told by From."""
    relay = Relay()
    relay.register()
    uri, nobody = "sip:+49@acme.example", "sip:anonymous@anonymous.invalid"
    relay.phone.send(relay.phone.request("INVITE", uri, from_=nobody, to=uri, call_id="a", Contact="<sip:x@h>"))
    assert relay.phone.taken()[-1].status == 401
    relay.pbx.nothing()


def test_what_comes_from_elsewhere_or_as_another_is_refused_and_counted() -> None:
    relay = Relay()
    relay.register()
    relay.register(relay.end("102"), "102")
    relay.bench.events()
    relay.invite(relay.end("103"), "+49")
    assert [m.status for m in relay.end("103").taken()] == [403]
    relay.invite(relay.end("102"), "+49", call_id="other")  # 102's flow, and 101's From
    assert [m.status for m in relay.end("102").taken()][-1] == 403
    relay.pbx.nothing()
    assert relay.refused_by() == ["foreign-sender", "foreign-sender"]
    assert relay.bench.edge.counters["refused.foreign-sender"] == 2


def test_where_the_edge_itself_let_a_phone_in_no_pbx_has_accepted_it() -> None:
    """A user of before: registered by the edge's own word, and now the account is in the phone."""
    bench = Bench(table(acme()))
    phone = bench.end(*PLACES["101"])
    phone.register()
    bench.load(table(relayed_acme()))
    uri, aor = "sip:+49@acme.example", "sip:101@acme.example"
    phone.send(phone.request("INVITE", uri, from_=aor, to=uri, call_id="c", Contact="<sip:101@10.0.0.9:5062>"))
    phone.take(403)


def test_inside_a_call_challenges_and_credentials_pass_too() -> None:
    relay = Relay()
    relay.register()
    relay.invite(relay.phone, "+49", Authorization=proof())
    relay.phone.take(100)
    invite = relay.pbx.take("INVITE")
    relay.pbx.answer(invite, 200, "p")
    ok = relay.phone.take(200)
    relay.phone.send(relay.phone.within(ok, "ACK", ok.cseq.number))
    relay.pbx.take("ACK")
    contact = "<sip:101@10.0.0.9:5062>"
    for method in ("INVITE", "INFO"):
        last = invite.cseq.number
        for cseq, header in ((10, {}), (11, {"Proxy_Authorization": proof()})):
            number = cseq + (10 if method == "INFO" else 0)
            relay.phone.send(relay.phone.within(ok, method, number, Contact=contact, **header))
            passed = next(m for m in relay.pbx.taken() if m.method == method)
            assert passed.cseq.number > last
            last = passed.cseq.number
            assert passed.all("proxy-authorization") == list(header.values())
            if not header:
                relay.pbx.answer(passed, 407, Proxy_Authenticate=CHALLENGE.format("n7"))
                challenge = next(m for m in relay.phone.taken() if m.status > 100)
                assert (challenge.status, challenge.all("proxy-authenticate")) == (407, [CHALLENGE.format("n7")])
                if method == "INVITE":
                    relay.phone.send(ack_of(challenge, ok.contacts[0].uri_text))
            else:
                relay.pbx.answer(passed, 200)
                answer = next(m for m in relay.phone.taken() if m.status > 100)
                if method == "INVITE":
                    relay.phone.send(relay.phone.within(answer, "ACK", number))
                    relay.pbx.taken()


def hung_up(relay: Relay) -> tuple[Message, End]:
    """A call that stands; its 200 as the phone got it."""
    relay.register()
    relay.invite(relay.phone, "+49", Authorization=proof())
    relay.phone.take(100)
    relay.pbx.answer(relay.pbx.take("INVITE"), 200, "p")
    ok = relay.phone.take(200)
    relay.phone.send(relay.phone.within(ok, "ACK", ok.cseq.number))
    relay.pbx.take("ACK")
    return ok, relay.phone


def test_a_bye_that_is_challenged_comes_back_and_the_call_stands_until_one_is_taken() -> None:
    relay = Relay()
    ok, phone = hung_up(relay)
    phone.send(phone.within(ok, "BYE", 10))
    first = relay.pbx.take("BYE")
    relay.pbx.answer(first, 407, Proxy_Authenticate=CHALLENGE.format("n8"))
    assert phone.take(407).has("proxy-authenticate")
    assert len(relay.bench.edge.calls("acme", relay.bench.now)) == 1
    phone.send(phone.within(ok, "BYE", 11, Proxy_Authorization=proof(nonce="n8")))
    second = relay.pbx.take("BYE")
    assert second.has("proxy-authorization")
    assert second.cseq.number == first.cseq.number + 1
    relay.pbx.answer(second, 200)
    phone.take(200)
    (ended,) = relay.bench.events("call.ended")
    assert (ended["detail"]["code"], ended["detail"]["by"]) == (200, "caller")  # type: ignore[index]
    relay.bench.pass_time(700)
    assert_nothing_left(relay.bench)


@pytest.mark.parametrize("answer", [407, 481, 0])
def test_a_bye_ends_the_call_whatever_becomes_of_it(answer: int) -> None:
    relay = Relay()
    ok, phone = hung_up(relay)
    phone.send(phone.within(ok, "BYE", 10))
    if answer:
        relay.pbx.answer(relay.pbx.take("BYE"), answer)
    relay.bench.pass_time(33)
    assert phone.taken()[0].status == answer or 408
    assert relay.bench.edge.calls("acme", relay.bench.now) == []
    assert len(relay.bench.events("call.ended")) == 1
    relay.bench.pass_time(700)
    assert_nothing_left(relay.bench)


def test_calls_of_the_pbx_ring_as_anywhere_and_the_phone_hangs_up_with_its_credentials() -> None:
    relay = Relay()
    relay.register()
    uri = "sip:101@acme.example"
    sent = relay.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="t", Contact=f"<sip:{PBX}:5060>")
    relay.pbx.send(sent)
    relay.pbx.take(100)
    invite = relay.phone.take("INVITE")
    assert invite.uri == "sip:101@10.0.0.9:5062"
    relay.phone.answer(invite, 200, "h")
    ok = relay.pbx.take(200)
    relay.pbx.send(relay.pbx.within(ok, "ACK", 1))
    relay.phone.take("ACK")
    relay.phone.send(relay.phone.back(invite, "h", "BYE", 1, Authorization=proof()))
    bye = relay.pbx.take("BYE")
    assert bye.all("authorization") == [proof()]
    relay.pbx.answer(bye, 200)
    relay.phone.take(200)
    assert len(relay.bench.events("call.ended")) == 1


def test_a_forward_of_such_a_user_has_nobody_to_answer_the_pbx() -> None:
    of = relayed_acme()
    relay = Relay(replace(of, users=(replace(of.users[0], forward_always="+49"), *of.users[1:])))
    uri = "sip:101@acme.example"
    relay.pbx.send(
        relay.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="t", Contact=f"<sip:{PBX}:5060>")
    )
    relay.pbx.take(100)
    relay.pbx.take(403)
    assert relay.refused_by() == ["no-account"]


def test_a_user_without_account_does_not_go_out_there_either() -> None:
    relay = Relay(relayed_acme("103"))
    phone = relay.end("103")
    phone.register(extension="103")
    phone.call("+49", extension="103")
    phone.take(403)
    assert relay.refused_by() == ["no-account"]


# -- other requests


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "PUBLISH"])
def test_what_is_sent_outside_of_a_call_passes_and_keeps_its_name(method: str) -> None:
    relay = Relay()
    relay.register()
    other = relay.end("102")
    relay.register(other, "102")
    uri, aor = "sip:102@acme.example", "sip:101@acme.example"
    headers = {"Event": "presence", "Contact": "<sip:101@10.0.0.9:5062>"}
    asked = []
    for proved in ({}, {"Authorization": proof()}):
        relay.phone.send(relay.phone.request(method, uri, from_=aor, to=uri, call_id="m", **headers, **proved))
        asked.append(relay.pbx.take(method))
        assert asked[-1].all("authorization") == list(proved.values())
        if not proved:
            relay.pbx.answer(asked[-1], 401, "p", WWW_Authenticate=CHALLENGE.format("n4"))
            assert relay.phone.take(401).all("www-authenticate") == [CHALLENGE.format("n4")]
    first, second = asked
    assert first.uri == second.uri == "sip:102@pbx.example"
    assert first.from_.uri_text == "sip:pbx-101@pbx.example"
    assert (first.call_id, first.from_.tag) == (second.call_id, second.from_.tag)
    assert second.cseq.number > first.cseq.number
    relay.pbx.answer(second, 200, "p", Contact=f"<sip:{PBX}>", Expires="120")
    relay.phone.take(200)
    other.nothing()


def test_inside_a_subscription_challenges_pass_too() -> None:
    relay = Relay()
    relay.register()
    uri, aor = "sip:102@acme.example", "sip:101@acme.example"
    headers = {"Event": "presence", "Contact": "<sip:101@10.0.0.9:5062>", "Expires": "120"}
    relay.phone.send(relay.phone.request("SUBSCRIBE", uri, from_=aor, to=uri, call_id="m", **headers))
    first = relay.pbx.take("SUBSCRIBE")
    relay.pbx.answer(first, 200, "p", Contact=f"<sip:{PBX}>", Expires="120")
    ok = relay.phone.take(200)
    relay.phone.send(relay.phone.within(ok, "SUBSCRIBE", 50, **headers))
    relay.pbx.answer(relay.pbx.take("SUBSCRIBE"), 401, WWW_Authenticate=CHALLENGE.format("n4"))
    assert relay.phone.take(401).all("www-authenticate") == [CHALLENGE.format("n4")]
    relay.phone.send(relay.phone.within(ok, "SUBSCRIBE", 51, Authorization=proof(), **headers))
    again = relay.pbx.take("SUBSCRIBE")
    assert (again.call_id, again.all("authorization")) == (first.call_id, [proof()])
    relay.pbx.answer(again, 200, Contact=f"<sip:{PBX}>", Expires="120")
    relay.phone.take(200)


def test_a_challenged_call_goes_on_while_the_node_is_emptied_and_no_new_one_begins() -> None:
    relay = Relay()
    relay.register()
    relay.invite(relay.phone, "+49")
    relay.pbx.answer(relay.pbx.take("INVITE"), 401, "p1", WWW_Authenticate=CHALLENGE.format("n5"))
    assert relay.phone.taken()[-1].status == 401
    relay.bench.edge.refuse_calls(30)
    relay.invite(relay.phone, "+49", Authorization=proof(nonce="n5"))
    relay.pbx.take("ACK")
    relay.pbx.answer(relay.pbx.take("INVITE"), 486, "p2")
    assert relay.phone.taken()[-1].status == 486
    relay.invite(relay.phone, "+49", call_id="another", Authorization=proof(nonce="n5"))
    assert relay.phone.take(503).get("retry-after") == "30"
    assert not [message for message in relay.pbx.taken() if message.method == "INVITE"]


def test_what_is_left_of_a_tenant_that_went_while_the_node_was_down_is_forgotten() -> None:
    relay = Relay()
    relay.register()
    stored = {(kind, key): record for kind, key, record in relay.bench.edge.take_changes()}
    records = [(kind, key, record) for (kind, key), record in stored.items() if record is not None]
    assert {kind for kind, _, _ in records} == {"binding", "relayed"}
    edge = Bench().edge
    edge.restore(records, relay.bench.now)
    edge.load(compile_table(EMPTY), relay.bench.now)
    assert [change for change in edge.take_changes() if change[2] is None] == []
    edge.load(compile_table(table(tenant("globex", extensions=("101",)))), relay.bench.now)
    gone = {(kind, key) for kind, key, record in edge.take_changes() if record is None}
    assert gone == {(kind, key) for kind, key, _ in records}
    assert (len(edge.relaying), len(edge.registrar)) == (0, 0)
