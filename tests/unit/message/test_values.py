"""URIs, addresses, Via and CSeq, value by value."""

from __future__ import annotations

import pytest

from sipd.message.address import Address
from sipd.message.cseq import CSeq
from sipd.message.errors import BadMessage, LocalError
from sipd.message.uri import Uri, quote_user, same_uri
from sipd.message.via import Via


class TestUri:
    def test_all_parts(self) -> None:
        uri = Uri.parse("SIPS:a%20b:p%40w@[2001:DB8::1]:5061;Transport=TCP;lr;%6Cx=%41?a=b")
        assert uri == Uri("sips", "a b", "p@w", "2001:db8::1", 5061, {"transport": "TCP", "lr": None, "lx": "A"}, "a=b")
        assert str(uri) == "sips:a%20b:p%40w@[2001:db8::1]:5061;transport=TCP;lr;lx=A?a=b"
        assert uri.param("transport") == "TCP"
        assert uri.param("lr") is None

    @pytest.mark.parametrize(
        ("text", "user", "host"),
        [
            ("sip:example.com", None, "example.com"),
            ("sip:user;par=u%40example.net@example.com", "user;par=u@example.net", "example.com"),
            ("sip:sips%3Auser%40example.com@example.net", "sips:user@example.com", "example.net"),
            ("sip:null-%00-null@example.com", "null-\0-null", "example.com"),
            ("sip:*72#@example.com", "*72#", "example.com"),
            ("sip:1_u~(b!s)&i+t$/c?,/;;*@Example.COM", "1_u~(b!s)&i+t$/c?,/;;*", "example.com"),
        ],
    )
    def test_users(self, text: str, user: str | None, host: str) -> None:
        uri = Uri.parse(text)
        assert (uri.user, uri.host) == (user, host)
        assert Uri.parse(str(uri)) == uri

    @pytest.mark.parametrize(
        "text",
        [
            "", "sip", "sip:", "sip:@a", "sip:a@", "sip:a b@c", "sip:a@b@c", "sip:a@b:", "sip:a@b:0", "sip:a@b:65536",
            "sip:a@b:x", "sip:a@b;", "sip:a@b;;x", "sip:a@b;=x", "sip:a@b;x=1;x=2", "sip:a%zz@b", "sip:a%4@b",
            "<sip:a@b>",
            "sip:a@b\r\nX: y", "sip:a@b\n", "sip:\u00e4@b", "sip:a@[::1", "sip:a@::1", " sip:a@b", "sip:a@b>",
            ":a", "1x:y",
            'sip:a"@b', "http:<x>",
        ],
    )  # fmt: skip
    def test_malformed(self, text: str) -> None:
        with pytest.raises(BadMessage) as caught:
            Uri.parse(text)
        assert caught.value.status == 400

    @pytest.mark.parametrize(
        ("text", "scheme", "opaque"),
        [
            ("tel:+4930123", "tel", "+4930123"),
            ("nobodyKnowsThisScheme:totallyopaquecontent", "nobodyknowsthisscheme", "totallyopaquecontent"),
            ("soap.beep://192.0.2.103:3002", "soap.beep", "//192.0.2.103:3002"),
        ],
    )
    def test_other_schemes_are_not_the_parsers_business(self, text: str, scheme: str, opaque: str) -> None:
        uri = Uri.parse(text)
        assert (uri.scheme, uri.opaque) == (scheme, opaque)
        assert Uri.parse(str(uri)) == uri

    def test_build(self) -> None:
        assert str(Uri.build("10 1", "Acme.example", 5062, {"transport": "tcp"})) == (
            "sip:10%201@acme.example:5062;transport=tcp"
        )
        assert str(Uri.build(None, "::1")) == "sip:[::1]"
        for host in ("", "a b", "a@b", "a;b", "a\r\nb", "[::1]"):
            with pytest.raises(LocalError):
                Uri.build("a", host)

    def test_quote_user(self) -> None:
        assert quote_user("a@b:c d\r\n\u00e4") == "a%40b%3Ac%20d%0D%0A%C3%A4"

    # RFC 3261 19.1.4, its own examples
    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
            ("sip:a@b;x=1;y=2", "sip:a@b;y=2;x=1"),
            ("sip:a@b?to=x&from=y", "sip:a@b?from=y&to=x"),
        ],
    )
    def test_same(self, a: str, b: str) -> None:
        assert same_uri(Uri.parse(a), Uri.parse(b))
        assert same_uri(Uri.parse(b), Uri.parse(a))

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:a@b;security=on", "sip:a@b;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:a@b;maddr=c", "sip:a@b"),
            ("sip:a@b", "sip:a@b;user=phone"),
            ("tel:1", "tel:2"),
        ],
    )
    def test_not_same(self, a: str, b: str) -> None:
        assert not same_uri(Uri.parse(a), Uri.parse(b))
        assert not same_uri(Uri.parse(b), Uri.parse(a))


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "display", "uri_text", "params"),
        [
            ("sip:a@b", "", "sip:a@b", {}),
            ("sip:a@b;tag=1", "", "sip:a@b", {"tag": "1"}),
            ("sip:a@b ;  tag  =  1 ", "", "sip:a@b", {"tag": "1"}),
            ("<sip:a@b;x>;TAG=1;y", "", "sip:a@b;x", {"tag": "1", "y": None}),
            ("caller<sip:a@b>", "caller", "sip:a@b", {}),
            ("T. Watson  <sip:a@b>", "T. Watson", "sip:a@b", {}),
            ('"Bell, \\"A\\" \\\\" <sip:a@b>;q="x;y"', 'Bell, "A" \\', "sip:a@b", {"q": "x;y"}),
            ('"<sip:x@y>"<sip:a@b>', "<sip:x@y>", "sip:a@b", {}),
            ("<http://www.example.com>;tag=3", "", "http://www.example.com", {"tag": "3"}),
            ("<sip:a@b?Route=%3Csip:c%3E>", "", "sip:a@b?Route=%3Csip:c%3E", {}),
            ('sip:a@b;q=1;+sip.instance="<urn:x>"', "", "sip:a@b", {"q": "1", "+sip.instance": "<urn:x>"}),
            ('<sip:a@b>;+sip.instance="<urn:x>";reg-id=1', "", "sip:a@b", {"+sip.instance": "<urn:x>", "reg-id": "1"}),
        ],
    )  # fmt: skip
    def test_parse(self, text: str, display: str, uri_text: str, params: dict[str, str | None]) -> None:
        address = Address.parse(text)
        assert (address.display, address.uri_text, address.params) == (display, uri_text, params)
        assert address.tag == params.get("tag")
        assert not address.star
        assert Address.parse(str(address)) == address

    @pytest.mark.parametrize(
        "text",
        [
            "", "<>", "a", "<sip:a@b", "sip:a@b>", '"a <sip:a@b>', '"a" sip:a@b', '"a"', "< sip:a@b>", "<sip:a@b >",
            "Bell, A <sip:a@b>", "sip:a@b?x=y", "sip:a@b,sip:c@d", "<sip:a@b>,<sip:c@d>", "<sip:a@b>;;x", "<sip:a@b>;",
            "<sip:a@b>x", "<sip:a@b>;tag=1;tag=2", '<sip:a@b>;x="y', "a;b <sip:a@b>", 'a"b <sip:a@b>', "<<sip:a@b>>",
            "* ;x", "*, <sip:a@b>", "a\rb <sip:a@b>",
        ],
    )  # fmt: skip
    def test_malformed(self, text: str) -> None:
        with pytest.raises(BadMessage):
            Address.parse(text)

    def test_star(self) -> None:
        assert Address.parse(" * ").star
        assert str(Address.parse("*")) == "*"

    def test_list(self) -> None:
        found = Address.parse_list(["<sip:e@f>", '"a,b" <sip:a@b>;x="1,2", sip:c@d'])
        assert [address.uri_text for address in found] == ["sip:e@f", "sip:a@b", "sip:c@d"]

    def test_value_compare(self) -> None:
        assert Address.parse("<sip:a@b>") == Address.parse("sip:a@b")
        assert Address.parse("<sip:a@b>") != "sip:a@b"
        assert repr(Address.parse("sip:a@b")) == "Address('<sip:a@b>')"


