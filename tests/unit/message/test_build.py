"""What we write: answers as slices of the request, and nothing that a value could smuggle in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sipd.message.build import REASONS, request, response, stamp_via
from sipd.message.errors import LocalError
from sipd.message.message import Message
from sipd.message.scanner import scan


def received(
    via: str = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa", to: str = "To: <sip:101@acme.example>"
) -> Message:
    return scan(
        (
            f"OPTIONS sip:a@b SIP/2.0\r\n{via}\r\nf: <sip:alice@acme.example>;tag=f1\r\n{to}\r\nTimestamp: 54\r\n"
            "Subject: hello\r\nCall-ID: c1\r\nCSeq: 7 OPTIONS\r\nl: 0\r\n\r\n"
        ).encode()
    )


class TestResponse:
    def test_whole(self) -> None:
        data = response(received(), 404, None, "ours", [("Warning", '399 x "no"'), b"X: y"], b"body")
        assert data == (
            b"SIP/2.0 404 Not Found\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa\r\n"
            b"f: <sip:alice@acme.example>;tag=f1\r\nTo: <sip:101@acme.example>;tag=ours\r\nCall-ID: c1\r\n"
            b'CSeq: 7 OPTIONS\r\nWarning: 399 x "no"\r\nX: y\r\nContent-Length: 4\r\n\r\nbody'
        )

    def test_trying_has_the_timestamp_and_no_tag(self) -> None:
        msg = scan(response(received(), 100, None, "ours"))
        assert msg.get("timestamp") == "54"
        assert msg.to.tag is None

    @pytest.mark.parametrize(
        "to", ["To: sip:101@acme.example", "t : \r\n <sip:101@acme.example> ", 'To: "a" <sip:101@acme.example;x=y>;z']
    )
    def test_tag_is_added_to_every_form(self, to: str) -> None:
        assert scan(response(received(to=to), 200, None, "ours")).to.tag == "ours"

    def test_tag_that_is_there_stays(self) -> None:
        msg = received(to="To: <sip:101@acme.example>;tag=theirs")
        assert scan(response(msg, 200, None, "ours")).to.tag == "theirs"

    def test_unreadable_to_is_copied(self) -> None:
        assert b"\r\nTo: <oops\r\n" in response(received(to="To: <oops"), 400, None, "ours")

    def test_reasons(self) -> None:
        assert response(received(), 486).startswith(b"SIP/2.0 486 Busy Here\r\n")
        assert response(received(), 499).startswith(b"SIP/2.0 499 Unknown\r\n")
        assert response(received(), 200, "").startswith(b"SIP/2.0 200 \r\n")
        assert all(100 <= status < 700 for status in REASONS)


class TestStamp:
    """RFC 3261 18.2.1 and RFC 3581 4."""

    @pytest.mark.parametrize(
        ("via", "stamped"),
        [
            ("192.0.2.1:5060;branch=z", "192.0.2.1:5060;branch=z"),
            ("10.0.0.5;branch=z", "10.0.0.5;branch=z;received=192.0.2.1"),
            ("a.example", "a.example;received=192.0.2.1"),
            ("192.0.2.1;rport;branch=z", "192.0.2.1;received=192.0.2.1;rport=4444;branch=z"),
            ("192.0.2.1;branch=z;rport", "192.0.2.1;branch=z;received=192.0.2.1;rport=4444"),
            ("192.0.2.1;RPORT;branch=z", "192.0.2.1;rport=4444;branch=z;received=192.0.2.1"),
            ("192.0.2.1 ; rport ;branch=z", "192.0.2.1;rport=4444;branch=z;received=192.0.2.1"),
            ('192.0.2.1;x=";rport";rport', '192.0.2.1;x=";rport";rport=4444;received=192.0.2.1'),
            ("192.0.2.1;rportx;rport", "192.0.2.1;rportx;rport=4444;received=192.0.2.1"),
            ("192.0.2.1;rport=1;branch=z", "192.0.2.1;rport=4444;branch=z;received=192.0.2.1"),
            ("192.0.2.1;received=6.6.6.6", "192.0.2.1"),
        ],
    )
    def test_top(self, via: str, stamped: str) -> None:
        assert stamp_via(received(f"Via: SIP/2.0/UDP {via}"), ("192.0.2.1", 4444)) == (
            f"Via: SIP/2.0/UDP {stamped}\r\n".encode()
        )

    def test_only_the_top_one_of_a_line(self) -> None:
        msg = received('v: SIP/2.0/UDP a;x="1,2";rport,SIP/2.0/TCP b;rport\r\nVia: SIP/2.0/UDP c;rport')
        answer = scan(response(msg, 200, received=("2001:db8::1", 4444)))
        assert [str(via) for via in answer.vias] == [
            'SIP/2.0/UDP a;x="1,2";rport=4444;received=2001:db8::1',
            "SIP/2.0/TCP b;rport",
            "SIP/2.0/UDP c;rport",
        ]

    def test_malformed_stays(self) -> None:
        assert stamp_via(received("Via: SIP/7.0/UDP a"), ("192.0.2.1", 4444)) == b"Via: SIP/7.0/UDP a\r\n"


class TestRequest:
    def test_whole(self) -> None:
        rest = received().rest(frozenset(("via", "content-length", "from", "to", "call-id", "cseq", "timestamp")))
        assert request("OPTIONS", "sip:x@y", [("Via", "SIP/2.0/UDP z"), b"", b"A: b\r\n"], b"hi", rest) == (
            b"OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP z\r\nA: b\r\nSubject: hello\r\nContent-Length: 2\r\n\r\nhi"
        )

    @pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\r\nX: y", "a\0b"])
    def test_no_line_end_gets_in(self, bad: str) -> None:
        msg = received()
        writers: list[Callable[[], bytes]] = [
            lambda: request(bad, "sip:a"),
            lambda: request("OPTIONS", bad),
            lambda: request("OPTIONS", "sip:a", [(bad, "x")]),
            lambda: request("OPTIONS", "sip:a", [("X", bad)]),
            lambda: response(msg, 200, bad),
            lambda: response(msg, 200, None, bad),
            lambda: response(msg, 200, None, None, [("X", bad)]),
            lambda: response(msg, 200, received=(bad, 1)),
        ]
        for write in writers:
            with pytest.raises(LocalError):
                write()

    def test_no_space_in_the_request_line(self) -> None:
        for method, uri in (("A B", "sip:a"), ("A", "sip:a b")):
            with pytest.raises(LocalError):
                request(method, uri)
