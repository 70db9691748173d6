"""Our parsers against sipmessage, which others wrote: valid messages read alike, and where one refuses what the other
takes, the difference is one of `REASONS`.

Catches: a value cut at the wrong place, a list split at a comma inside quotes, an escape resolved twice or never, a
header lost behind a fold or a short name; and any leniency or severity of ours that nobody decided upon.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
import sipmessage
from hypothesis import given, settings
from hypothesis import strategies as st

from sipd.message.auth import Challenge
from sipd.message.check import check
from sipd.message.message import Message
from sipd.message.scanner import COMPACT, scan
from sipd.message.uri import Uri
from tests.unit.message.oracle import REFUSED, both, our_address, our_uri, our_via, their_address, their_uri, their_via

# -- valid messages, written in all the ways that RFC 3261 7.3 allows

USERS = st.sampled_from(["101@", "alice@", "a%20b@", "u;x=y@", "+49-30(1)@", "%C3%A4@", "a:pw@", "user&x=1@", ""])
HOSTS = st.sampled_from(["h.example", "192.0.2.1", "[2001:db8::1]", "a-b.c.example.", "[::ffff:192.0.2.7]"])
PORTS = st.sampled_from(["", ":5060", ":1", ":65535"])
URI_PARAMS = st.lists(st.sampled_from(["transport=tcp", "lr", "user=phone", "x=%41", "maddr=h", "ttl=1"]), unique=True)
HEADER_PARAMS = st.lists(
    st.sampled_from(["x=y", "a", "q=0.5", "expires=60", 'z="plain text"', "host=h.example", "X-Y=1"]), unique=True
)
DISPLAYS = st.sampled_from(
    ["", "Bob ", "Two words ", '"quoted, with; <marks>" ', '"\\"in\\" quotes" ', '"\u00e4\u4e2d" ', '""']
)
BLANKS = st.sampled_from([" ", "", "\t", "  ", " \t "])
FOLDS = st.sampled_from([" ", "  ", "\r\n ", " \r\n\t", "\r\n  "])
SHORT = {long: short for short, long in COMPACT.items()}


@st.composite
def uri_texts(draw: st.DrawFn) -> str:
    text = f"{draw(st.sampled_from(['sip', 'sips']))}:{draw(USERS)}{draw(HOSTS)}{draw(PORTS)}"
    return "".join([text, *(f";{param}" for param in draw(URI_PARAMS))])


@st.composite
def address_texts(draw: st.DrawFn, params: tuple[str, ...] = ()) -> str:
    gap, more = draw(FOLDS), [*params, *draw(HEADER_PARAMS)]
    return f"{draw(DISPLAYS)}<{draw(uri_texts())}>" + "".join(f"{gap};{gap}{param}" for param in more)


@st.composite
def via_texts(draw: st.DrawFn) -> str:
    slash = draw(st.sampled_from(["/", " / ", "/ "]))
    transport = draw(st.sampled_from(["UDP", "TCP", "tls", "WSS", "X-new"]))
    params = [
        "branch=z9hG4bK1",
        *draw(st.lists(st.sampled_from(["rport", "received=192.0.2.9", "ttl=5"]), unique=True)),
    ]
    gap = draw(FOLDS)
    return f"SIP{slash}2.0{slash}{transport}{draw(FOLDS)}{draw(HOSTS)}{draw(PORTS)}" + "".join(
        f"{gap};{param}" for param in params
    )


@st.composite
def messages(draw: st.DrawFn) -> str:
    """Header lines in any order, long or short, folded, several values in one line or in several."""
    method = draw(st.sampled_from(["INVITE", "OPTIONS", "X-new.method"]))
    start = (
        f"{method} {draw(uri_texts())} SIP/2.0" if draw(st.booleans()) else f"SIP/2.0 {draw(st.integers(100, 699))} So"
    )
    singles = [
        ("from", draw(address_texts(("tag=f",)))), ("to", draw(address_texts())), ("call-id", "c1@h"),
        ("cseq", f"{draw(st.integers(0, 2**31 - 1))}{draw(FOLDS)}{method}"),
        ("max-forwards", str(draw(st.integers(0, 255)))),
        ("subject", draw(st.sampled_from(["", "a\r\n b", "\u00e4;,<"]))),
        ("supported", draw(st.sampled_from(["", "100rel", "a , b,c"]))), ("x-unknown", ";;,,;;,"),
    ]  # fmt: skip
    many = [("via", draw(via_texts())) for _ in range(draw(st.integers(1, 3)))]
    many += [("contact", draw(address_texts())) for _ in range(draw(st.integers(0, 3)))]
    lines = draw(st.permutations(singles))
    for name in ("via", "contact"):
        values = [value for of, value in many if of == name]
        joined = f",{draw(FOLDS)}".join(values)
        # Several in one line (7.3.1); two with quotes are one to the oracle, whose quoted strings end at the last mark.
        alone = not values or joined.count('"') > 2 or draw(st.booleans())
        lines += [(name, value) for value in values] if alone else [(name, joined)]
    return "\r\n".join([start, *(f"{draw(spelling(name))}{draw(BLANKS)}:{draw(BLANKS)}{text}" for name, text in lines)])


def spelling(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name, name.title(), name.upper(), SHORT.get(name, name)])


def plain(head: str) -> bytes:
    """As the oracle takes it: folds are single spaces (RFC 3261 7.3.1), no blank before a colon."""
    start, *lines = re.sub(r"[ \t]*\r\n[ \t]+", " ", head).split("\r\n")
    lines = [re.sub(r"^([^:\s]+)[ \t]*:", r"\1:", line).replace("\t", " ") for line in lines]
    return ("\r\n".join([start, *lines]) + "\r\n\r\nbody").encode()


@settings(max_examples=150)
@given(messages())
def test_valid_messages_are_read_alike(head: str) -> None:
    ours = scan(head.encode() + b"\r\n\r\nbody")
    check(ours)
    theirs = sipmessage.Message.parse(plain(head))
    assert of_our_message(ours) == of_their_message(theirs)


def of_our_message(message: Message) -> dict[str, object]:
    return {
        "start": message.status or (message.method, our_uri(Uri.parse(message.uri))),
        "via": [our_via(via) for via in message.vias],
        "from": our_address(message.from_),
        "to": our_address(message.to),
        "contact": [our_address(contact) for contact in message.contacts],
        "cseq": tuple(message.cseq),
        "call-id": message.call_id,
        "max-forwards": message.max_forwards,
        "supported": message.split("supported"),
        "subject": " ".join((message.get("subject") or "").split()),
        "unknown": message.all("x-unknown"),
        "body": message.body,
    }


def of_their_message(message: sipmessage.Request | sipmessage.Response) -> dict[str, object]:
    response = isinstance(message, sipmessage.Response)
    return {
        "start": message.code if response else (message.method, their_uri(message.uri)),
        "via": [their_via(via) for via in message.via],
        "from": their_address(message.from_address),
        "to": their_address(message.to_address),
        "contact": [their_address(contact) for contact in message.contact],
        "cseq": (message.cseq.sequence, message.cseq.method),
        "call-id": message.call_id,
        "max-forwards": message.max_forwards,
        "supported": [tag for tag in message.supported if tag],
        "subject": " ".join((message.subject or "").split()),
        "unknown": message.headers.getlist("x-unknown"),
        "body": message.body,
    }


@pytest.mark.parametrize(
    "text",
    [
        'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"',
        'Digest realm="a b", domain="sip:h", nonce="=/+", opaque="", stale=FALSE',
        'digest  nonce="n",realm="r"',
    ],
)
def test_challenges_are_read_alike(text: str) -> None:
    ours, theirs = Challenge.parse(text), sipmessage.AuthChallenge.parse(text)
    assert (ours.realm, ours.nonce) == (theirs.parameters["realm"], theirs.parameters["nonce"])
    assert (ours.opaque, ",".join(ours.qop)) == (theirs.parameters.get("opaque", ""), theirs.parameters.get("qop", ""))


# -- text that is nearly valid


class Reason(NamedTuple):
    """Why the two may differ on a text."""

    name: str
    rfc: str
    applies: Callable[[str], object]


def where(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern).search


QUOTED = r'"(?:[^"\\]|\\.)*"'
UNQUOTED = re.compile(QUOTED, re.DOTALL)
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
strict_host = re.compile(rf"(?:{LABEL}\.)*[A-Za-z]+(?:-+[A-Za-z0-9]+)*\.?|\d{{1,3}}(?:\.\d{{1,3}}){{3}}").fullmatch
strict_value = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+|\[[0-9A-Fa-f:.]+\]").fullmatch


def odd_host(text: str) -> bool:
    """A name in a URI or Via that is no hostname to sipmessage: with an underscore, or digits in the last label (which
    RFC 3261 25.1 toplabel allows behind a letter)."""
    hosts = re.findall(r"(?:@|sips?:|2\.0[ \t]*/[ \t]*[^\s/]+[ \t]+)([A-Za-z0-9_.\-]+)", text)
    return any(not strict_host(host) for host in hosts)


def odd_value(text: str) -> bool:
    """A header parameter whose value is neither token nor host nor quoted, or empty."""
    values = re.findall(r";[ \t]*[^\s;=,<>\"]+[ \t]*=[ \t]*([^;,\"]*)", UNQUOTED.sub("", re.sub(r"<[^>]*>", "", text)))
    return any(not strict_value(value.strip()) for value in values if value.strip() or not re.search(r'=[ \t]*"', text))


odd_display = re.compile(r"[^\w\-.!%*+`'~ \t,>\"][^<\"]*<|[^\x00-\x7f][^<]*<").search


def unmatched(text: str) -> object:
    """A quoted string ends at the first mark that is not escaped; sipmessage's at the last."""
    return '"' in UNQUOTED.sub("", text) or re.search(QUOTED + r'[ \t]*(?:[^<,;\s]|[^<]*"[^<]*<)', text)


