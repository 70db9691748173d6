"""Who a call is shown to be from (RFC 3323, RFC 3325): towards the PBX by its rule, towards phones, and unknown."""

from __future__ import annotations

import pytest

from sipd.message.message import Message
from tests.unit.core.bench import End, ack_of, credentials
from tests.unit.core.house import House, acme

CLAIMS = {
    "P_Asserted_Identity": "<sip:boss@acme.example>",
    "P_Preferred_Identity": "<sip:boss@acme.example>",
    "Remote_Party_ID": "<sip:boss@acme.example>;party=calling",
    "Diversion": "<sip:boss@acme.example>",
    "History_Info": "<sip:boss@acme.example>;index=1",
}


def out(
    rule: str = "account", of_user: dict[str, object] | None = None, caller_id: str = "", **headers: str
) -> Message:
    """The INVITE that the PBX gets when 101 calls out."""
    on = House(acme({"101": of_user or {}}, {"caller_id": rule}, caller_id=caller_id))
    on.phone().call("+49170", **headers)
    return on.pbx.take("INVITE")


def anonymous_call(phone: End, dialled: str, host: str = "acme.example") -> None:
    """A phone calls with an anonymous From; who it is, only its credentials say."""
    uri = f"sip:{dialled}@{host}"
    more = {"Contact": "<sip:101@10.0.0.9:5062>"}
    from_ = "sip:anonymous@anonymous.invalid"
    phone.send(phone.request("INVITE", uri, from_=from_, to=uri, call_id="a", **more))
    challenge = phone.take(401)
    phone.send(ack_of(challenge, uri))
    more["Authorization"] = credentials(challenge, "101", "INVITE", uri)
    phone.send(phone.request("INVITE", uri, from_=from_, to=uri, call_id="a", **more))
    phone.take(100)


class TestByTheConnectionsRule:
    NUMBER = "+493012345"

    @pytest.mark.parametrize(
        ("rule", "from_", "asserted"),
        [
            ("account", "101", None),
            ("from", "+493012345", None),
            ("asserted", "101", "+493012345"),
            ("both", "+493012345", "+493012345"),
        ],
    )
    def test_where_the_number_stands(self, rule: str, from_: str, asserted: str | None) -> None:
        invite = out(rule, {"caller_id": self.NUMBER})
        assert invite.from_.uri_text == f"sip:{from_}@pbx.example"
        assert invite.from_.display == "User 101"
        wanted = f'"User 101" <sip:{asserted}@pbx.example>' if asserted else None
        assert invite.get("p-asserted-identity") == wanted

    @pytest.mark.parametrize(
        ("own", "tenants", "shown"), [("+491", "+492", "+491"), ("", "+492", "+492"), ("", "", "101")]
    )
    def test_whose_number_it_is(self, own: str, tenants: str, shown: str) -> None:
        assert out("from", {"caller_id": own}, tenants).from_.uri.user == shown

    def test_the_phones_own_name_for_itself_passes(self) -> None:
        on = House()
        phone = on.phone()
        uri, aor = "sip:+49170@acme.example", '"Front desk" <sip:101@acme.example'
        contact = "<sip:101@10.0.0.9:5062>"
        first = phone.request("INVITE", uri, from_="sip:101@acme.example", to=uri, call_id="n", Contact=contact)
        phone.send(first.replace("From: <sip:101@acme.example", f"From: {aor}"))
        answer = credentials(phone.take(401), "101", "INVITE", uri)
        again = phone.request(
            "INVITE", uri, from_="sip:101@acme.example", to=uri, call_id="n", Contact=contact, Authorization=answer
        )
        phone.send(again.replace("From: <sip:101@acme.example", f"From: {aor}"))
        assert on.pbx.take("INVITE").from_.display == "Front desk"

    def test_what_a_phone_claims_is_dropped(self) -> None:
        assert b"boss" not in out("both", **CLAIMS).data

    def test_a_forwarded_call_is_the_users_and_names_who_called(self) -> None:
        on = House(acme({"101": {"forward_always": "+49170", "caller_id": "+491"}}, {"caller_id": "from"}))
        on.rings()
        invite = next(m for m in on.pbx.taken() if m.method == "INVITE" and not m.status)
        assert invite.from_.uri_text == "sip:+491@pbx.example"
        assert invite.from_.display == "+4930"


