"""RFC 4475 messages for a tenant who has the domains and users that they name: not refused at the door, but served.

A stranger's 403 or 404 says little of how a message was read; here it must arrive at the phone, or be refused for the
very reason that the RFC's section gives.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from sipd.flow import Flow
from sipd.message.framing import Framer, FramingError
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.registrar import Binding
from tests.unit.core.bench import PBX, Bench, credentials, table, tenant, user
from tests.unit.message.torture import CASES, MISSING, Case

pytestmark = pytest.mark.skipif(not CASES, reason=MISSING)
DOMAINS = ("example.com", "example.org", "example.net", "chair-dnrc.example.com", "registrar.example.com")
USERS = (
    "user",
    "joe",
    "kumiko",
    "vivekg",
    "UserB",
    "j.user",
    "watson",
    "user;par=u@example.net",
    "sips:user@example.com",
)
PHONE = Flow("udp", "203.0.113.1", 5062, 0)
BY_NAME = {case.name: case for case in CASES}

ANSWERS = {
    "wsinv": 481,  # 3.1.1.1 has a To tag: a dialog that is not there (RFC 3261 12.2.2)
    "intmeth": 501, "esc02": 501, "mismatch02": 501,
    "escnull": 401, "dblreq": 401, "regaut01": 401, "cparam01": 401, "cparam02": 401, "regescrt": 401, "unksm2": 401,
    "badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "quotbal": 400, "ltgtruri": 400, "lwsruri": 400,
    "lwsstart": 400, "trws": 400, "escruri": 400, "baddate": 400, "regbadct": 400, "badaspec": 400, "baddn": 400,
    "mismatch01": 400, "insuf": 400, "multi01": 400, "mcl01": 400,
    "badvers": 505, "unkscm": 416, "novelsc": 416, "bext01": 420, "zeromf": 483,
    "unreason": 0, "noreason": 0, "scalarlg": 0, "bigcode": 0, "bcast": 0,
}  # fmt: skip
"""What the edge itself has to say, 0 for silence; the others reach the phone."""
DELIVERED = {
    "esc01": "sips:user@example.com", "lwsdisp": "user", "longreq": "user", "semiuri": "user;par=u@example.net",
    "transports": "user", "mpart01": "kumiko", "badbranch": "user", "invut": "user", "sdp01": "user",
    "inv2543": "UserB",
}  # fmt: skip
"""Whose phone gets it."""


class Served:
    """The tenant, one phone for all its users, and a PBX that sends the message."""

    def __init__(self) -> None:
        users = tuple(user("acme", extension, DOMAINS[0]) for extension in USERS)
        acme = replace(tenant("acme"), primary_domain=DOMAINS[0], alias_domains=DOMAINS[1:], users=users)
        self.bench = Bench(table(acme))
        self.pbx, self.phone = self.bench.end(PBX), self.bench.end(PHONE.host, PHONE.port)
        for number, owner in enumerate(users):
            contact = f"sip:u{number}@203.0.113.1:5062"
            binding = Binding("acme", owner.id, contact, {}, f"c{number}", 1, self.bench.now + 600, PHONE, "")
            self.bench.edge.registrar.restore(binding.record(), self.bench.now)

    def contact_of(self, extension: str) -> str:
        return f"sip:u{USERS.index(extension)}@203.0.113.1:5062"

    def send(self, data: bytes) -> None:
        self.pbx.send(data)
        assert not self.bench.edge.faults

    def raw(self) -> list[bytes]:
        """To the PBX, to whatever port the Via asks for."""
        mine = [data for data, flow in self.bench.sent if flow.host == PBX]
        self.bench.sent = [entry for entry in self.bench.sent if entry[1].host != PBX]
        return mine

    def answers(self) -> list[Message]:
        return [scan(data) for data in self.raw()]


def test_every_message_has_its_place() -> None:
    assert set(BY_NAME) == set(ANSWERS) | set(DELIVERED)
    assert not set(ANSWERS) & set(DELIVERED)


@pytest.mark.parametrize("name", ANSWERS)
def test_answered_for_its_own_reason(name: str) -> None:
    served = Served()
    served.send(BY_NAME[name].data)
    answers = [int(data.split(b" ")[1]) for data in served.raw()]
    assert answers == ([ANSWERS[name]] if ANSWERS[name] else [])
    served.phone.nothing()


@pytest.mark.parametrize("name", DELIVERED)
def test_delivered_whole(name: str) -> None:
    """Unknown headers, body and To of the one user reach the phone; its refusal comes back to the sender's Vias."""
    served, case = Served(), BY_NAME[name]
    served.send(case.data)
    method = case.data.split(b" ")[0].decode()
    got = served.phone.take(method)
    assert got.uri == served.contact_of(DELIVERED[name])
    head, _, body = case.data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\n(?:l|content-length)\s*:\s*(\d+)", head)
    assert got.body == (body[: int(length[1])] if length else body)
    served.phone.answer(got, 488, "p")
    answer = served.answers()[-1]
    assert answer.status == 488
    assert answer.call_id == served_call_id(case)
    assert len(answer.vias) == len(re.findall(rb"(?im)^(?:via|v)\s*:", head))


