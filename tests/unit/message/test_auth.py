"""Digest, with the examples of the RFCs."""

from __future__ import annotations

import pytest

from sipd.message.auth import Challenge, Credentials, answer, digest_response, ha1, parse_challenges, pick, same_digest
from sipd.message.errors import BadMessage, LocalError

# RFC 7616 3.9.1
RFC7616 = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
    'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="{}", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc7616(algorithm: str, response: str) -> None:
    credentials = Credentials.parse(RFC7616.format(algorithm, response))
    secret = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
    assert digest_response(credentials, secret, "GET") == response == credentials.response
    assert Credentials.parse(str(credentials)) == credentials


def test_without_qop() -> None:
    """RFC 2069, with its errata."""
    credentials = Credentials(
        "Mufasa", "testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "/dir/index.html", ""
    )
    secret = ha1("MD5", "Mufasa", "testrealm@host.com", "CircleOfLife")
    assert digest_response(credentials, secret, "GET") == "1949323746fe6a43ef61f9606e7febea"


def test_qop_without_counter_and_cnonce_is_none() -> None:
    """aiosip repeats the challenge's qop, and digests as RFC 2069 had it."""
    old = 'Digest username="u", realm="r", nonce="n", uri="sip:h", response="x"'
    for text in (f'{old}, qop="auth"', f'{old}, qop=auth, nc="", cnonce=""'):
        assert Credentials.parse(text) == Credentials.parse(old)
    assert Credentials.parse(f'{old}, qop=auth, nc=1, cnonce="c"').qop == "auth"


def test_auth_int_covers_the_body() -> None:
    credentials = Credentials("a", "r", "n", "sip:b", "", qop="auth-int", nc="00000001", cnonce="c")
    assert digest_response(credentials, "h", "INVITE", b"x") != digest_response(credentials, "h", "INVITE", b"y")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", ["", "auth", "auth-int,auth"])
def test_what_we_answer_verifies(algorithm: str, qop: str) -> None:
    challenge = Challenge.parse(f'Digest realm="r \\"q\\"", nonce="n", opaque="o", algorithm={algorithm}, qop="{qop}"')
    value = answer(challenge, "alice", "secret", "REGISTER", "sip:acme.example", 2, "c0")
    credentials = Credentials.parse(value)
    assert (credentials.nc, credentials.qop) == (("00000002", "auth") if qop else ("", ""))
    secret = ha1(algorithm, "alice", 'r "q"', "secret")
    assert credentials.response == digest_response(credentials, secret, "REGISTER")
    assert answer(challenge, "alice", "", "REGISTER", "sip:acme.example", 2, "c0", ha1=secret) == value


def test_the_strongest_is_picked() -> None:
    texts = [
        'Basic realm="x"',
        'Digest realm="x", nonce="1", algorithm=AKAv1-MD5',
        'Digest realm="x", nonce="2"',
        'Digest realm="x", nonce="3", algorithm=sha-256, qop="auth"',
        'Digest realm="x", nonce="4", algorithm=SHA-256',
        'Digest realm="x", nonce="5", algorithm=SHA-256, qop="auth-int"',
        "Digest oops",
    ]
    challenges = parse_challenges(texts)
    assert [challenge.nonce for challenge in challenges] == ["1", "2", "3", "4", "5"]
    best = pick(challenges)
    assert best is not None
    assert best.nonce == "3"
    assert pick(challenges[:1]) is None
    assert [Challenge.parse(str(challenge)) for challenge in challenges] == challenges


def test_stale() -> None:
    assert Challenge.parse("Digest realm=x, nonce=y, stale=TRUE").stale
    assert str(Challenge("r", "n", stale=True, opaque="o")) == (
        'Digest realm="r", nonce="n", algorithm=MD5, stale=true, opaque="o"'
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "Digest", "digest ", "Basic abc", "NoOneKnowsThisScheme opaque-data=here", "Digest username",
        "Digest =x",
        'Digest username="a', "Digest username=a,,realm=b", 'Digest realm="a" nonce="b"', "Digest realm=a, realm=a",
        "Digest " + ",".join(f"p{i}=x" for i in range(40)), 'Digest realm="r", nonce="n"', "\0", ", ,",
        "Digest a=\r\nb",
    ],
)  # fmt: skip
def test_hostile_credentials(text: str) -> None:
    with pytest.raises(BadMessage):
        Credentials.parse(text)


def test_our_own_faults() -> None:
    with pytest.raises(LocalError):
        ha1("MD4", "a", "b", "c")
    with pytest.raises(LocalError):
        answer(Challenge("r", "n", "MD4"), "a", "b", "REGISTER", "sip:c")
    with pytest.raises(LocalError):
        answer(Challenge("r", "n", qop=("auth",)), "a", "b", "REGISTER", "sip:c")


def test_compare_any_text() -> None:
    assert same_digest("\u00e4\udcff", "\u00e4\udcff")
    assert not same_digest("a", "\u00e4")
