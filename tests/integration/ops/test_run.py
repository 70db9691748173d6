"""`make run`: starts both programs, says what is wrong, stops both, and keeps the data."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from tests.authority import Authority

ROOT = Path(__file__).resolve().parents[3]


class Place(NamedTuple):
    """Free ports, and a state folder, of one test."""

    panel: str
    sip: str
    state: Path

    @property
    def command(self) -> list[str]:
        words = ["ops/run.py", "--panel", self.panel, "--sip", self.sip, "--state", str(self.state)]
        return [sys.executable, *words]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", tmp_path / "var")


@contextlib.contextmanager
def running(place: Place, *more: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The supervisor and what it has printed, from the moment it says that both answer."""
    process = subprocess.Popen(
        [*place.command, *more], cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        try:
            said = ""
            for line in process.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            yield process, said
        finally:
            process.terminate()


def interrupt(process: subprocess.Popen[str]) -> str:
    """What Ctrl-C does; what was printed until the end."""
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    return said


def test_starts_both_stops_both_and_keeps_all_data(place: Place) -> None:
    with running(place) as (process, said):
        assert f"Panel   http://{place.panel}" in said
        assert re.search(rf"http://{place.panel}/setup/\S+", said), "no link to create the provider's account"
        with urlopen(f"http://{place.panel}/", timeout=10) as page:
            assert page.status == 200
        key = place.state / "installation.key"
        before = key.read_text()
        assert key.stat().st_mode & 0o777 == 0o600
        assert "Stopped." in interrupt(process)
        assert process.returncode == 0
    with running(place) as (process, said):
        assert "Tenantry runs." in said
        assert key.read_text() == before
        assert "Stopped." in interrupt(process)


def test_a_crash_of_one_stops_the_other_and_shows_why(place: Place) -> None:
    with running(place) as (process, _):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        sipd = next(pid for pid in children if b"sipd" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(int(sipd), signal.SIGKILL)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "sipd ended by signal SIGKILL. Its last lines" in said
    assert "started" in said
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize(("taken", "kind"), [("panel", "TCP"), ("sip", "TCP"), ("sip", "UDP")])
def test_says_which_port_is_taken_and_what_to_do(place: Place, taken: str, kind: str) -> None:
    host, _, port = getattr(place, taken).rpartition(":")
    with socket.socket(type=socket.SOCK_STREAM if kind == "TCP" else socket.SOCK_DGRAM) as other:
        other.bind((host, int(port)))
        if kind == "TCP":
            other.listen()
        done = subprocess.run(place.command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"cannot listen on {host}:{port} ({kind}): Address already in use" in done.stderr
    assert f"make run {taken.upper()}={host}:{int(port) + 1}" in done.stderr


def test_two_on_one_folder_are_refused(place: Place) -> None:
    with running(place):
        done = subprocess.run(place.command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "another `make run` works on" in done.stderr


def test_tls_and_secure_web_socket_where_asked(place: Place, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("127.0.0.1")
    ports = {name: free_port() for name in ("tls", "wss")}
    more = [word for name, port in ports.items() for word in (f"--{name}", f"127.0.0.1:{port}")]
    with running(place, *more, TENANTRY_TLS_CERTIFICATE=str(pair.chain)) as (_, said):
        for name, port in ports.items():
            assert f"127.0.0.1:{port} ({name.upper()})" in said
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                authority.client().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
            ):
                assert secure.version() in ("TLSv1.2", "TLSv1.3")


def test_metrics_where_asked(place: Place) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    with running(place, "--metrics", metrics) as (_, said):
        assert f"Watch   http://{metrics}/metrics, /healthz, /readyz" in said
        with urlopen(f"http://{metrics}/metrics", timeout=10) as page:
            assert b"sipd_ready" in page.read()


def test_tls_needs_a_certificate(place: Place) -> None:
    command = [*place.command, "--tls", f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "TENANTRY_TLS_CERTIFICATE" in done.stderr
