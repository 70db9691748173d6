"""What the scanner lets in, what it refuses, and with what answer."""

from __future__ import annotations

import pytest

from sipd.message.check import check
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.scanner import Limits, scan

HEAD = (
    "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa",
    "Max-Forwards: 70",
    'From: "Alice" <sip:alice@acme.example>;tag=f1',
    "To: <sip:101@acme.example>",
    "Call-ID: call1@192.0.2.1",
    "CSeq: 1 INVITE",
)


def build(*more: str, start: str = "INVITE sip:101@acme.example SIP/2.0", body: str = "", drop: str = "-") -> bytes:
    lines = [start, *(line for line in HEAD if not line.startswith(drop)), *more]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("utf-8", "surrogateescape")


def refused(data: bytes, limits: Limits | None = None) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        check(scan(data, limits) if limits else scan(data))
    return caught.value


class TestRequest:
    def test_parts(self) -> None:
        msg = scan(build("Content-Length: 4", body="v=0\n"))
        check(msg)
        assert (msg.method, msg.uri, msg.status, msg.body) == ("INVITE", "sip:101@acme.example", 0, b"v=0\n")
        assert (msg.via.branch, msg.max_forwards, msg.cseq.number, msg.cseq.method) == ("z9hG4bKa", 70, 1, "INVITE")
        assert (msg.from_.display, msg.from_.tag, msg.to.tag, msg.call_id) == ("Alice", "f1", None, "call1@192.0.2.1")
        assert (msg.contacts, msg.expires, msg.content_type) == ([], None, "")

    def test_octets_beyond_content_length_are_ignored(self) -> None:
        assert scan(build("Content-Length: 2", body="abcdef")).body == b"ab"

    def test_without_content_length_a_datagram_ends_the_body(self) -> None:
        assert scan(build(body="abcdef")).body == b"abcdef"

    def test_leading_line_ends_are_skipped(self) -> None:
        assert scan(b"\r\n\r\n" + build()).method == "INVITE"

    @pytest.mark.parametrize("name", ["Call-ID", "CALL-ID", "call-id", "cAlL-iD", "i", "I", "i ", "Call-ID\t "])
    def test_spellings_of_a_name(self, name: str) -> None:
        msg = scan(build(f"{name}: other", drop="Call-ID"))
        assert msg.get("call-id") == "other"
        assert msg.count("call-id") == 1

    def test_several_vias_in_one_line(self) -> None:
        joined = "Via: SIP/2.0/UDP a.example;branch=z9hG4bK1, SIP/2.0/TCP [2001:db8::1]:5062;branch=z9hG4bK2"
        msg = scan(build(joined, "v: SIP/2.0/TLS c.example", drop="Via"))
        assert [(via.transport, via.host, via.port) for via in msg.vias] == [
            ("UDP", "a.example", None),
            ("TCP", "2001:db8::1", 5062),
            ("TLS", "c.example", None),
        ]

    def test_folded_lines(self) -> None:
        msg = scan(build("Subject: one\r\n two\r\n\tthree", "Last: x"))
        assert msg.get("subject") == "one two\tthree"
        assert msg.get("last") == "x"

    def test_utf8_and_broken_utf8_come_back_as_they_were(self) -> None:
        data = build('Contact: "Zo\u00eb \udcff" <sip:a@b>')
        msg = scan(data)
        assert (msg.get("contact") or "").encode("utf-8", "surrogateescape") in data

    def test_all_and_split(self) -> None:
        msg = scan(build("Supported: a, b", "k: c,,", 'X-List: "a,b", <c,d>, e'))
        assert msg.all("supported") == ["a, b", "c,,"]
        assert msg.split("supported") == ["a", "b", "c"]
        assert msg.split("x-list") == ['"a,b"', "<c,d>", "e"]
        assert msg.get("none") is None
        assert not msg.has("none")

    def test_rest_is_slices_of_what_was_received(self) -> None:
        msg = scan(build("Subject: one\r\n two", "x-Own:  spaced ", "Content-Length: 0"))
        rest = msg.rest(frozenset(("via", "from", "to", "max-forwards", "content-length")))
        assert rest == b"Call-ID: call1@192.0.2.1\r\nCSeq: 1 INVITE\r\nSubject: one\r\n two\r\nx-Own:  spaced \r\n"
        assert msg.rest(frozenset(msg.names())) == b""
        assert msg.lines("subject") == b"Subject: one\r\n two\r\n"

    def test_no_header_at_all(self) -> None:
        assert refused(b"INVITE sip:a@b SIP/2.0\r\n\r\n").message is None


