"""A node that is killed at random moments under traffic: what it answered holds, and the panel has each event once."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import select

from panel.models import CallRecord, Event
from panel.publishing.puller import Puller
from panel.secrets import vault
from sipd.message.message import Message
from sipd.message.scanner import scan
from tests.cast import Cast
from tests.integration.node import Node
from tests.unit.core.bench import credentials, request_text, table, tenant, wire

pytestmark = pytest.mark.integration
SECONDS = 12.0
"""Of kills, about."""
DOMAIN = "acme.example"
EXTENSIONS = tuple(str(number) for number in range(101, 121))
PBX_HOST, PHONE_HOST = "127.0.0.2", "127.0.0.3"


class Killed(Exception):
    """No answer comes any more."""


class End:
    """A blocking UDP client; `name` makes its Call-IDs its own."""

    def __init__(self, host: str, node: Node) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.sock.connect((node.host, node.port))
        self.sock.settimeout(1.0)
        self.host, self.port = self.sock.getsockname()
        self._serial = 0

    def send(self, method: str, uri: str, from_: str, to: str, call_id: str, cseq: int, **headers: str) -> None:
        """A request. Raises Killed."""
        self._serial += 1
        via, branch = f"SIP/2.0/UDP {self.host}:{self.port}", f"z9hG4bK{call_id}-{cseq}-{self._serial}"
        text = request_text(
            method, uri, from_=from_, to=to, call_id=call_id, cseq=cseq, headers=headers, via=via, branch=branch
        )
        self._give(wire(text))

    def _give(self, data: bytes) -> None:
        try:
            self.sock.send(data)
        except OSError as error:
            raise Killed from error

    def take(self, call_id: str, *wanted: int | str) -> Message:
        """The next message of this Call-ID ("": any) that is one of `wanted`. Raises Killed."""
        while True:
            try:
                message = scan(self.sock.recv(65_535))
            except OSError as error:  # nothing in time, or nobody there
                raise Killed from error
            if call_id in ("", message.call_id) and (message.status or message.method) in wanted:
                return message

    def answer(self, request: Message, status: int, tag: str, contact: str = "") -> None:
        lines = f"SIP/2.0 {status} OK\r\n".encode() + request.lines("via") + request.lines("from")
        to = request.lines("to").rstrip() + (b"" if b"tag=" in request.lines("to") else f";tag={tag}".encode())
        lines += to + b"\r\n" + request.lines("call-id") + request.lines("cseq")
        self._give(lines + (f"Contact: <{contact}>\r\n" if contact else "").encode() + b"Content-Length: 0\r\n\r\n")


class Traffic:
    """Phones that register again and again, and calls from the PBX to them that the PBX ends."""

    def __init__(self, node: Node) -> None:
        self.phone, self.pbx = End(PHONE_HOST, node), End(PBX_HOST, node)
        self.registered: dict[str, int] = {}
        """By extension, the number in the last Contact that was answered with 200."""
        self.ended: set[str] = set()
        """Callers whose BYE was answered."""
        self._serial = 0

    def close(self) -> None:
        self.phone.sock.close()
        self.pbx.sock.close()

    def run(self) -> None:
        """Until the node answers no more."""
        for end in (self.phone, self.pbx):
            end.sock.setblocking(False)
            while True:
                try:
                    end.sock.recv(65_535)
                except OSError:
                    break
            end.sock.settimeout(1.0)
        try:
            while True:
                extension = random.choice(EXTENSIONS)
                self.register(extension)
                self.call(extension)
        except Killed:
            return

    def register(self, extension: str) -> None:
        self._serial += 1
        number, aor, name = self._serial, f"<sip:{extension}@{DOMAIN}>", f"r{self._serial}"
        contact = f"<sip:{extension}@{self.phone.host}:{self.phone.port};n={number}>"
        contact += f';+sip.instance="<urn:x:{extension}>"'
        asked = ("REGISTER", f"sip:{DOMAIN}", f"{aor};tag=r", aor, name)
        self.phone.send(*asked, 1, Contact=contact)
        proof = credentials(self.phone.take(name, 401), extension, "REGISTER", f"sip:{DOMAIN}")
        self.phone.send(*asked, 2, Contact=contact, Authorization=proof)
        self.phone.take(name, 200)
        self.registered[extension] = number

    def call(self, extension: str) -> None:
        self._serial += 1
        caller, name, uri = f"sip:+49{self._serial:08}@pbx.example", f"c{self._serial}", f"sip:{extension}@{DOMAIN}"
        ends = (f"<{caller}>;tag=f", f"<{uri}>")
        self.pbx.send("INVITE", uri, *ends, name, 1, Contact=f"<sip:{PBX_HOST}:{self.pbx.port}>")
        there = self.phone.take("", "INVITE")
        self.phone.answer(there, 200, "p", f"sip:{extension}@{self.phone.host}:{self.phone.port}")
        ok = self.pbx.take(name, 200)
        target, dialog = ok.contacts[0].uri_text, (ends[0], ok.get("to") or "")
        self.pbx.send("ACK", target, *dialog, name, 1)
        self.phone.take(there.call_id, "ACK")
        self.pbx.send("BYE", target, *dialog, name, 2)
        self.pbx.take(name, 200)
        self.ended.add(caller)
        self.phone.answer(self.phone.take(there.call_id, "BYE"), 200, "p")


@pytest.fixture
def node(tmp_path: Path, cast: Cast) -> Iterator[Node]:
    node = Node(tmp_path)
    node.control = Path(cast.config.control.removeprefix("unix:"))
    yield node
    node.close()


@pytest.fixture
def pulling(cast: Cast) -> Iterator[Puller]:
    with cast.app.app_context():
        made = Puller(cast.database, vault(), cast.config)
    yield made
    made.close()


def test_killed_at_random_moments_under_traffic(cast: Cast, node: Node, pulling: Puller) -> None:
    flags = ("--control", str(node.control), "--digest", "MD5", "--trace", "off")
    node.start(*flags)
    link = {"host": PBX_HOST, "sources": (PBX_HOST,)}
    made = table(tenant("acme", extensions=EXTENSIONS, of_connection=link))
    installation = replace(made.installation, edge_hosts=(node.host,), allowed=("127.0.0.0/8",))
    node.load(replace(made, installation=installation))
    with closing(Traffic(node)) as traffic:
        kills = kill_again_and_again(node, flags, traffic, pulling)
    node.end(signal.SIGTERM)
    node.start(*flags)
    for _ in range(2):  # the first may find its connection gone
        while pulling.round(time.monotonic()):
            pass
    assert kills > 2
    assert len(traffic.ended) > 20
    with cast.looking() as session:
        events = session.exec(select(Event).order_by(Event.event_id)).all()
        records = [record.from_uri for record in session.exec(select(CallRecord))]
    ids = [event.event_id for event in events]
    assert ids == list(range(ids[0], ids[0] + len(ids))), "ids rise by one, none is missing, none is doubled"
    told = Counter(event.detail["from"] for event in events if event.kind == "call.ended")
    assert {caller: told[caller] for caller in traffic.ended} == dict.fromkeys(traffic.ended, 1)
    assert max(told.values()) == 1
    assert {caller: records.count(caller) for caller in traffic.ended} == dict.fromkeys(traffic.ended, 1)
    assert [event.kind for event in events].count("node.started") == kills + 2


def kill_again_and_again(node: Node, flags: tuple[str, ...], traffic: Traffic, pulling: Puller) -> int:
    """How often; after each time what was answered 200 is there."""
    end, kills = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        work = threading.Thread(target=traffic.run)
        work.start()
        time.sleep(random.uniform(0.05, 1.0))
        if random.random() < 0.5:
            pulling.round(time.monotonic())  # and so some are pulled, and some are not
        node.end(signal.SIGKILL)
        work.join()
        node.start(*flags)
        kills += 1
        bound = {row["user"]: int(row["contact"].partition(";n=")[2]) for row in node.bindings()}
        for extension, number in traffic.registered.items():
            assert bound[f"acme-{extension}"] >= number, f"the last REGISTER of {extension} is lost"
    return kills