LENIENT = (
    Reason(
        "scheme of its own",
        "RFC 3261 8.2.2.1: refused with 416, not as malformed",
        where(r"(?:^|<|,)[ \t]*(?!sips?:)[A-Za-z][\w+.-]*:"),
    ),
    Reason("host names as they are found", "RFC 1123 2.1; underscores are common", odd_host),
    Reason("URI headers", "RFC 3261 19.1.1; sipmessage has none", where(r"\?")),
    Reason("bare # in a user part", "not in RFC 3261 25.1; phones send it in feature codes", where(r"#")),
    Reason(
        "URI parameter without value or with another =",
        "RFC 3261 19.1.1 wants 1*paramchar",
        where(r";[^;=>]*=(?:[;>?,]|$|[^;>]*=)"),
    ),
    Reason("empty password", "RFC 3261 25.1: *( unreserved / ... )", where(r":@")),
    Reason("header parameter values", "RFC 3261 25.1 gen-value; addresses and base64 stand there bare", odd_value),
    Reason("display names without quotes", "RFC 3261 25.1 display-name; UTF-8 and marks are common", odd_display),
    Reason(
        "blanks before a colon, comma or semicolon, and at the end",
        "RFC 3261 25.1 COLON, COMMA, SEMI",
        where(r"[ \t]:|:[ \t]|[ \t]$|^[ \t]|[ \t][;,]|\t"),
    ),
    Reason("an IPv6 address in full", "RFC 3986 3.2.2", where(r"\[[^\]]*\]")),
    Reason("a quoted value with marks in it", "RFC 3261 25.1 quoted-string", where(QUOTED)),
    Reason("white space that is none in SIP", "RFC 3261 25.1 LWS", where(r"[^\S \t]")),
    Reason("a blank before the address", "RFC 3261 20.10", where(r"^\s|\s$")),
)
"""We take it, sipmessage does not."""
STRICT = (
    Reason("no IPv6 address", "RFC 3986 3.2.2, RFC 5118 4.10", where(r"\[[^\]]*\]")),
    Reason("slash in a password", "RFC 3261 25.1 password", where(r":[^@;>]*/[^@]*@")),
    Reason("quotes that do not match", "RFC 3261 25.1 quoted-string, RFC 4475 3.1.2.6", unmatched),
    Reason("a port of more than 16 bits, or 0", "RFC 3261 25.1 port", where(r":0*(?:0(?!\d)|[6-9]\d{4}|\d{6,})")),
    Reason(
        "the same parameter twice", "RFC 3261 7.3.1, 19.1.1", where(r";[ \t]*([^;=\s]+)[^<]*;[ \t]*\1(?=[=;\s>]|$)")
    ),
    Reason("comma or question mark outside of brackets", "RFC 3261 20", where(r"^[^<]*[,?]")),
    Reason("a number of more than 31 bits", "RFC 3261 8.1.1.5", where(r"^\d{10,}")),
    Reason("control characters", "RFC 3261 25.1", where(r"[\x00-\x08\x0a-\x1f\x7f]")),
    Reason("blanks before the protocol", "stripped with the header's name", where(r"^\s")),
    Reason("white space that is none in SIP", "RFC 3261 25.1 LWS", where(r"[^\S \t]")),
)
"""sipmessage takes it, we do not."""
VALUES = (
    Reason("escapes in quoted strings", "RFC 3261 25.1 quoted-pair: of any character", where(r"\\")),
    Reason("control characters go no further", "RFC 3261 25.1", where(r"[\x00-\x1f\x7f]")),
    Reason("marks in quoted values", "RFC 3261 25.1 quoted-string", where(QUOTED)),
    Reason("white space that is none in SIP", "RFC 3261 25.1 LWS", where(r"[^\S \t]")),
    Reason("escapes that are no UTF-8", "RFC 3986 2.1: we keep the octets", where(r"%[89A-Fa-f][0-9A-Fa-f]")),
)
"""Both take it, and read another value."""