class TestUnknownTowardsThePbx:
    """From is anonymous; the PBX is trusted, and told all the same (RFC 3325 section 7)."""

    def assert_unknown(self, invite: Message, asserted: str) -> None:
        assert str(invite.from_).partition(";")[0] == '"Anonymous" <sip:anonymous@anonymous.invalid>'
        assert invite.get("p-asserted-identity") == f'"User 101" <sip:{asserted}@pbx.example>'
        assert (invite.get("privacy") or "").split(";")[0] == "id"
        assert len(invite.all("privacy")) == 1

    @pytest.mark.parametrize("rule", ["account", "from", "asserted", "both"])
    def test_by_the_users_setting(self, rule: str) -> None:
        invite = out(rule, {"hide_caller_id": True, "caller_id": "+491"})
        self.assert_unknown(invite, "101" if rule == "account" else "+491")

    @pytest.mark.parametrize("privacy", ["id", "user;id", "header;id;critical"])
    def test_by_the_phones_wish(self, privacy: str) -> None:
        invite = out(Privacy=privacy)
        self.assert_unknown(invite, "101")
        assert set((invite.get("privacy") or "").split(";")) == set(privacy.split(";"))

    @pytest.mark.parametrize("host", ["acme.example", "192.0.2.1"])
    def test_by_an_anonymous_from(self, host: str) -> None:
        on = House()
        phone = on.phone()
        anonymous_call(phone, "+49170", host)
        self.assert_unknown(on.pbx.take("INVITE"), "101")

    def test_no_privacy_is_no_wish(self) -> None:
        invite = out(Privacy="none")
        assert invite.from_.uri.user == "101"

    def test_an_anonymous_from_without_the_right_password_is_nobodys(self) -> None:
        on = House()
        phone = on.phone()
        uri = "sip:+49170@acme.example"
        phone.send(phone.request("INVITE", uri, from_="sip:anonymous@anonymous.invalid", to=uri, call_id="a"))
        challenge = phone.take(401)
        wrong = credentials(challenge, "101", "INVITE", uri, "wrong")
        phone.send(
            phone.request(
                "INVITE", uri, from_="sip:anonymous@anonymous.invalid", to=uri, call_id="a", Authorization=wrong
            )
        )
        phone.take(401)
        on.pbx.nothing()


class TestTowardsPhones:
    def test_an_internal_call_shows_extension_and_name(self) -> None:
        on = House(acme({"101": {"aliases": ("anna",)}}, {"internal_calls": "always_direct"}))
        one, two = on.phone(), on.phone("102")
        one.call("102", **CLAIMS)
        invite = two.take("INVITE")
        assert str(invite.from_).partition(";")[0] == '"User 101" <sip:101@acme.example>'
        assert b"boss" not in invite.data

    def test_an_internal_call_that_stays_unknown(self) -> None:
        on = House(acme({}, {"internal_calls": "always_direct"}))
        one, two = on.phone(), on.phone("102")
        anonymous_call(one, "102")
        invite = two.take("INVITE")
        assert invite.from_.uri.host == "anonymous.invalid"
        assert b"User 101" not in invite.data

    def test_what_the_pbx_asserts_passes(self) -> None:
        on = House()
        one = on.phone()
        on.rings(P_Asserted_Identity="<sip:7@pbx.example>")
        assert one.take("INVITE").get("p-asserted-identity") == "<sip:7@pbx.example>"

    @pytest.mark.parametrize("sent", ["sip:anonymous@anonymous.invalid", "sip:anonymous@pbx.example"])
    def test_an_unknown_caller_of_the_pbx_stays_as_it_was_sent(self, sent: str) -> None:
        on = House()
        one = on.phone()
        more = {"P_Asserted_Identity": "<sip:7@pbx.example>", "Remote_Party_ID": "<sip:7@pbx.example>"}
        on.rings(from_=sent, Privacy="id", **more)
        invite = one.take("INVITE")
        assert invite.from_.uri_text == sent
        assert b"sip:7@" not in invite.data

    @pytest.mark.parametrize("privacy", ["id", "user", "user;id", "Header, ID"])
    def test_a_caller_who_wants_to_be_unknown_is(self, privacy: str) -> None:
        on = House()
        one = on.phone()
        on.rings(from_="sip:7@pbx.example", Privacy=privacy, P_Asserted_Identity="<sip:7@pbx.example>")
        invite = one.take("INVITE")
        assert invite.from_.uri_text == "sip:anonymous@anonymous.invalid"
        assert b"sip:7@" not in invite.data


def test_a_message_of_one_who_stays_unknown_shows_nobody() -> None:
    on = House()
    phone = on.phone()
    for privacy, shown in (("none", "sip:+4930@pbx.example"), ("id", "sip:anonymous@anonymous.invalid")):
        uri = "sip:101@acme.example"
        sender = "sip:+4930@pbx.example"
        on.pbx.send(on.pbx.request("MESSAGE", uri, from_=sender, to=uri, call_id=privacy, Privacy=privacy))
        assert phone.take("MESSAGE").from_.uri_text == shown
