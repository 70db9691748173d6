"""Nothing that a peer writes becomes a line of its own in what the edge sends (OWASP: header injection).

Every line that leaves was made by the edge, and is one of those that it makes, or is one whole header line of a message
that it received.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipd.message import build
from sipd.message.errors import LocalError
from sipd.message.scanner import COMPACT, scan
from tests.unit.core.bench import PBX, End, credentials, wire
from tests.unit.core.house import House

MADE = frozenset((
    "via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "content-length", "route", "record-route",
    "expires", "min-expires", "allow", "accept", "supported", "unsupported", "require", "www-authenticate", "warning",
    "retry-after", "session-expires", "min-se", "reason", "diversion", "history-info", "p-asserted-identity", "privacy",
    "path", "flow-timer", "event", "subscription-state", "refer-to", "referred-by", "replaces", "authorization",
    "proxy-authorization", "user-agent", "server", "content-type", "rseq", "rack",
))  # fmt: skip
"""Headers that the edge writes itself."""
PIECES = (
    "\r\nX-Evil: 1", "\r\n X-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "%0d%0aX-Evil:%201", "%0D%0A", "%00", "%0a",
    "\0", "\x01", "\x0b", "\x0c", "\x1b[2J", "\x7f", "\x85", "\u2028", "\\\r", "\\\n", "\\\0", '"', "\\", "<", ">", ";",
    "=", "?", "%", ":", "@", ",", " ", "\t", "a", "\u00e9", "sip:a@b", "<sip:a@b>", ";tag=x", "\udcff",
)  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
values = st.one_of(
    texts,
    texts.map(lambda text: f'"{text}" <sip:a@b.example>'),
    texts.map(lambda text: f"<sip:{text}@b.example>"),
    texts.map(lambda text: f"<sip:a@b.example>;x={text}"),
    texts.map(lambda text: f"<sip:a@b.example?X={text}>"),
)
"""What stands behind the colon of a header."""
NAMES = (
    "Contact", "User-Agent", "Subject", "Diversion", "History-Info", "P-Asserted-Identity", "Refer-To", "Referred-By",
    "Reason", "Warning", "Replaces", "Session-Expires", "Min-SE", "Supported", "Require", "Allow", "Event", "Expires",
    "Call-Info", "Accept", "Record-Route", "Route", "Path", "Content-Type", "Privacy", "X-Any", "Identity", "Date",
)  # fmt: skip
headers = st.lists(st.tuples(st.sampled_from(NAMES), values), min_size=1, max_size=4)


bare_line_end = re.compile(rb"\r(?!\n)|(?<!\r)\n").search


def whole_lines(data: bytes) -> list[bytes]:
    """Header lines, each with its folds."""
    return re.split(rb"\r\n(?![ \t])", data.partition(b"\r\n\r\n")[0])[1:]


class Listener(House):
    """Keeps each line that arrives, and looks at each that leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.phone()
        self.came: set[bytes] = set()

    def arrives(self, data: bytes, end: End) -> list[bytes]:
        """What `end` got of it; all that left is looked at."""
        self.came.update(whole_lines(data))
        self.bench.edge.receive(data, end.flow, self.bench.now)
        said = self.bench.edge.datagrams_to_send()
        for sent, _ in said:
            self.look(sent)
        assert not self.bench.edge.faults, self.bench.edge.faults
        return [sent for sent, flow in said if flow == end.flow]

    def look(self, sent: bytes) -> None:
        assert not bare_line_end(sent.partition(b"\r\n\r\n")[0])
        for line in whole_lines(sent):
            name = line.partition(b":")[0].strip().decode().lower()
            made = COMPACT.get(name, name) in MADE and b"\0" not in line
            assert made or line in self.came, line

    def say(
        self, end: End, method: str, uri: str, more: list[tuple[str, str]], from_: str, **plain: str
    ) -> list[bytes]:
        text = end.request(method, uri, from_=from_, to=uri, call_id="c", **plain)
        lines = "".join(f"{name}: {value}\r\n" for name, value in more).encode("utf-8", "surrogateescape")
        return self.arrives(wire(text).replace(b"Content-Length", lines + b"Content-Length", 1), end)


AOR = "sip:101@acme.example"


@given(headers, st.sampled_from(["INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "NOTIFY", "OPTIONS", "PUBLISH"]))
@settings(max_examples=250, deadline=None)
def test_from_a_pbx(more: list[tuple[str, str]], method: str) -> None:
    on = Listener()
    on.say(on.pbx, method, AOR, more, "sip:+4930@pbx.example", Event="presence", Refer_To="<sip:a@b>")


@given(headers, st.sampled_from(["INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "REGISTER", "PUBLISH"]), texts)
@settings(max_examples=250, deadline=None)
def test_from_a_phone(more: list[tuple[str, str]], method: str, dialled: str) -> None:
    on = Listener()
    register = method == "REGISTER"
    uri = "sip:acme.example" if register else f"sip:{re.sub(chr(92) + 's', '', dialled)}@acme.example"
    answers = on.say(on.one, method, uri, more, AOR, Event="presence")
    if answers and answers[0].startswith(b"SIP/2.0 401"):
        allowed = credentials(scan(answers[0]), "101", method, uri)
        on.say(on.one, method, uri, more, AOR, Event="presence", Authorization=allowed)


@given(headers, texts, st.sampled_from([180, 183, 200, 302, 404, 486, 603]))
@settings(max_examples=250, deadline=None)
def test_in_what_a_phone_answers(more: list[tuple[str, str]], reason: str, status: int) -> None:
    on = Listener()
    on.rings("101")
    invite = on.one.take("INVITE")
    head = f"SIP/2.0 {status} {reason}\r\n".encode("utf-8", "surrogateescape")
    kept = invite.lines("via") + invite.lines("from") + invite.lines("to").rstrip() + b";tag=p\r\n"
    kept += invite.lines("call-id") + invite.lines("cseq")
    lines = "".join(f"{name}: {value}\r\n" for name, value in more).encode("utf-8", "surrogateescape")
    on.arrives(head + kept + b"Contact: <sip:101@10.0.0.9>\r\n" + lines + b"Content-Length: 0\r\n\r\n", on.one)


@given(values, st.sampled_from(["From", "To", "Call-ID", "Via", "CSeq", "Max-Forwards"]))
@settings(max_examples=250, deadline=None)
def test_in_the_headers_that_answers_repeat(value: str, name: str) -> None:
    on = Listener()
    text = on.pbx.request("INVITE", AOR, from_="sip:+4930@pbx.example", to=AOR, call_id="c", Contact=f"<sip:{PBX}>")
    data = wire(re.sub(rf"(?m)^{name}: .*$", lambda _: f"{name}: @", text, count=1))
    hostile = f"{name}: {value}".encode("utf-8", "surrogateescape")
    on.arrives(data.replace(f"{name}: @".encode(), hostile, 1), on.pbx)


@pytest.mark.parametrize("evil", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
def test_a_value_that_would_end_a_line_is_not_written(evil: str) -> None:
    for made in (
        lambda: build.request("INVITE", AOR, [("Subject", evil)]),
        lambda: build.request("INVITE", f"sip:{evil}@x"),
        lambda: build.request("INVITE", AOR, [(evil, "x")]),
    ):
        with pytest.raises(LocalError):
            made()


def test_other_control_characters_become_spaces() -> None:
    data = build.request("INVITE", AOR, [("Subject", "a\x1b[2J\x07\x7f\tb\u00e9")])
    assert "Subject: a [2J  \tb\u00e9\r\n".encode() in data
