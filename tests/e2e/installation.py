"""A live panel and sipd, as `make run` starts them, on free ports and in a folder of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from panel.config import Config, from_env
from tests.cast import Cast, cast_of, close
from tests.integration.node import ROOT, free_port
from tests.peers import Hop

HOST = "127.0.0.1"
START_SECONDS = 40.0
STOP_SECONDS = 15.0


class Installation:
    """A context manager; `cast` are the people that were let in beside the pages."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.panel = f"{HOST}:{free_port(HOST)}"
        self.edge = Hop("udp", HOST, free_port(HOST))
        self.base = f"http://{self.panel}"
        self._log = state / "run.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._cast: Cast | None = None

    def __enter__(self) -> Self:
        self.state.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "ops/run.py", f"--panel={self.panel}", f"--state={self.state}"]
        command += [f"--sip={self.edge.host}:{self.edge.port}"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("TENANTRY_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + START_SECONDS
        while "Ctrl-C" not in self.said:
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"the installation did not start\n{self.said}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it by the id of the process that we started."""
        if self._cast is not None:
            close(self._cast)
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_SECONDS)

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def setup_link(self) -> str:
        """What was printed to create the provider's account with."""
        found = re.search(r"https?://\S+/setup/\S+", self.said)
        assert found, self.said
        return found[0]

    @property
    def config(self) -> Config:
        """The settings, as the panel has them."""
        return from_env({
            "TENANTRY_STATE_DIR": str(self.state),
            "TENANTRY_BASE_URL": self.base,
            "TENANTRY_CONTROL": f"unix:{self.state / 'sipd.sock'}",
            "TENANTRY_SIP_PORT": str(self.edge.port),
        })  # fmt: skip

    @property
    def cast(self) -> Cast:
        """root, alice, bob and carol, let in with the first use."""
        if self._cast is None:
            self._cast = cast_of(self.config)
        return self._cast

    def faults(self) -> list[str]:
        """Tracebacks in the logs of panel and sipd."""
        logs = sorted((self.state / "log").glob("*.log"))
        return [f"{log.name}: {log.read_text()[-4000:]}" for log in logs if "Traceback" in log.read_text()]
