"""Where the SDP of a message is, and what else of the body stays as it was."""

from __future__ import annotations

import pytest

from sipd.message.scanner import scan
from sipd.sdp import find, is_secure

SDP = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"
PIDF = b"Content-Type: application/pidf+xml\r\nContent-ID: <a@b>\r\n\r\n<presence/>"


def message(content_type: str, body: bytes, more: str = "") -> bytes:
    head = f"INVITE sip:a@b SIP/2.0\r\nContent-Type: {content_type}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def mixed(*parts: bytes) -> bytes:
    return b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge--\r\n"


@pytest.mark.parametrize("kind", ["application/sdp", "Application/SDP", "application/sdp ; charset=utf-8"])
def test_the_whole_body(kind: str) -> None:
    received = scan(message(kind, SDP))
    part = find(received)
    assert part is not None
    assert part.of(received.body) == SDP
    assert part.replaced(received.body, b"new") == b"new"


@pytest.mark.parametrize("boundary", ["edge", '"edge"'])
@pytest.mark.parametrize("head", [b"Content-Type: application/sdp", b"content-type:Application/SDP;x=y\r\nX: y"])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"preamble\r\n"])
def test_one_part_of_several(boundary: str, head: bytes, before: bytes) -> None:
    body = before + mixed(PIDF, head + b"\r\n\r\n" + SDP, PIDF)
    part = find(scan(message(f"multipart/mixed; x=1;boundary={boundary}", body)))
    assert part is not None
    assert part.of(body) == SDP
    assert part.replaced(body, b"new") == before + mixed(PIDF, head + b"\r\n\r\nnew", PIDF)


@pytest.mark.parametrize(
    "data",
    [
        message("application/sdp", b""),
        message("application/isup", SDP),
        message("application/sdp", SDP, "Content-Encoding: gzip\r\n"),
        message("multipart/mixed;boundary=edge", mixed(PIDF)),
        message("multipart/mixed;boundary=other", mixed(b"Content-Type: application/sdp\r\n\r\n" + SDP)),
        message("multipart/mixed", mixed(b"Content-Type: application/sdp\r\n\r\n" + SDP)),
        message("multipart/mixed;boundary=", mixed(b"Content-Type: application/sdp\r\n\r\n" + SDP)),
        message("multipart/alternative;boundary=edge", mixed(b"Content-Type: application/sdp\r\n\r\n" + SDP)),
        message("multipart/mixed;boundary=edge", b"--edge\r\nContent-Type: application/sdp\r\n\r\n" + SDP),
        message("multipart/mixed;boundary=edge", mixed(*2 * [b"Content-Type: application/sdp\r\n\r\n" + SDP])),
        message(
            "multipart/mixed;boundary=edge",
            mixed(b"Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w"),
        ),
        message("multipart/mixed;boundary=edge", b"--edge--"),
        message("multipart/mixed;boundary=edge", b"\r\n--edge\r\n\r\n"),
    ],
)
def test_none_that_can_be_read(data: bytes) -> None:
    assert find(scan(data)) is None


def test_srtp_is_seen_in_both_its_forms() -> None:
    assert not is_secure(SDP)
    assert is_secure(SDP + b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n")
    assert is_secure(SDP + b"a=fingerprint:sha-256 AA:BB\r\n")
