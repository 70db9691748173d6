"""A real daemon on disks that fail: it starts, serves, says so, and writes what waited once it can."""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sipd.message.scanner import scan
from sipd.store import RETRY_SECONDS
from tests.integration.node import Node, wait_for
from tests.unit.core.bench import credentials, request_text, table, tenant, wire

MOUNTS = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
DOMAIN = "acme.example"
EXTENSIONS = tuple(str(number) for number in range(101, 141))
PATIENCE = 20.0 + RETRY_SECONDS


@contextmanager
def mounted(path: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", *options, "none", str(path)], capture_output=True)
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def remount(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Its key, log and control socket are elsewhere than its state."""
    (tmp_path / "here").mkdir()
    node = Node(tmp_path / "here")
    yield node
    node.close()


def start(node: Node, state: Path) -> None:
    key, control = node.path / "key", node.path / "control.sock"
    node.start("--state", str(state), "--key-file", str(key), "--control", str(control), "--digest", "MD5")


def load(node: Node) -> None:
    assert node.load(table(tenant("acme", extensions=EXTENSIONS)))["ok"]


def register(node: Node, extension: str = "101", padding: int = 0) -> int:
    """The status that a phone gets in the end; `padding` makes what is stored of it larger."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect((node.host, node.port))
        host, port = sock.getsockname()
        aor, uri = f"<sip:{extension}@{DOMAIN}>", f"sip:{DOMAIN}"
        headers = {"Contact": f"<sip:{extension}@{host}:{port};n={'x' * padding}>"}
        answer = None
        for cseq in (1, 2):
            via = {"via": f"SIP/2.0/UDP {host}:{port}", "branch": f"z9hG4bK{port}-{cseq}"}
            made = request_text(
                "REGISTER", uri, from_=f"{aor};tag=r", to=aor, call_id=f"r{port}", cseq=cseq, headers=headers, **via
            )
            sock.send(wire(made))
            answer = scan(sock.recv(65_535))
            if answer.status != 401:
                return answer.status
            headers["Authorization"] = credentials(answer, extension, "REGISTER", uri)
        return answer.status if answer else 0


def store(node: Node) -> dict[str, object]:
    found: dict[str, object] = node.ask("status")["store"]
    return found


def fill(path: Path) -> None:
    """Until nothing more fits."""
    with (path / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))


@MOUNTS
def test_a_full_disk_stops_nothing_and_what_waited_is_written_when_there_is_room(tmp_path: Path, node: Node) -> None:
    with mounted(tmp_path / "small") as state:
        start(node, state)
        load(node)
        assert register(node) == 200
        fill(state)
        for extension in EXTENSIONS:
            assert register(node, extension, padding=900) == 200
        failing = store(node)
        assert (failing["state"], failing["file"]) == ("failing", True)
        assert "full" in str(failing["error"])
        waiting = failing["waiting"]
        assert isinstance(waiting, dict)
        assert waiting["changes"] > 0
        assert waiting["events"] > 0
        assert len(node.bindings()) > len(EXTENSIONS)
        (state / "ballast").unlink()
        wait_for(lambda: store(node)["state"] == "ok", PATIENCE)
        node.end(signal.SIGKILL)
        start(node, state)
        assert {row["user"] for row in node.bindings()} == {f"acme-{extension}" for extension in EXTENSIONS}
        node.end()
        assert node.log.count("store failed") == 1
        assert node.log.count("store works again") == 1


@MOUNTS
def test_it_starts_on_a_disk_that_is_full(tmp_path: Path, node: Node) -> None:
    with mounted(tmp_path / "small") as state:
        start(node, state)
        load(node)
        assert register(node) == 200
        node.end(signal.SIGKILL)
        fill(state)
        start(node, state)
        assert [row["user"] for row in node.bindings()] == ["acme-101"]
        assert node.ask("status")["version"] == 1
        assert register(node, "102") == 200
        (state / "ballast").unlink()
        wait_for(lambda: store(node)["state"] == "ok", PATIENCE)
        node.end(signal.SIGKILL)
        start(node, state)
        assert {row["user"] for row in node.bindings()} == {"acme-101", "acme-102"}
        kinds = [event["kind"] for event in node.events()]
        assert kinds.count("node.started") == 3
        node.end()


@MOUNTS
def test_a_read_only_state_directory_is_read_and_served_from_memory(tmp_path: Path, node: Node) -> None:
    with mounted(tmp_path / "small", "-o", "size=8m") as state:
        start(node, state)
        load(node)
        assert register(node) == 200
        node.end(signal.SIGKILL)
        remount(state, "ro")
        start(node, state)
        failing = store(node)
        assert (failing["state"], failing["file"]) == ("failing", False)
        assert [row["user"] for row in node.bindings()] == ["acme-101"], "what was there was read"
        assert node.ask("status")["version"] == 1
        assert register(node, "102") == 200
        assert "binding.added" in [event["kind"] for event in node.events()], "the panel gets events from memory"
        remount(state, "rw")
        wait_for(lambda: store(node)["state"] == "ok", PATIENCE)
        node.end(signal.SIGKILL)
        start(node, state)
        assert {row["user"] for row in node.bindings()} == {"acme-101", "acme-102"}
        node.end()


def test_a_state_directory_that_cannot_be_made(tmp_path: Path, node: Node) -> None:
    """In /proc nobody makes directories, not even root."""
    start(node, Path("/proc/sipd-state/deep"))
    load(node)
    assert register(node) == 200
    assert store(node)["state"] == "failing"
    assert [event["kind"] for event in node.events()][:2] == ["node.started", "table.loaded"]
    assert node.end() == 0
    assert "going on from memory" in node.log


@pytest.mark.parametrize("seed", range(6))
def test_state_that_is_garbage_is_no_reason_not_to_start(tmp_path: Path, node: Node, seed: int) -> None:
    state, draw = tmp_path / "state", random.Random(seed)
    start(node, state)
    load(node)
    assert register(node) == 200
    node.end(signal.SIGKILL)
    for path in state.iterdir():
        if path.suffix in (".db", ".db-wal", ".db-shm") or "-wal" in path.name or "-shm" in path.name:
            data = path.read_bytes()
            kept = data[: draw.randrange(len(data) + 1)] if seed % 2 else data
            flipped = bytearray(kept)
            for _ in range(min(len(flipped), 50)):
                flipped[draw.randrange(len(flipped))] ^= 0xFF
            path.write_bytes(draw.choice((bytes(flipped), b"garbage" * 100, b"")))
    start(node, state)
    load(node)
    assert register(node, "102") == 200
    assert store(node)["state"] == "ok"
    node.end(signal.SIGKILL)
    start(node, state)
    assert "acme-102" in [row["user"] for row in node.bindings()]
    assert node.ask("status")["version"] > 0
    node.end()


def test_a_state_file_that_breaks_under_it_is_filled_again_from_memory(tmp_path: Path, node: Node) -> None:
    state = tmp_path / "state"
    start(node, state)
    load(node)
    for extension in EXTENSIONS:
        assert register(node, extension) == 200
    with closing(sqlite3.connect(state / "state.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((state / "state.db").read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 200] = b"\xff" * 200
    with (state / "state.db").open("r+b") as file:
        file.write(data)
    assert register(node, "101", padding=10) == 200
    wait_for(lambda: list(state.glob("state.db.broken-*")), PATIENCE)
    wait_for(lambda: store(node)["state"] == "ok" and register(node, "102") == 200, PATIENCE)

    def stored() -> int:
        with closing(sqlite3.connect(state / "state.db")) as other:
            return int(other.execute("SELECT count(*) FROM state WHERE kind = 'binding'").fetchone()[0])

    wait_for(lambda: stored() >= len(EXTENSIONS), PATIENCE)
    node.end(signal.SIGKILL)
    start(node, state)
    assert {row["user"] for row in node.bindings()} == {f"acme-{extension}" for extension in EXTENSIONS}
    node.end()


def test_a_lock_file_that_cannot_be_written_still_keeps_a_second_one_out(tmp_path: Path, node: Node) -> None:
    state = tmp_path / "state"
    (state / "lock").mkdir(parents=True)
    start(node, state)
    command = [sys.executable, "-m", "sipd", "run", "--state", str(state), "--key-file", str(node.path / "key")]
    done = subprocess.run([*command, "--listen", "udp:127.0.0.1:0"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "Another sipd uses the state directory" in done.stderr
    node.end()
