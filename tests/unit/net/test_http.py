"""What is a request to those who watch, and what is none."""

from __future__ import annotations

import pytest

from sipd.net.http import BadRequest, Reply, Request, encode, parse

HOST = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (b"GET /metrics HTTP/1.1\r\n" + HOST, Request("GET", "/metrics", "")),
        (b"HEAD /healthz?x=/y HTTP/1.1\r\nhOsT: a\r\n", Request("HEAD", "/healthz", "")),
        (b"GET / HTTP/1.0\r\n", Request("GET", "/", "")),
        (b"GET /m HTTP/1.1\r\n" + HOST + b"Authorization:  Bearer x \r\n", Request("GET", "/m", "Bearer x")),
    ],
)
def test_good_requests(text: bytes, request_: Request) -> None:
    assert parse(text + b"\r\n") == request_


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"", 400),
        (b"GET\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + HOST, 400),
        (b"GET  / HTTP/1.1\r\n" + HOST, 400),
        (b"GET http://a/ HTTP/1.1\r\n" + HOST, 400),
        (b"GET / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Space : x\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b" folded: x\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST, 405),
        (b"get / HTTP/1.1\r\n" + HOST, 405),
        (b"OPTIONS sip:a SIP/2.0\r\n" + HOST, 400),
    ],
)
def test_what_is_no_request(text: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text + b"\r\n")
    assert caught.value.status == status


def test_an_answer_says_its_length_and_ends_the_connection_and_head_has_no_body() -> None:
    whole = encode(Reply(200, b"text\n"), head=False)
    assert whole.endswith(b"\r\n\r\ntext\n")
    assert b"Content-Length: 5\r\n" in whole
    assert b"Connection: close\r\n" in whole
    assert encode(Reply(200, b"text\n"), head=True) == whole.removesuffix(b"text\n")
