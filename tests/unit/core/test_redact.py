"""No secret outlives `redact`, whatever the message looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd.redact import redact, redact_all

SECRET = st.text("abcdefghijklmnopqrstuvwxyz0123456789+/", min_size=24, max_size=44).map(lambda text: f"zz{text}zz")
CASES = st.sampled_from([str, str.upper, str.lower, str.title])
HEADERS = (
    'Authorization: Digest username="101", realm="acme.example", nonce="n1", uri="sip:acme.example", response="{}"',
    'Authorization: Digest username="101",\r\n response="{0}",\r\n\tcnonce="{0}", nc=00000001, qop=auth',
    'Proxy-Authorization : Digest response={}, username="101"',
    "Authorization: Bearer {}",
    "Authorization: Basic {}==",
    "Proxy-Authorization: Digest {}",
    'Authentication-Info: rspauth="{0}", cnonce="{0}", nc=00000001',
    "X-Api-Key: {}",
    "X-Session-Token: {}",
    "From: <sip:101:{}@acme.example>;tag=1",
    "Contact: <sips:101:{}@10.0.0.1>",
    "Refer-To: <sip:102@acme.example?Authorization=Digest%20{}&Replaces=c%3Bto-tag%3D1>",
)
SDP_LINES = (
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{}|2^20|1:4",
    "a=ice-pwd:{}",
    "a=key-mgmt:mikey {}",
    "k=base64:{}",
    "k=clear:{}",
)


@given(SECRET, st.lists(st.sampled_from(HEADERS), min_size=1), st.lists(st.sampled_from(SDP_LINES)), CASES)
def test_no_secret_survives(secret: str, headers: list[str], body: list[str], case: type[str]) -> None:
    lines = [name_in(case, header.format(secret)) for header in headers]
    head = "\r\n".join(["INVITE sip:102@acme.example SIP/2.0", *lines, "Content-Type: application/sdp", "", ""])
    whole = head + "\r\n".join(["v=0", *(line.format(secret) for line in body), "a=sendrecv", ""])
    for message in (whole, whole.replace("\r\n", "\n"), head, whole[: len(whole) - 1]):
        for bodies in ("sdp", "all", "none"):
            assert secret.encode() not in redact(message.encode(), bodies)


def name_in(case: type[str], header: str) -> str:
    name, colon, rest = header.partition(":")
    return case(name) + colon + rest


@given(st.binary(max_size=400), st.sampled_from(["sdp", "all", "none"]))
def test_any_bytes_will_do(data: bytes, bodies: str) -> None:
    once = redact(data, bodies)
    assert len(once) <= 12 * len(data) + 100
    redact(once, bodies)


@given(SECRET, st.integers(0, 200), st.binary(max_size=3))
def test_a_broken_message_loses_its_secrets_too(secret: str, at: int, noise: bytes) -> None:
    head = f'REGISTER sip:a SIP/2.0\r\nAuthorization: Digest username="1", response="{secret}"\r\nl: 0\r\n\r\n'.encode()
    at = min(at, head.index(b"Authorization"))
    assert secret.encode() not in redact(head[:at] + noise + b"\r\n" + head[at:])


def test_what_helps_stays() -> None:
    text = (
        b"REGISTER sip:acme.example SIP/2.0\r\nFrom: <sip:101@acme.example>;tag=1\r\n"
        b'Authorization: Digest username="101", realm="a.example", nonce="n", uri="sip:a", response="r", qop=auth\r\n'
        b"Identity: abc;info=<https://x>;alg=ES256\r\nContent-Type: application/sdp\r\n\r\n"
        b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\r\na=rtpmap:0 PCMU/8000\r\n"
    )
    assert redact(text) == (
        b"REGISTER sip:acme.example SIP/2.0\r\nFrom: <sip:101@acme.example>;tag=1\r\n"
        b'Authorization: Digest username="101", realm="a.example", nonce="n", uri="sip:a", '
        b'response="(removed)", qop=auth\r\n'
        b"Identity: abc;info=<https://x>;alg=ES256\r\nContent-Type: application/sdp\r\n\r\n"
        b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 (removed)\r\na=rtpmap:0 PCMU/8000\r\n"
    )


@pytest.mark.parametrize(
    ("bodies", "kind", "kept"),
    [
        ("sdp", "text/plain", False), ("all", "text/plain", True), ("none", "application/sdp", False),
        ("sdp", "application/sdp", True), ("sdp", "Application/SDP;charset=utf-8", True), ("sdp", "", False),
    ],
)  # fmt: skip
def test_which_bodies_are_kept(bodies: str, kind: str, kept: bool) -> None:
    message = f"MESSAGE sip:a SIP/2.0\r\nContent-Type: {kind}\r\n\r\nhello there".encode()
    assert (b"hello there" in redact(message, bodies)) is kept
    if not kept:
        assert f"(body of 11 bytes, {kind or 'no type'}, not kept)".encode() in redact(message, bodies)


PIECES = st.sampled_from(
    [b"INVITE sip:a SIP/2.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"k=clear:x", b"k", b"Content-Type: text/plain",
     b"c: application/sdp", b"v=0", b"sip:1:pw@h", b"sip:1", b":pw@h", b"Authorization: Basic x",
     b"To: <sip:1@h>", b" "]
)  # fmt: skip


@given(st.lists(st.lists(PIECES).map(b"".join), max_size=4), st.sampled_from(["sdp", "all", "none"]))
def test_many_together_lose_what_each_would_lose(messages: list[bytes], bodies: str) -> None:
    assert redact_all(messages, bodies) == [redact(data, bodies) for data in messages]