def served_call_id(case: Case) -> str:
    found = re.search(rb"(?im)^(?:call-id|i)\s*:\s*(\S+)", case.data)
    assert found
    return found[1].decode()


def test_wsinv_without_its_tag_is_delivered() -> None:
    """3.1.1.1: white space, folds and short forms are understood, what is unknown passes as it came."""
    served = Served()
    served.send(BY_NAME["wsinv"].data.replace(b" ;   tag    = 1918181833n", b""))
    got = served.phone.take("INVITE")
    assert got.max_forwards == 67
    assert got.from_.display == 'J Rosenberg \\"'
    assert got.lines("newfangledheader") == b"NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
    assert got.lines("unknownheaderwithunusualvalue") == b"UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
    assert [via.transport for via in served.answers()[0].vias] == ["UDP", "TCP", "UDP"]


def test_bext01_names_every_extension() -> None:
    """3.3.5: Unsupported lists what the edge does not understand, of both headers."""
    served = Served()
    served.send(BY_NAME["bext01"].data)
    unsupported = served.answers()[0].split("unsupported")
    assert sorted(unsupported) == sorted((
        "nothingSupportsThis", "nothingSupportsThisEither", "noProxiesSupportThis", "norDoAnyProxiesSupportThis",
    ))  # fmt: skip


def test_a_bare_magic_cookie_is_no_branch() -> None:
    """3.2.1: two requests whose branch is the cookie alone are two transactions, a repeated one is one."""
    served, data = Served(), BY_NAME["badbranch"].data
    served.send(data)
    served.send(data)
    served.send(data.replace(b"badbranch.s", b"badbranch.t"))
    assert [message.method for message in served.phone.taken()] == ["OPTIONS", "OPTIONS"]


def test_inv2543_is_one_call() -> None:
    """3.4.1: without a branch, the repeated INVITE and its ACK are matched by RFC 2543's rules (17.2.3)."""
    served, data = Served(), BY_NAME["inv2543"].data
    served.send(data)
    served.send(data)
    got = served.phone.take("INVITE")
    served.phone.nothing()
    served.phone.answer(got, 486, "p")
    busy = served.answers()[-1]
    served.send(data.replace(b"INVITE", b"ACK").replace(b"To: sip:+16505552222@ss1.example.net;user=phone",
                                                        busy.lines("to").rstrip()))  # fmt: skip
    served.bench.pass_time(40)
    assert served.answers() == [], "486 sent again: the ACK was not matched"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("cparam01", ["<sip:+19725552222@gw1.example.net>;unknownparam"]),
        ("cparam02", ["<sip:+19725552222@gw1.example.net;unknownparam>"]),
        ("regescrt", ["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"]),
        ("escnull", ["<sip:%00@host5.example.com>", "<sip:%00%00@host5.example.com>"]),
    ],
)
def test_registered_as_written(name: str, kept: list[str]) -> None:
    """3.3.12 to 3.3.14, 3.1.1.4: the answer lists the Contacts with parameters, escapes and headers as they came."""
    served = Served()
    data = re.sub(rb"sip:(null-%00-null|watson)@", b"sip:user@", BY_NAME[name].data)
    served.phone.send(data)
    challenge = served.phone.take(401)
    header = f"Authorization: {credentials(challenge, 'user', 'REGISTER', 'sip:example.com')}\r\n".encode()
    again = re.sub(rb"CSeq: \d+", b"CSeq: 20000000", data).replace(b";branch=", b";branch=z9hG4bKagain")
    served.phone.send(again.replace(b"\r\nCSeq", b"\r\n" + header + b"CSeq"))
    answer = served.phone.take(200)
    listed = [text.rpartition(";expires=")[0] for text in answer.all("contact") if "u0@" not in text]
    assert sorted(listed) == sorted(kept)
    served.send(INVITE)
    rung = {message.uri for message in served.phone.taken()}
    assert {re.split(r"[?>]", contact[1:])[0] for contact in kept} <= rung  # without its headers (19.1.1, table 1)


INVITE = (
    b"INVITE sip:user@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKi\r\n"
    b"Max-Forwards: 70\r\nFrom: <sip:x@pbx.example>;tag=1\r\nTo: <sip:user@example.com>\r\nCall-ID: i\r\n"
    b"CSeq: 1 INVITE\r\nContact: <sip:198.51.100.10>\r\nContent-Length: 0\r\n\r\n"
)


def test_two_messages_in_one_stream_are_two() -> None:
    """3.1.1.8: a datagram ends with its first message, a stream goes on with the next. That one is two octets
    longer than its Content-Length says, which ends the stream."""
    served = Served()
    with pytest.raises(FramingError) as caught:
        Framer().feed(BY_NAME["dblreq"].data)
    for frame in caught.value.before:
        if isinstance(frame, bytes):
            served.bench.edge.receive(frame, Flow("tcp", PBX, 5060, 1), served.bench.now)
    served.bench.collect()
    assert [message.status for message in served.answers()] == [401, 100]
    assert served.phone.take("INVITE").call_id
