"""The control channel between machines: TLS, to whom the panel trusts, and the token to nobody else."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from panel.publishing.node import NodeAwayError, NodeClient, NodeError
from sipd.config import write_key
from sipd.net.tls import Pair
from tests.authority import Authority

pytestmark = pytest.mark.integration
TOKEN = "a token of many letters"
PATIENCE = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def node(path: Path, pair: Pair, *more: str, host: str = "127.0.0.1") -> Iterator[int]:
    """A real daemon with its control channel on TCP; the port."""
    port, state = free_port(), path / "state"
    (path / "token").write_text(TOKEN)
    if not (path / "key").exists():
        write_key(path / "key")
    options = ["--listen", "udp:127.0.0.1:0", "--state", str(state), "--key-file", str(path / "key")]
    options += ["--control-tcp", f"{host}:{port}", "--control-token-file", str(path / "token")]
    options += ["--control-certificate", f"{pair.chain}={pair.key}", *more]
    process = subprocess.Popen([sys.executable, "-m", "sipd", "run", *options], cwd=path, env=dict(os.environ))
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_served(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def port(tmp_path: Path, authority: Authority) -> Iterator[int]:
    with node(tmp_path, authority.pair("localhost", "127.0.0.1")) as found:
        yield found


def test_a_node_is_believed_by_its_authority_or_its_fingerprint(authority: Authority, port: int) -> None:
    real = ssl.get_server_certificate(("127.0.0.1", port))
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(real)).hexdigest()
    colons = ":".join(shown[i : i + 2] for i in range(0, 64, 2)).upper()
    for trusted in (str(authority.file), f"sha256:{shown}", f"sha256:{'0' * 64}, sha256:{colons}"):
        with NodeClient(f"tls:127.0.0.1:{port}", TOKEN, authorities=trusted) as client:
            assert client.status().version == 0
            assert client.hello()["node"]


def test_nobody_else_is_believed_and_gets_no_token(tmp_path: Path, port: int) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    for trusted, why in (
        (str(other.file), "not believed"),
        ("", "not believed"),
        (f"sha256:{'0' * 64}", "does not name"),
        ("sha256:12", "is no list"),
        (str(tmp_path / "nothing.pem"), "cannot be used"),
    ):
        with (
            NodeClient(f"tls:127.0.0.1:{port}", TOKEN, authorities=trusted) as client,
            pytest.raises(NodeError, match=why),
        ):
            client.status()


def test_the_certificate_must_be_for_the_host(tmp_path: Path, authority: Authority) -> None:
    with (
        node(tmp_path, authority.pair("elsewhere.example")) as port,
        NodeClient(f"tls:127.0.0.1:{port}", TOKEN, authorities=str(authority.file)) as client,
        pytest.raises(NodeAwayError, match="not believed"),
    ):
        client.status()


def test_a_wrong_token_is_refused_and_plain_text_gets_nothing(authority: Authority, port: int) -> None:
    trusted = str(authority.file)
    with NodeClient(f"tls:127.0.0.1:{port}", "wrong" * 5, authorities=trusted) as client, pytest.raises(NodeError):
        client.status()
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.sendall(b'{"do":"hello","token":"%s"}\n' % TOKEN.encode())
        plain.settimeout(5)
        try:
            heard = plain.recv(4096)
        except ConnectionResetError:
            heard = b""
    assert not heard.startswith(b"{")


def test_socket_and_state_are_for_the_owner_alone(tmp_path: Path, port: int) -> None:
    state = tmp_path / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "control.sock").stat().st_mode) == 0o600


def test_a_state_directory_that_is_open_to_others_is_closed(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    with node(tmp_path, authority.pair("localhost")):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
