"""What an offer is made into, by who gets it."""

from __future__ import annotations

import pytest

from sipd.bridging import BROWSER, ENCRYPTED, PLAIN, End, Kind, answer_fields, kind_of, offer_fields, profile
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
    assert BROWSER.fields() == {
        "transport-protocol": "UDP/TLS/RTP/SAVPF", "ICE": "force", "rtcp-mux": ["require"], "SDES": ["off"],
    }  # fmt: skip
    assert ENCRYPTED.fields() == {
        "transport-protocol": "RTP/SAVP", "ICE": "remove", "rtcp-mux": ["demux"], "DTLS": "off",
    }  # fmt: skip
    assert PLAIN.fields() == {
        "transport-protocol": "RTP/AVP", "ICE": "remove", "rtcp-mux": ["demux"], "DTLS": "off", "SDES": ["off"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sdp", "kind"),
    [
        (b"v=0\r\nm=audio 4 RTP/AVP 0\r\n", PLAIN),
        (b"v=0\r\nm=audio 4 RTP/SAVP 0\r\na=crypto:1 x inline:y\r\n", ENCRYPTED),
        (b"v=0\nm=audio 9 UDP/TLS/RTP/SAVPF 0\na=ice-ufrag:x\na=rtcp-mux\nm=video 9 RTP/AVP 9\n", BROWSER),
        (b"v=0\r\nm=audio 4 UDP/TLS/RTP/SAVP 0\r\n", Kind("UDP/TLS/RTP/SAVP")),
        (b"v=0\r\nm=image 4 udptl t38\r\n", None),
        (b"v=0\r\nm=audio\r\n", None),
        (b"v=0\r\nm=audio 4 RTP/\xff 0", None),
        (b"v=0\r\n", None),
    ],
)
def test_what_an_end_can_do_by_its_own_words(sdp: bytes, kind: Kind | None) -> None:
    assert kind_of(sdp) == kind


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


def test_who_has_spoken_is_offered_the_same_again() -> None:
    """Catches: SRTP in a re-INVITE to a phone over TLS that called with plain RTP, and the other way round."""
    pbx = end("udp", phone=False)
    for transport, spoken in (("tls", PLAIN), ("udp", ENCRYPTED), ("udp", Kind("UDP/TLS/RTP/SAVP"))):
        fields = offer_fields(b"v=0", "caller", pbx, end(transport, phone=True), spoken)
        assert fields["transport-protocol"] == spoken.protocol


def test_the_source_of_a_phones_sip_is_believed_but_of_a_websocket() -> None:
    for transport, flags in (("udp", 2), ("tls", 2), ("ws", 1), ("wss", 1)):
        assert len(answer_fields(b"v=0", "callee", end(transport, phone=True))["flags"]) == flags  # type: ignore[arg-type]
    assert answer_fields(b"v=0", "callee", end("udp", phone=False))["flags"] == ["strict-source"]
