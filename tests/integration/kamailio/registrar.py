"""Kamailio as a registrar on loopback: started for a test, stopped by its process id."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from tests.peers.wire import Hop, free_port

CONFIG = Path(__file__).with_name("registrar.cfg")
ACCOUNTS = {
    "acme.example": {"101": "acme-secret", "102": "acme-secret-2"},
    "globex.example": {"101": "globex-secret", "102": "globex-secret-2"},
}
START_SECONDS = 15.0
STOP_SECONDS = 5.0
TRIES = 3
"""Starts before giving up, as another program may take the port in between."""


class KamailioError(Exception):
    """It did not start, or refused a command; the text holds its log."""


def kamailio_program() -> str:
    """Where it is; Debian keeps it out of an ordinary user's PATH."""
    found = shutil.which("kamailio", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise KamailioError("kamailio is not installed")
    return found


class KamailioRegistrar:
    """A running Kamailio with accounts {domain: {user: password}}; a context manager.

    `gateway` ("127.0.0.1:5090") takes calls to user parts that are no account; without it they get 480.
    """

    def __init__(self, folder: Path, accounts: Mapping[str, Mapping[str, str]] = ACCOUNTS, gateway: str = "") -> None:
        self.folder = folder
        self.accounts = accounts
        self.gateway = gateway
        self.host = "127.0.0.1"
        self.port = 0
        self.log = folder / "kamailio.log"
        self._sockets = Path()
        """A short path: that of a Unix socket has at most 107 bytes."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        accounts = accounts_config(self.accounts)
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(CONFIG, self.folder / "registrar.cfg")
        (self.folder / "accounts.cfg").write_text(accounts)
        self._sockets = Path(tempfile.mkdtemp(prefix="kamailio-"))
        for attempt in range(1, TRIES + 1):
            self.port = free_port(self.host)
            try:
                self._start()
            except KamailioError:
                self.stop()
                if attempt == TRIES:
                    shutil.rmtree(self._sockets, ignore_errors=True)
                    raise
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _command(self) -> list[str]:
        defines = {"PORT": str(self.port), "RPC_SOCKET": f'"{self._sockets / "rpc"}"'}
        if self.gateway:
            defines["GATEWAY"] = f'"sip:{self.gateway}"'
        return [
            kamailio_program(),
            *("-f", str(self.folder / "registrar.cfg"), "-DD", "-E", "-m", "32", "-M", "4"),
            *("-Y", str(self.folder), "-w", str(self.folder)),
            *(part for name, value in defines.items() for part in ("-A", f"{name}={value}")),
        ]

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise KamailioError(f"Kamailio ended with {self._process.returncode}\n{self.log_text()}")
            if answers_options(self.host, self.port):
                return
        raise KamailioError(f"Kamailio gave no answer within {START_SECONDS} s\n{self.log_text()}")

    def stop(self) -> None:
        """End it and its children, by the id of the process that we started; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session, so these are its children only
            process.wait(STOP_SECONDS)
        until = time.monotonic() + STOP_SECONDS
        while group_lives(process.pid) and time.monotonic() < until:
            time.sleep(0.01)  # its children end a moment later

    def kill(self) -> None:
        """End it at once, as a crash does: nobody hears of it, and what it knew is gone."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session, so these are its children only
            process.wait(STOP_SECONDS)

    def start_again(self) -> None:
        """On the same port, after `kill`."""
        self._start()

    def restart(self) -> None:
        """Stop and start again on the same port: all bindings are forgotten."""
        self.stop()
        self._start()

    @property
    def pid(self) -> int:
        """Of the main process; 0 when it does not run."""
        return self._process.pid if self._process else 0

    def hop(self, transport: str = "udp") -> Hop:
        """Where it is reached."""
        return Hop(transport, self.host, self.port)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def rpc(self, method: str, *params: object) -> Any:
        """Kamailio's own control interface. Raises `KamailioError`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            own = self._sockets / f"client-{time.monotonic_ns()}"
            client.bind(str(own))
            client.settimeout(STOP_SECONDS)
            try:
                request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
                client.sendto(json.dumps(request).encode(), str(self._sockets / "rpc"))
                answer = json.loads(client.recv(1 << 20))
            finally:
                own.unlink()
        if "error" in answer:
            raise KamailioError(answer["error"]["message"])
        return answer["result"]

    def contacts(self, aor: str) -> list[str]:
        """The registered Contact URIs of `user@domain`, whole."""
        try:
            found = self.rpc("ul.lookup", "location", aor)
        except KamailioError:
            return []
        return [each["Contact"]["Address"] for each in found["Contacts"]]


def accounts_config(accounts: Mapping[str, Mapping[str, str]]) -> str:
    """The accounts as Kamailio configuration: shared memory filled at start."""
    lines = ["event_route[htable:mod-init] {"]
    for domain, users in accounts.items():
        lines.append(f"\t$sht(domains=>{plain(domain)}) = 1;")
        lines += [f'\t$sht(passwords=>{plain(user)}@{domain}) = "{plain(word)}";' for user, word in users.items()]
    return "\n".join([*lines, "}", ""])


def plain(text: str) -> str:
    """Refused, never escaped, if it could end a string."""
    if not text or not text.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise ValueError(f"{text!r} cannot be written into a configuration; use letters, digits and - . _")
    return text


def answers_options(host: str, port: int, patience: float = 0.2) -> bool:
    """Whether a SIP server is there and says 200 to OPTIONS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        probe.settimeout(patience)
        own = probe.getsockname()[1]
        lines = [
            f"OPTIONS sip:{host}:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{own};branch=z9hG4bK{time.monotonic_ns()};rport",
            "Max-Forwards: 1",
            f"From: <sip:probe@{host}>;tag=1",
            f"To: <sip:{host}>",
            f"Call-ID: probe-{own}",
            "CSeq: 1 OPTIONS",
            "Content-Length: 0",
        ]
        probe.connect((host, port))
        try:
            probe.send("\r\n".join([*lines, "", ""]).encode())
            return probe.recv(4096).startswith(b"SIP/2.0 200")
        except TimeoutError:
            return False
        except ConnectionRefusedError:
            time.sleep(patience / 4)
            return False


def kamailio_for_tests(folder: Path, **options: Any) -> Iterator[KamailioRegistrar]:
    """For fixtures: started, and stopped whatever happens."""
    with KamailioRegistrar(folder, **options) as running:
        yield running


def group_lives(number: int) -> bool:
    """Whether a process of this group is still there."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True
