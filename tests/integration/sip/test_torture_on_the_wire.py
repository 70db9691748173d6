"""RFC 4475 messages over real sockets: each gets the answer that it deserves, and the daemon lives on."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterator

import pytest

from tests.integration.node import Node
from tests.integration.sip.conftest import PBX_HOST, allowing, faults, two_tenants
from tests.peers.wire import free_port
from tests.unit.message.torture import CASES, MISSING, Case, expected

pytestmark = pytest.mark.skipif(not CASES, reason=MISSING)
PATIENCE = 5.0
SILENCE = 0.3
"""Seconds without an answer on a stream that count as none."""
SENT_BY_PORT = re.compile(
    rb"^(?:via|v)\s*:\s*SIP\s*/\s*2\.0\s*/\s*\S+\s+[^;,:\s]+\s*:\s*(\d{1,5})", re.IGNORECASE | re.MULTILINE
)
NUMBERS = itertools.count(1)

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("torture"))
    node.start()
    assert node.load(allowing(two_tenants(free_port(PBX_HOST), strategy="none"), "127.0.0.0/8"))["ok"]
    yield node
    node.close()


def answer_port(data: bytes) -> int:
    """Where the answer goes to without rport: the port in the top Via (RFC 3261 18.2.2)."""
    found = SENT_BY_PORT.search(data)
    return int(found[1]) if found else 5060


def status_of(answers: bytes) -> str:
    """The first final status, or NONE."""
    codes = [code.decode() for code in re.findall(rb"^SIP/2\.0 (\d{3}) ", answers, re.MULTILINE)]
    return next((code for code in codes if code >= "200"), "NONE")


def alive(node: Node) -> None:
    """An ordinary request is answered; all that came before it over UDP is answered by then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.settimeout(PATIENCE)
        port = probe.getsockname()[1]
        lines = [
            "REGISTER sip:acme.example SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{next(NUMBERS)}",
            "Max-Forwards: 70",
            "From: <sip:101@acme.example>;tag=1",
            "To: <sip:101@acme.example>",
            f"Call-ID: alive-{next(NUMBERS)}",
            "CSeq: 1 REGISTER",
            "Content-Length: 0",
        ]
        probe.sendto("\r\n".join([*lines, "", ""]).encode(), (node.host, node.port))
        assert probe.recv(4096).startswith(b"SIP/2.0 401 ")
    assert faults(node) == 0


@each
def test_over_udp(target: Node, case: Case) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
        fresh.bind((f"127.0.1.{next(NUMBERS) % 250 + 1}", answer_port(case.data)))
        fresh.sendto(case.data, (target.host, target.port))
        alive(target)
        fresh.setblocking(False)
        answers = b""
        while True:
            try:
                answers += fresh.recv(65535)
            except BlockingIOError:
                break
    assert expected(case, status_of(answers)), answers.decode(errors="replace")


@each
def test_over_tcp(target: Node, case: Case) -> None:
    with socket.create_connection((target.host, target.port), PATIENCE) as fresh:
        fresh.sendall(case.data)
        fresh.settimeout(SILENCE if expected(case, "NONE", stream=True) else PATIENCE)
        answers = b""
        try:
            while status_of(answers) == "NONE" and (more := fresh.recv(65535)):
                answers += more
        except TimeoutError:
            pass
        got = status_of(answers)
    assert expected(case, got, stream=True), answers.decode(errors="replace")
    alive(target)
