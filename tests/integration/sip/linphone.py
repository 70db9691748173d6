"""Linphone as a phone, steered over its daemon's socket: it knows attended transfer, which baresip does not."""

from __future__ import annotations

import os
import socket
import subprocess
from itertools import count
from pathlib import Path
from typing import Self

from tests.integration.node import wait_for
from tests.peers.wire import Hop, free_port

END_SECONDS = 5.0
ANSWER_SECONDS = 10.0
_numbers = count()

CONFIG = """\
[sip]
sip_port={port}
sip_tcp_port=-1
default_proxy=0
media_encryption=none
[rtp]
audio_rtp_port={rtp}
[auth_info_0]
username={user}
passwd={password}
realm={domain}
domain={domain}
[proxy_0]
reg_proxy=<sip:{edge};transport={transport}>
reg_route=<sip:{edge};transport={transport};lr>
reg_identity="Phone {user}" <sip:{user}@{domain}>
reg_expires=600
reg_sendregister=1
"""


class Linphone:
    """One registered phone that answers every call; a context manager."""

    def __init__(self, folder: Path, user: str, domain: str, password: str, edge: Hop) -> None:
        for name in (".local/share/linphone", ".config/linphone"):
            (folder / name).mkdir(parents=True)
        settings = {"port": free_port("127.0.0.1"), "rtp": free_port("127.0.0.1"), "transport": edge.transport}
        who = {"user": user, "domain": domain, "password": password, "edge": f"{edge.host}:{edge.port}"}
        self._config = folder / "linphonerc"
        self._config.write_text(CONFIG.format(**settings, **who))
        self._folder = folder
        self._pipe = f"tenantry-test-{os.getpid()}-{next(_numbers)}"  # the daemon puts it into /tmp, and nowhere else
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _path(self) -> Path:
        return Path("/tmp") / self._pipe

    def __enter__(self) -> Self:
        command = ["linphone-daemon", "--pipe", self._pipe, "--config", str(self._config), "--auto-answer"]
        with (self._folder / "out").open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "--log", str(self._folder / "log")], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, "HOME": str(self._folder), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""},
            )  # fmt: skip
        wait_for(self._path.exists)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(END_SECONDS)
        self._path.unlink(missing_ok=True)

    def do(self, command: str) -> dict[str, str]:
        """One command; the lines of its answer. Raises AssertionError unless it says Ok."""
        text = ""

        def said() -> bool:
            nonlocal text
            text = self._ask(command)
            return bool(text)

        wait_for(said)
        answer = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        assert answer["Status"] == "Ok", f"{command}: {text}"
        return answer

    def _ask(self, command: str) -> str:
        """Empty when the daemon has not let go of the last connection yet, and takes no other."""
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(ANSWER_SECONDS)
            try:
                daemon.connect(str(self._path))
                daemon.sendall(command.encode() + b"\n")
                return daemon.recv(65536).decode()  # it writes each answer at once
            except (ConnectionError, FileNotFoundError):
                return ""

    def call(self, uri: str) -> str:
        """The new call's id."""
        return self.do(f"call {uri}")["Id"]
