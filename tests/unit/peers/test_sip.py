from __future__ import annotations

import pytest

from tests.peers import digest
from tests.peers.sip import Address, MalformedError, Message, Uri, split_outside

REQUEST = (
    b"INVITE sip:101@acme.example SIP/2.0\r\n"
    b"v: SIP/2.0/UDP a:5060;branch=z9hG4bK1, SIP/2.0/TCP b;branch=z9hG4bK2\r\n"
    b'f: "Ann, \\"A\\"" <sip:ann@b.example;x=1>;tag=one\r\n'
    b"To: sip:101@acme.example;tag=two\r\n"
    b"i: c1\r\nCSeq: 7  INVITE\r\n"
    b'Contact: "x, y" <sip:a@b,c>, <sip:d@e>\r\n'
    b"Subject: one\r\n two\r\n"
    b"l: 2\r\n\r\nab"
)


def test_compact_folded_and_joined_headers() -> None:
    message = Message.parse(REQUEST)
    assert message.start_line == "INVITE sip:101@acme.example SIP/2.0"
    assert (message.cseq, message.call_id) == ((7, "INVITE"), "c1")
    assert message.branch == "z9hG4bK1"
    assert len(message.all("Via")) == 2
    assert [address.uri_text for address in message.contacts] == ["sip:a@b,c", "sip:d@e"]
    assert (message.from_.display, message.from_.tag) == ('Ann, \\"A\\"', "one")
    assert (message.to.uri_text, message.to.tag) == ("sip:101@acme.example", "two")
    assert message.get("Subject") == "one two"
    assert message.body == b"ab"


def test_what_is_written_is_read_back() -> None:
    message = Message.parse(REQUEST)
    again = Message.parse(bytes(message))
    assert again.start_line == message.start_line
    assert again.all("Contact") == message.all("Contact")
    assert bytes(again) == bytes(message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"INVITE sip:a@b SIP/2.0\r\n\r\n",
        REQUEST.replace(b"SIP/2.0\r\nv", b"SIP/3.0\r\nv", 1),
        REQUEST.replace(b"l: 2", b"l: 3"),
        REQUEST.replace(b"l: 2", b"l: -1"),
        REQUEST.replace(b"Subject:", b"Sub ject:"),
        REQUEST.replace(b"CSeq: 7 ", b"CSeq: x "),
        REQUEST.replace(b"Ann", b"\xff"),
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Message.parse(data)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("sip:b.example", Uri("", "b.example", 0, {})),
        (
            "sip:101:pw@b.example:5080;lr;Transport=tcp?a=b",
            Uri("101", "b.example", 5080, {"lr": "", "transport": "tcp"}),
        ),
        ("sip:101@[2001:db8::1]:5060", Uri("101", "2001:db8::1", 5060, {})),
        ("sip:a;b@c.example", Uri("a;b", "c.example", 0, {})),
    ],
)
def test_uris(text: str, uri: Uri) -> None:
    assert Uri.parse(text) == uri


@pytest.mark.parametrize("text", ["", "tel:1", "sip:", "sip:a@", "sip:a@b:x", "http://b"])
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(MalformedError):
        Uri.parse(text)


def test_an_address_without_brackets_owns_its_parameters() -> None:
    """RFC 3261 section 20.10."""
    assert Address.parse("sip:a@b;tag=1") == Address("sip:a@b", {"tag": "1"})
    assert Address.parse("<sip:a@b;x=1>;tag=1") == Address("sip:a@b;x=1", {"tag": "1"})


def test_separators_in_quotes_and_brackets_do_not_split() -> None:
    assert split_outside('a, "b, \\", c" <d, e>, f', ",") == ["a", ' "b, \\", c" <d, e>', " f"]


def test_the_digest_of_the_rfcs() -> None:
    """RFC 7616 section 3.9.1, both algorithms."""
    fields = {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "uri": "/dir/index.html",
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
    }
    md5 = digest.response({**fields, "algorithm": "MD5"}, "GET", "Circle of Life")
    assert md5 == "8ca523f5e9506fed4657c9700eebdbec"
    assert (
        digest.response({**fields, "algorithm": "SHA-256"}, "GET", "Circle of Life")
        == "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    )


@pytest.mark.parametrize("qop", [True, False])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_both_sides_of_the_digest_agree(algorithm: str, qop: bool) -> None:
    server = digest.Server((algorithm,), qop, uses_per_nonce=2)
    client = digest.Client("ann", "secret")
    challenges = server.challenges("acme.example")

    def verdict(header: str | None, password: str = "secret") -> str:
        return server.check(header or "", "REGISTER", lambda *_: password)

    first = client.answer(challenges, "REGISTER", "sip:acme.example")
    assert verdict(first) == "ok"
    assert verdict(first) == ("replayed" if qop else "ok")
    assert verdict(first, "other") == "wrong"
    client.answer(challenges, "REGISTER", "sip:acme.example")
    second = client.answer(challenges, "REGISTER", "sip:acme.example")
    assert verdict(second) == ("ok" if qop else "stale")
    assert verdict(client.answer(challenges, "REGISTER", "sip:acme.example")) == "stale"
    assert verdict("") == verdict("Basic x") == "wrong"


def test_a_client_takes_the_first_algorithm_that_it_can() -> None:
    challenges = digest.Server(("SHA-256", "MD5")).challenges("acme.example")
    answer = digest.Client("ann", "x", ("MD5",)).answer(challenges, "REGISTER", "sip:acme.example")
    assert answer is not None
    assert "algorithm=MD5" in answer
    assert digest.Client("ann", "x", ()).answer(challenges, "REGISTER", "sip:acme.example") is None
