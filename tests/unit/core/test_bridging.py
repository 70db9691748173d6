"""What an offer is made into, by who gets it."""

from __future__ import annotations

import pytest

from sipd.bridging import BROWSER, ENCRYPTED, PLAIN, End, answer_fields, offer_fields, profile
from sipd.flow import Flow

SAVP = b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"


def end(transport: str, *, phone: bool, host: str = "192.0.2.9") -> End:
    return End(phone, Flow(transport, host, 5060, 0))


@pytest.mark.parametrize(
    ("phone", "transport", "plain_offered", "srtp_offered"),
    [
        (True, "udp", PLAIN, PLAIN),
        (True, "tcp", PLAIN, PLAIN),
        (True, "tls", ENCRYPTED, ENCRYPTED),
        (True, "ws", BROWSER, BROWSER),
        (True, "wss", BROWSER, BROWSER),
        (False, "udp", PLAIN, PLAIN),
        (False, "tcp", PLAIN, PLAIN),
        (False, "tls", PLAIN, ENCRYPTED),
    ],
)
def test_the_table(phone: bool, transport: str, plain_offered: object, srtp_offered: object) -> None:
    to = end(transport, phone=phone)
    assert (profile(to, secure=False), profile(to, secure=True)) == (plain_offered, srtp_offered)


def test_what_rtpengine_is_told_of_each() -> None:
    assert BROWSER["ICE"] == "force"
    assert BROWSER["rtcp-mux"] == ["require"]
    for plain in (ENCRYPTED, PLAIN):
        assert (plain["ICE"], plain["DTLS"], plain["rtcp-mux"]) == ("remove", "off", ["demux"])
    assert [kind["transport-protocol"] for kind in (BROWSER, ENCRYPTED, PLAIN)] == [
        "UDP/TLS/RTP/SAVPF", "RTP/SAVP", "RTP/AVP",
    ]  # fmt: skip


def test_every_request_hides_the_other_end_and_holds_media_to_its_source() -> None:
    pbx, phone = end("udp", phone=False), end("udp", phone=True)
    for fields in (offer_fields(SAVP, "caller", pbx, phone), answer_fields(SAVP, "callee", phone)):
        assert fields["replace"] == ["origin", "session-connection"]
        assert "strict-source" in fields["flags"]  # type: ignore[operator]
        assert not any("record" in name for name in fields)


def test_the_answer_names_the_side_that_offered_first() -> None:
    fields = answer_fields(b"v=0", "caller", end("udp", phone=True))
    assert (fields["from-tag"], fields["to-tag"]) == ("callee", "caller")


def test_the_address_family_is_named_where_the_ends_differ() -> None:
    four, six = end("udp", phone=True), end("udp", phone=False, host="2001:db8::1")
    assert offer_fields(b"v=0", "caller", four, six)["address family"] == "IP6"
    assert offer_fields(b"v=0", "caller", six, four)["address family"] == "IP4"
    assert offer_fields(b"v=0", "caller", six, four)["received from"] == ["IP6", "2001:db8::1"]
    assert "address family" not in offer_fields(b"v=0", "caller", four, four)


def test_where_srtp_was_refused_it_is_not_offered_again() -> None:
    pbx, phone = end("udp", phone=False), end("tls", phone=True)
    fields = offer_fields(b"v=0", "caller", pbx, phone, encrypt=False)
    assert fields["transport-protocol"] == "RTP/AVP"
    browser = offer_fields(b"v=0", "caller", pbx, end("wss", phone=True), encrypt=False)
    assert browser["transport-protocol"] == "UDP/TLS/RTP/SAVPF"
