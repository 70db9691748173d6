"""What phones on the market send, and stumble over when the edge takes it otherwise than others do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.routing.model import Number
from sipd.settings import Settings
from tests.unit.core.bench import PBX, Bench, End, ack_of, credentials, table, tenant, two_tenants
from tests.unit.core.talk import Talk

AOR = "sip:101@acme.example"
PHONE = ("203.0.113.1", 5062)
EDGE = "192.0.2.1"


@pytest.fixture
def bench() -> Bench:
    return Bench(two_tenants())


@pytest.fixture
def phone(bench: Bench) -> End:
    return bench.end(*PHONE)


def call(phone: End, uri: str) -> None:
    """Place a call to a URI as it stands, with digest."""
    headers = {"Contact": f"<sip:101@{PHONE[0]}:5062>"}
    phone.send(phone.request("INVITE", uri, from_=AOR, to=uri, call_id="c", **headers))
    challenge = phone.take(401)
    phone.send(ack_of(challenge, uri))
    headers["Authorization"] = credentials(challenge, "101", "INVITE", uri)
    phone.send(phone.request("INVITE", uri, from_=AOR, to=uri, call_id="c", **headers))


class TestRegisterAtTheAddressOfTheEdge:
    """A phone with a field for the server and one for the domain puts the server into the Request-URI."""

    @pytest.mark.parametrize("uri", [f"sip:{EDGE}", f"sip:{EDGE}:5060;transport=udp"])
    def test_the_domain_in_to_names_the_tenant(self, bench: Bench, phone: End, uri: str) -> None:
        headers = {"Contact": f"<sip:101@{PHONE[0]}:5062>"}
        phone.send(phone.request("REGISTER", uri, from_=AOR, to=AOR, call_id="r", **headers))
        headers["Authorization"] = credentials(phone.take(401), "101", "REGISTER", uri)
        phone.send(phone.request("REGISTER", uri, from_=AOR, to=AOR, call_id="r", **headers))
        phone.take(200)
        (binding,) = bench.edge.registrations(None, bench.now)["bindings"]
        assert binding["tenant"] == "acme"

    @pytest.mark.parametrize("to", [f"sip:101@{EDGE}", "sip:101@nowhere.example"])
    def test_without_a_domain_nothing_is_guessed(self, phone: End, to: str) -> None:
        phone.send(phone.request("REGISTER", f"sip:{EDGE}", from_=to, to=to, call_id="r"))
        phone.take(404)

    def test_another_domain_in_the_request_uri_is_not_passed_over(self, phone: End) -> None:
        phone.send(phone.request("REGISTER", "sip:nowhere.example", from_=AOR, to=AOR, call_id="r"))
        phone.take(404)


class TestTelephoneNumbers:
    """RFC 3966, and RFC 3261 19.1.6: the same number as a tel URI, and as user part with its parameters."""

    @pytest.mark.parametrize(
        ("uri", "sent"),
        [
            ("tel:+4930123", "+4930123"),
            ("tel:+49-30-(12).3", "+4930123"),
            ("tel:030123;phone-context=+49", "030123"),
            ("tel:030123;phone-context=acme.example", "030123"),
            ("TEL:*97", "*97"),
            ("sip:+4930123;phone-context=+49@acme.example;user=phone", "+4930123"),
            ("sip:030123;phone-context=+49@acme.example", "030123"),
            ("sip:+49-30-12.3@acme.example;user=phone", "+4930123"),
            ("sip:+4930123@acme.example;user=phone", "+4930123"),
        ],
    )
    def test_out(self, bench: Bench, phone: End, uri: str, sent: str) -> None:
        pbx = bench.end(PBX)
        phone.register()
        call(phone, uri)
        assert pbx.take("INVITE").uri == f"sip:{sent}@pbx.example"

    @pytest.mark.parametrize("uri", ["tel:102;phone-context=acme.example", "sip:102;phone-context=x@acme.example"])
    def test_inside(self, uri: str) -> None:
        bench = Bench(table(tenant("acme", of_connection={"internal_calls": "always_direct"})))
        phone, other = bench.end(*PHONE), bench.end("203.0.113.2", 5062)
        phone.register()
        other.register(extension="102")
        call(phone, uri)
        other.take("INVITE")

    @pytest.mark.parametrize("user", ["ann-marie.x", "ann;x=1"])
    def test_a_user_part_that_is_no_number_stays(self, bench: Bench, phone: End, user: str) -> None:
        pbx = bench.end(PBX)
        phone.register()
        uri = f"sip:{user}@acme.example;user=phone"
        call(phone, uri)
        assert pbx.take("INVITE").uri == f"sip:{user}@pbx.example"

    @pytest.mark.parametrize(
        "uri",
        [
            "sip:+4930555;npdi@acme.example;user=phone",
            "sip:+4930555;rn=+4930999;npdi@acme.example",
            "tel:+4930555;phone-context=acme.example",
        ],
    )
    def test_from_a_pbx(self, uri: str) -> None:
        acme = tenant("acme")
        acme = replace(acme, numbers=(Number("n", "+4930555", acme.users[0].id),))
        bench = Bench(table(acme))
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="c"))
        phone.take("INVITE")

    def test_from_a_pbx_without_a_tenants_domain(self, bench: Bench, phone: End) -> None:
        pbx = bench.end(PBX)
        phone.register()
        uri = "tel:101;phone-context=+49"
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="c"))
        assert pbx.taken()[-1].status == 404


class TestWithoutADialog:
    @pytest.mark.parametrize("method", ["BYE", "UPDATE", "PRACK"])
    def test_what_belongs_into_one_is_481_even_without_a_tag(self, phone: End, method: str) -> None:
        """RFC 3261 15.1.2, RFC 3262 3: the method is allowed, the dialog is what is missing."""
        phone.register()
        phone.send(phone.request(method, "sip:102@acme.example", from_=AOR, to="sip:102@acme.example", call_id="c"))
        phone.take(481)


class TestOptionsOfStrangers:
    """Keep-alives of phones that are not registered yet, and of monitors: is the edge there (RFC 3261 11.2)?"""

    @pytest.mark.parametrize("sender", ["sip:ping@monitor.example", AOR, f"sip:{EDGE}"])
    def test_the_edge_itself_answers(self, phone: End, sender: str) -> None:
        uri = f"sip:{EDGE}:5060"
        phone.send(phone.request("OPTIONS", uri, from_=sender, to=uri, call_id="o"))
        assert phone.take(200).has("allow")

    def test_whom_it_serves_is_not_told(self, phone: End) -> None:
        answers = []
        for uri in ("sip:acme.example", "sip:nowhere.example", "sip:101@acme.example", "sip:999@acme.example"):
            phone.send(phone.request("OPTIONS", uri, from_="sip:x@monitor.example", to=uri, call_id="o" + uri))
            answers.append(phone.taken()[-1].status)
        assert answers == [403] * 4

    def test_a_flood_is_not_answered(self, phone: End) -> None:
        uri = f"sip:{EDGE}"
        for n in range(10 * Settings(()).mute_after + 1):
            phone.send(phone.request("OPTIONS", uri, from_="sip:x@monitor.example", to=uri, call_id=f"o{n}"))
        assert phone.taken()
        phone.send(phone.request("OPTIONS", uri, from_="sip:x@monitor.example", to=uri, call_id="more"))
        phone.nothing()


def test_the_version_is_taken_in_any_case(phone: End) -> None:
    """RFC 3261 7.1."""
    uri = f"sip:{EDGE}"
    text = phone.request("OPTIONS", uri, from_=AOR, to=uri, call_id="o")
    phone.send(text.replace("SIP/2.0\n", "sip/2.0\n", 1).replace("Via: SIP/2.0/UDP", "Via: sip/2.0/udp"))
    phone.take(200)


class TestAnotherConnection:
    """A stream breaks in a call, and the phone comes back from another port, which is in its Contact (no outbound)."""

    def again(self, talk: Talk, host: str, port: int) -> End:
        end = talk.bench.end(host, port, "tcp")
        end.register(Contact=f"<sip:101@10.0.0.9:{port};transport=tcp>")
        return end

    def test_the_only_phone_at_that_address_is_the_same(self) -> None:
        talk = Talk(transport="tcp")
        talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
        back = self.again(talk, PHONE[0], 5099)
        self.again(talk, "203.0.113.77", 5098)
        talk.pbx.send(talk.from_pbx("BYE", 2))
        back.take("BYE")

    def test_of_several_none_is_picked(self) -> None:
        talk = Talk(transport="tcp")
        talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
        ends = [self.again(talk, PHONE[0], port) for port in (5098, 5099)]
        talk.pbx.send(talk.from_pbx("BYE", 2))
        for end in ends:
            end.nothing()

    def test_another_phone_that_stayed_is_not_taken_for_it(self) -> None:
        talk = Talk(transport="tcp")
        other = self.again(talk, PHONE[0], 5099)
        talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
        talk.pbx.send(talk.from_pbx("BYE", 2))
        other.nothing()