SEEDS = {
    "uri": ["sip:alice@example.com", "sips:a:pw@[2001:db8::1]:5061;transport=tcp;lr",
            "sip:10%31;x=y@192.0.2.1;user=phone", "tel:+4930123;ext=5", "sip:example.com."],
    "address": ['"A \\"B\\" C" <sip:a@h;x=1>;tag=a1', "Bob <sip:b@h.example>;tag=x ; q=0.5", "sip:c@h;tag=1",
                '<sip:a@h>;expires=60;+sip.instance="<urn:uuid:1>"'],
    "addresses": ['<sip:a@h>;q=1, "x, y" <sip:b@h>', "<sip:a@h>,<sip:b@h;lr>"],
    "via": ["SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport", "SIP / 2.0 / TLS [2001:db8::9]:5061;branch=x",
            "SIP/2.0/TCP h.example;maddr=224.0.0.1;ttl=5"],
    "vias": ["SIP/2.0/UDP a.example;branch=1, SIP/2.0/TCP b.example:5062;x"],
    "cseq": ["1 INVITE", "0009  REGISTER", "2147483647 X"],
}  # fmt: skip
MARKS = "a1@:;=?&%[]<>\"\\,. \t-_/#+*\u00e4\0\x7f()|{}^'\x0b\xa0"


@st.composite
def nearly_valid(draw: st.DrawFn) -> tuple[str, str]:
    kind = draw(st.sampled_from(sorted(SEEDS)))
    text = draw(st.sampled_from(SEEDS[kind]))
    for _ in range(draw(st.integers(1, 3))):
        at, act = draw(st.integers(0, len(text))), draw(st.sampled_from(["insert", "replace", "delete"]))
        mark = "" if act == "delete" else draw(st.sampled_from(MARKS))
        text = text[:at] + mark + text[at + (act != "insert") :]
    return kind, text


@settings(max_examples=800)
@given(nearly_valid())
def test_each_difference_has_a_reason(case: tuple[str, str]) -> None:
    kind, text = case
    ours, theirs = both(kind, text)
    if ours == theirs:
        return
    reasons = STRICT if ours == REFUSED else LENIENT if theirs == REFUSED else VALUES
    assert any(reason.applies(text) for reason in reasons), f"{kind} {text!r}: ours {ours!r}, theirs {theirs!r}"