class TestResponse:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("SIP/2.0 200 OK", "OK"),
            ("SIP/2.0 100 ", ""),
            ("SIP/2.0 180", ""),
            ("sip/2.0 486 Besetzt \u00e4", "Besetzt \u00e4"),
        ],
    )
    def test_status_lines(self, line: str, reason: str) -> None:
        msg = scan(build(start=line))
        check(msg)
        assert (msg.method, msg.uri, msg.reason) == ("INVITE", "", reason)
        assert msg.status in (200, 100, 180, 486)

    @pytest.mark.parametrize(
        "line",
        ["SIP/2.0 20 OK", "SIP/2.0 2000 OK", "SIP/2.0 099 x", "SIP/2.0 700 x", "SIP/2.0  200 OK", "SIP/3.0 200 OK"],
    )
    def test_malformed_are_discarded(self, line: str) -> None:
        assert refused(build(start=line)).message is None

    def test_reason_carries_no_nul(self) -> None:
        assert scan(build(start="SIP/2.0 486 a\\\0b")).reason == "a\\ b"

    def test_without_cseq(self) -> None:
        assert refused(build(start="SIP/2.0 200 OK", drop="CSeq")).message is None

    def test_body_shorter_than_said(self) -> None:
        assert refused(build("l: 5", start="SIP/2.0 200 OK")).message is None


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "status", "reason"),
        [
            (build("Content-Length: 5", body="abcd"), 400, "Body Shorter Than Content-Length"),
            (build("Content-Length: -1"), 400, "Invalid Content-Length"),
            (build("Content-Length:"), 400, "Invalid Content-Length"),
            (build("Content-Length: 0\x0b"), 400, "Invalid Content-Length"),
            (build("Content-Length: 99999999999"), 400, "Invalid Content-Length"),
            (build("Content-Length: 0", "l: 1", body="a"), 400, "Invalid Content-Length"),
            (build("no colon"), 400, "Malformed Header Line"),
            (build(": empty"), 400, "Malformed Header Line"),
            (build("Name\x01: x"), 400, "Malformed Header Line"),
            (build("Na me: x"), 400, "Malformed Header Line"),
            (build("X: a\0b"), 400, "NUL In Headers"),
            (build("X: a\nb"), 400, "Bare Line End In Headers"),
            (build("X: a\rb"), 400, "Bare Line End In Headers"),
            (build()[:-2], 400, "Headers Not Ended By Blank Line"),
            (build()[:-4], 400, "Headers Not Ended By Blank Line"),
            (build(start="INVITE  sip:a SIP/2.0"), 400, "Malformed Request Line"),
            (build(start="INVITE sip:a SIP/2.0 "), 400, "Malformed Request Line"),
            (build(start="INVITE sip:a"), 400, "Malformed Request Line"),
            (build(start="IN@VITE sip:a SIP/2.0"), 400, "Malformed Request Line"),
            (build(start="INVITE sip:a SIP/2"), 400, "Malformed Request Line"),
            (build(start="INVITE sip:a HTTP/1.1"), 400, "Malformed Request Line"),
            (build(start="INVITE sip:a SIP/3.0"), 505, "Version Not Supported"),
            (build(start=f"INVITE sip:{'a' * 8192} SIP/2.0"), 414, "Request-URI Too Long"),
            (build(*["X: y"] * 200), 513, "Too Many Header Lines"),
            (build("X: " + "y" * 8192), 513, "Header Line Too Long"),
            (build(body="y" * 65536), 513, "Message Too Large"),
        ],
    )
    def test_by_the_scanner(self, data: bytes, status: int, reason: str) -> None:
        bad = refused(data)
        assert (bad.status, bad.reason) == (status, reason)
        assert bad.message is not None
        assert bad.message.get("call-id") == "call1@192.0.2.1"

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (build(drop="From"), "Missing From"),
            (build(drop="To"), "Missing To"),
            (build(drop="Call-ID"), "Missing Call-ID"),
            (build(drop="CSeq"), "Missing CSeq"),
            (build("f: <sip:x@y>"), "Repeated From"),
            (build("Call-ID: x"), "Repeated Call-ID"),
            (build("Max-Forwards: 70"), "Repeated Max-Forwards"),
            (build("Expires: 1", "Expires: 2"), "Repeated Expires"),
            (build("Max-Forwards: 256", drop="Max"), "Invalid Max-Forwards"),
            (build("Max-Forwards: \u0663", drop="Max"), "Invalid Max-Forwards"),
            (build("Expires: 4294967296"), "Invalid Expires"),
            (build("Expires:"), "Invalid Expires"),
            (build("CSeq: 2147483648 INVITE", drop="CSeq"), "Invalid CSeq"),
            (build("CSeq: 1INVITE", drop="CSeq"), "Malformed CSeq"),
            (build("CSeq: 1\x0bINVITE", drop="CSeq"), "Malformed CSeq"),
            (build("CSeq: 1\xa0INVITE", drop="CSeq"), "Malformed CSeq"),
            (build("CSeq: 1 BYE", drop="CSeq"), "CSeq Method Does Not Match"),
            (build("Call-ID:", drop="Call-ID"), "Malformed Call-ID"),
            (build("Call-ID: a b", drop="Call-ID"), "Malformed Call-ID"),
            (build("Date: Fri, 01 Jan 2010 16:00:00 EST"), "Malformed Date"),
            (build("Contact: *"), "Malformed Contact"),
            (build("Contact:"), "Malformed URI"),
            (build("Contact: <sip:a@b>,"), "Malformed URI"),
            (build('Contact: "a <sip:a@b>'), "Unbalanced Quotes"),
            (build("Via: SIP/2.0/UDP a,", drop="Via"), "Malformed Via"),
            (build("From: <sip:a@b>;tag=1;tag=2", drop="From"), "Conflicting Header Parameters"),
            (build(start="INVITE <sip:a@b> SIP/2.0"), "Malformed URI"),
            (build(start="INVITE sip: SIP/2.0"), "Malformed URI"),
            (build(start="INVITE sip:a@b?Route=c SIP/2.0"), "Headers In Request-URI"),
        ],
    )
    def test_by_check(self, data: bytes, reason: str) -> None:
        bad = refused(data)
        assert (bad.status, bad.reason) == (400, reason)
        assert bad.message is not None

    def test_unknown_method_with_another_cseq(self) -> None:
        assert refused(build(start="NEW sip:a@b SIP/2.0")).status == 501

    def test_star_contact_in_register(self) -> None:
        check(scan(build("Contact: *", "CSeq: 2 REGISTER", start="REGISTER sip:b SIP/2.0", drop="CSeq")))

    def test_repeated_equal_content_length(self) -> None:
        assert scan(build("Content-Length: 1", "l: 1", body="a")).body == b"a"

    def test_ack_is_never_answered(self) -> None:
        bad = refused(build("no colon", "CSeq: 1 ACK", start="ACK sip:a@b SIP/2.0", drop="CSeq"))
        assert bad.message is None
        bad = refused(build("Expires: x", "CSeq: 1 ACK", start="ACK sip:a@b SIP/2.0", drop="CSeq"))
        assert bad.message is None

    def test_without_via_there_is_no_answer(self) -> None:
        assert refused(build(drop="Via")).message is None

    def test_what_would_be_copied_must_have_no_stray_line_end(self) -> None:
        assert refused(build("f: a\nb", drop="From")).message is None

    def test_escaped_nul_is_legal_but_goes_no_further(self) -> None:
        msg = scan(build('To: "a\\\0b" <sip:a@b>', drop="To"))
        check(msg)
        assert msg.to.display == "a b"
        assert msg.get("to") == '"a\\ b" <sip:a@b>'

    def test_nothing_received_is_echoed(self) -> None:
        for data in (build("secret"), build(start="secret secret secret"), build("Expires: secret")):
            assert "secret" not in str(refused(data))

    def test_lists_have_a_limit(self) -> None:
        many = ",".join(["<sip:a@b>"] * 201)
        assert refused(build(f"Contact: {many}")).status == 513
        assert refused(build("Via: " + ",".join(["SIP/2.0/UDP a"] * 200))).status == 513

    def test_limits_can_be_set(self) -> None:
        limits = Limits(message=10_000, lines=8, line=100)
        assert isinstance(scan(build("A: b"), limits), Message)
        assert refused(build("A: b", "C: d", "E: f"), limits).status == 513
        assert refused(build("A: " + "b" * 100), limits).status == 513


class TestEachPrefix:
    def test_cut_anywhere(self) -> None:
        """A datagram that was cut is refused, wherever the cut is, and never misread."""
        data = build("Content-Length: 4", body="v=0\n")
        for end in range(len(data)):
            with pytest.raises(BadMessage):
                check(scan(data[:end]))


def test_more_lines_than_allowed_by_bare_line_feeds_end_where_the_headers_do() -> None:
    """The count is of line feeds, of which the headers' own line ends are a part only: the body is no header."""
    data = b"OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nX: " + b"\n" * 300 + b"\r\n\r\nbody\r\n"
    with pytest.raises(BadMessage) as caught:
        scan(data)
    assert caught.value.status == 513