class TestVia:
    @pytest.mark.parametrize(
        ("text", "via"),
        [
            ("SIP/2.0/UDP a.example", Via("UDP", "a.example", None, {})),
            ("SIP/2.0/tcp [::1]:5061;branch=z9hG4bK1", Via("TCP", "::1", 5061, {"branch": "z9hG4bK1"})),
            ('SIP  / 2.0\t/ UDP  a : 5060 ; rport ; x = "y,z"', Via("UDP", "a", 5060, {"rport": None, "x": "y,z"})),
        ],
    )
    def test_parse(self, text: str, via: Via) -> None:
        assert Via.parse(text) == via
        assert Via.parse(str(via)) == via

    @pytest.mark.parametrize(
        "text",
        [
            "", "SIP/2.0/UDP", "SIP/2.0/UDP ", "SIP/3.0/UDP a", "SIP/2.0/UDP a b", "SIP/2.0/UDP a:0x",
            "SIP/2.0/UDP a;;",
            "SIP/2.0/UDP a:65536", "SIP/2.0/UDP a;branch=1;branch=2", "SIP/2.0/UDP a, SIP/2.0/UDP b", "SIP/2.0/U P a",
        ],
    )  # fmt: skip
    def test_malformed(self, text: str) -> None:
        with pytest.raises(BadMessage):
            Via.parse(text)


class TestCSeq:
    @pytest.mark.parametrize("text", ["0 INVITE", "2147483647 INVITE", "0009   INVITE", "1\tINVITE"])
    def test_good(self, text: str) -> None:
        cseq = CSeq.parse(text)
        assert CSeq.parse(str(cseq)) == cseq

    @pytest.mark.parametrize(
        "text",
        ["", "1", "INVITE", "-1 INVITE", "2147483648 INVITE", "1 INVITE x", "1 IN@VITE", "\u0661 INVITE", "1_0 BYE"],
    )
    def test_bad(self, text: str) -> None:
        with pytest.raises(BadMessage):
            CSeq.parse(text)
