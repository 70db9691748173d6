"""The panel and the real daemon: what is published is what it runs, and what it lost it gets again."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlmodel import select

from panel.models import Event, Node
from panel.publishing.node import NodeClient, NodeError
from panel.publishing.puller import Puller
from panel.secrets import load_key, vault
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration
PATIENCE = 20.0
"""Seconds for a process to be there."""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if answers():
                return
        except NodeError:
            pass
        time.sleep(0.05)
    raise AssertionError("not in time")


@contextmanager
def sipd(cast: Cast, port: int) -> Iterator[subprocess.Popen[bytes]]:
    load_key(cast.config.key_file)
    control = cast.config.control.removeprefix("unix:")
    options = ["--listen", f"udp:127.0.0.1:{port}", "--state", str(state(cast)), "--control", control]
    command = [sys.executable, "-m", "sipd", "run", "--drain=0", *options, "--key-file", str(cast.config.key_file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with NodeClient(cast.config.control) as client:
            until(lambda: client.status().uptime >= 0)
        yield process
    finally:
        process.kill()
        process.wait()


def state(cast: Cast) -> Path:
    return cast.config.state_dir / "sipd"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pulling(cast: Cast) -> Iterator[Puller]:
    with cast.app.app_context():
        made = Puller(cast.database, vault(), cast.config)
    yield made
    made.close()


def test_publish_is_enforced_and_told(cast: Cast, root: Browser, alice: Browser, port: int, pulling: Puller) -> None:
    with sipd(cast, port), NodeClient(cast.config.control) as client:
        root.post("/provider/publications")
        assert client.status().version == 1
        assert "Live: version 1 is enforced" in root.get("/provider/publications").text
        alice.post("/t/acme/users/new", data={"extension": "150", "enabled": "1"})
        alice.post("/t/acme/publish")
        assert client.status().version == 2
        assert pulling.round(0.0) >= 2
    with cast.looking() as session:
        kinds = [event.kind for event in session.exec(select(Event).order_by(Event.event_id))]
        assert kinds[0] == "node.started"
        assert kinds.count("table.loaded") == 2


def test_a_node_that_lost_its_disk_gets_the_table_again(cast: Cast, root: Browser, port: int, pulling: Puller) -> None:
    with sipd(cast, port):
        root.post("/provider/publications")
        pulling.round(0.0)
    shutil.rmtree(state(cast))
    pulling.round(1.0)
    with cast.looking() as session:
        assert session.exec(select(Node)).one().state == "down"
    with sipd(cast, port), NodeClient(cast.config.control) as client:
        assert client.status().version == 0
        assert pulling.round(2.0) >= 1, "its new events are above the old cursor"
        assert client.status().version == 1
    with cast.looking() as session:
        assert session.exec(select(Node)).one().state == "up"


def test_a_node_that_was_killed_comes_back_with_its_table(cast: Cast, root: Browser, port: int) -> None:
    with sipd(cast, port):
        root.post("/provider/publications")
    with sipd(cast, port), NodeClient(cast.config.control) as client:
        assert client.status().version == 1


SCANNER, OFFICE = "127.0.0.9", "127.0.0.10"


def asked(port: int, source: str, agent: str = "phone", patience: float = 0.5) -> bytes:
    """The answer to an OPTIONS from an address; empty: silence for `patience` seconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, 0))
        client.settimeout(patience)
        via = f"SIP/2.0/UDP {source}:{client.getsockname()[1]};branch=z9hG4bK{secrets.token_hex(6)}"
        client.sendto(
            f"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@{source}>;tag=1\r\nTo: <sip:127.0.0.1>\r\n"
            f"Call-ID: {secrets.token_hex(6)}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nUser-Agent: {agent}\r\n"
            "Content-Length: 0\r\n\r\n".encode(),
            ("127.0.0.1", port),
        )
        try:
            return client.recv(65535)
        except TimeoutError:
            return b""


def test_a_scanner_is_banned_and_forgiven_on_the_page(cast: Cast, root: Browser, port: int) -> None:
    page = "/provider/protection"
    with sipd(cast, port), NodeClient(cast.config.control) as client:
        root.post("/provider/publications")
        assert asked(port, SCANNER).startswith(b"SIP/2.0 200")
        for _ in range(60):
            if client.bans():
                break
            asked(port, SCANNER, "friendly-scanner", patience=0.02)
        assert asked(port, SCANNER) == b""
        text = root.htmx(f"{page}?source=").text
        assert SCANNER in text
        assert "scanner" in text
        with cast.looking() as session:
            node = session.exec(select(Node.id)).one()
        root.post(f"{page}/nodes/{node}/unban", data={"source": SCANNER})
        assert "is not banned at local any more" in root.get(page).text
        assert asked(port, SCANNER).startswith(b"SIP/2.0 200")


def test_a_blocked_network_gets_no_answer_from_the_next_request_on(cast: Cast, root: Browser, port: int) -> None:
    networks = "/provider/protection/networks"
    with sipd(cast, port):
        root.post("/provider/publications")
        assert asked(port, SCANNER)
        root.post(networks, data={"kind": "blocked", "network": "127.0.0.8/29", "note": ""})
        assert asked(port, SCANNER) == asked(port, OFFICE) == b""
        root.post(networks, data={"kind": "allowed", "network": OFFICE, "note": ""})
        assert asked(port, SCANNER) == b""
        assert asked(port, OFFICE).startswith(b"SIP/2.0 200")
