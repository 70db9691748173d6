"""A daemon that may open few files: streams have their share, and all else goes on."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sipd import grounds
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.net import limits
from tests.integration.node import ROOT, Node, wait_for
from tests.unit.core.bench import credentials, request_text, table, tenant, wire

FILES = 100
DOMAIN = "acme.example"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    start(node)
    node.load(table(tenant("acme")))
    yield node
    node.close()


def start(node: Node) -> None:
    """With a limit that it cannot raise."""
    listen = [f"--listen={transport}:{node.host}:{node.port}" for transport in ("udp", "tcp")]
    command = [sys.executable, "-m", "sipd", "run", "--state", str(node.path), "--drain=0", *listen]
    with (node.path / "log").open("a") as log:
        node.process = subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh", *command], cwd=ROOT, stderr=log, text=True
        )
    wait_for(lambda: node.control.exists() and node._answers())


class Stream:
    """A phone over TCP."""

    def __init__(self, node: Node) -> None:
        self.sock = socket.create_connection((node.host, node.port), timeout=10)
        self._file = self.sock.makefile("rb")
        self._serial = 0

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def ask(self, headers: dict[str, str]) -> Message:
        self._serial += 1
        host, port = self.sock.getsockname()
        aor = f"<sip:101@{DOMAIN}>"
        made = request_text(
            "REGISTER", f"sip:{DOMAIN}", from_=f"{aor};tag=r", to=aor, call_id=f"r{port}", cseq=self._serial,
            via=f"SIP/2.0/TCP {host}:{port}", branch=f"z9hG4bK{port}-{self._serial}", headers=headers,
        )  # fmt: skip
        self.sock.sendall(wire(made))
        lines = []
        while (line := self._file.readline()).strip():
            lines.append(line)
        return scan(b"".join(lines) + b"\r\n")

    def register(self) -> int:
        host, port = self.sock.getsockname()
        contact = {"Contact": f"<sip:101@{host}:{port};transport=tcp>"}
        proof = credentials(self.ask(contact), "101", "REGISTER", f"sip:{DOMAIN}")
        return self.ask({**contact, "Authorization": proof}).status


def test_streams_leave_files_to_all_else_and_those_that_there_are_are_served(node: Node) -> None:
    share = node.ask("status")["limits"]["in_force"]["streams.connection_limit"]
    assert share == FILES // 2
    with ExitStack() as stack:
        first = Stream(node)
        stack.callback(first.close)
        assert first.register() == 200
        for _ in range(3 * FILES):
            sock = socket.create_connection((node.host, node.port), timeout=10)
            stack.callback(sock.close)
        wait_for(lambda: node.ask("status")["counters"]["tcp.refused_full"] > FILES)
        assert first.register() == 200, "who is connected is served"
        assert len(node.bindings()) == 1, "the control channel goes on"
        assert node.ask("status")["store"]["state"] == "ok", "so does the disk"
        assert node.load(table(tenant("acme"), tenant("globex")))["ok"]
        files = len(list(Path(f"/proc/{node.process.pid}/fd").iterdir())) if node.process else 0
        assert files < FILES - 10
    wait_for(lambda: _is_taken(node))


def _is_taken(node: Node) -> bool:
    """Whether a new connection is served again."""
    stream = Stream(node)
    try:
        return stream.register() == 200
    except (OSError, BadMessage):
        return False
    finally:
        stream.close()


@pytest.mark.parametrize(
    ("soft", "streams"),
    [(64, 32), (1024, 512), (4096, 4096 - grounds.RESERVED_FILES), (1_000_000, limits.CONNECTION_LIMIT)],
)
def test_the_share_of_streams_goes_by_what_the_system_allows(
    monkeypatch: pytest.MonkeyPatch, soft: int, streams: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert grounds.allow_files() == streams
