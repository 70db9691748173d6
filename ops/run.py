"""Start the panel and sipd on this machine, and stop both together.

Makes what is missing first: state folder, installation key (mode 0600), database. Both programs write
their logs into `<state>/log`. When one of them ends, its last lines are shown and the other is stopped.
Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 30
STOP_SECONDS = 8
LAST_LINES = 25
LOG_BYTES = 10_000_000
SOCKET_PATH_BYTES = 107
"""What fits into `sockaddr_un` on Linux."""
PR_SET_PDEATHSIG = 1


class Address(NamedTuple):
    """Where one of the programs listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> str:
        """As a client on this machine names it: an address that means "all of them" is no destination."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  replaced, not bound
        return str(Address(host, self.port))


class Program(NamedTuple):
    """A started program and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    began: int
    """Size of the log at the start; what lies before is of another run."""


class Stopped(Exception):
    """Ctrl-C, or a polite kill."""


def fail(sentence: str) -> NoReturn:
    sys.exit(f"tenantry: {sentence}")


def address(text: str) -> Address:
    """`host:port`, `[v6]:port`, or a port alone."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write host:port, such as 127.0.0.1:8000")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def need_free(place: Address, kind: socket.SocketKind, variable: str) -> None:
    """Say plainly that an address cannot be had, and what to do, before anything is started."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    transport = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            other = f"or choose another: make run {variable}={Address(place.host, place.port + 1)}"
            what_to_do = {
                errno.EADDRINUSE: f"Stop what uses it (ss -lntup shows it), {other}",
                errno.EADDRNOTAVAIL: f"This machine has no such address; choose another: make run {variable}=...",
                errno.EACCES: f"Ports below 1024 need a privilege; use a higher one: make run {variable}=...",
            }
            advice = what_to_do.get(error.errno or 0, f"Choose another: make run {variable}=...")
            fail(f"cannot listen on {place} ({transport}): {error.strerror}. {advice}")


@contextlib.contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Two installations on one state folder would fight over it."""
    with (state / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fail(f"another `make run` works on {state} already. Stop it, or choose another folder: make run VAR=var2")
        yield


def environment(options: argparse.Namespace, control: Path) -> dict[str, str]:
    """What the panel is told; a variable that is set already wins."""
    told = {
        "TENANTRY_STATE_DIR": str(options.state),
        "TENANTRY_KEY_FILE": str(options.state / "installation.key"),
        "TENANTRY_CONTROL": f"unix:{control}",
        "TENANTRY_BASE_URL": f"http://{options.panel.reachable}",
        "TENANTRY_EDGE_HOSTS": Address(options.sip.reachable.rpartition(":")[0].strip("[]"), 0).host,
        "TENANTRY_SIP_PORT": str(options.sip.port),
        "TENANTRY_DRAIN": "0",  # Ctrl-C shall end it now
        "PYTHONUNBUFFERED": "1",
    }
    return {**told, **os.environ, "TENANTRY_STATE_DIR": told["TENANTRY_STATE_DIR"]}


def tenantry(env: dict[str, str], *words: str) -> str:
    """Run a command of the panel, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "panel.cli", *words], cwd=ROOT, env=env, capture_output=True, check=False, text=True
    )
    if done.returncode:
        fail(f"`tenantry {' '.join(words)}` failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


def prepare(state: Path, env: dict[str, str]) -> None:
    """The installation's key, which seals the secrets in tables and is never replaced; and the database."""
    key = state / "installation.key"
    if not key.exists():
        subprocess.run([sys.executable, "-m", "sipd", "key", str(key)], check=True, stdout=subprocess.DEVNULL)
        key.chmod(0o600)
    tenantry(env, "db", "upgrade")


def open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def die_with_parent() -> None:
    """Should this supervisor be killed with -9, what it started must not hold the ports (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start(name: str, command: list[str], env: dict[str, str], state: Path) -> Program:
    """Start in a session of its own, so that Ctrl-C comes to the supervisor alone."""
    log = state / "log" / f"{name}.log"
    with open_log(log) as sink:
        began = sink.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  there are no threads here
        )
    return Program(name, process, log, began)


def panel_answers(place: Address) -> bool:
    host, _, port = place.reachable.rpartition(":")
    try:
        with contextlib.closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=5)) as client:
            client.request("GET", "/")
            return client.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False


def sipd_answers(control: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(5)
            channel.connect(str(control))
            channel.sendall(b'{"do":"status"}\n')
            return bool(json.loads(channel.makefile().readline())["ok"])
    except (OSError, ValueError):
        return False


def ended(programs: list[Program]) -> Program | None:
    return next((program for program in programs if program.process.poll() is not None), None)


def show_end(program: Program) -> None:
    """Why a program ended, in its own words."""
    code = program.process.returncode
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
    lines = program.log.read_bytes()[program.began :].decode(errors="replace").splitlines()[-LAST_LINES:]
    print(f"\ntenantry: {program.name} ended {how}. Its last lines, from {program.log}:", file=sys.stderr)
    print(*(f"    {line}" for line in lines), sep="\n", file=sys.stderr, flush=True)


def wait_until(answers: Callable[[], bool], program: Program, programs: list[Program]) -> bool:
    """True as soon as `program` answers; False when one of them ended or it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if ended(programs):
            return False
        if answers():
            return True
        time.sleep(0.1)
    print(f"tenantry: {program.name} did not answer in {READY_SECONDS} s; see {program.log}", file=sys.stderr)
    return False


def stop(programs: list[Program]) -> None:
    """Ask all to end, the last started first; after a while, insist."""
    for program in reversed(programs):
        with contextlib.suppress(ProcessLookupError):
            program.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for program in programs:
        try:
            program.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"tenantry: {program.name} does not end; killing it", file=sys.stderr)
            os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait()


def on_signals(action: Callable[[int, object], NoReturn] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, action)


def raise_stopped(_number: int, _frame: object) -> NoReturn:
    on_signals(signal.SIG_IGN)
    print("\nStopping ...", flush=True)
    raise Stopped


def secure(options: argparse.Namespace) -> dict[str, Address]:
    """The listeners that need a certificate, by transport."""
    return {name: place for name in ("tls", "wss") if (place := getattr(options, name)) is not None}


def commands(options: argparse.Namespace, control: Path) -> dict[str, list[str]]:
    """What is started, in this order."""
    sipd = ["sipd", "run", "--listen", f"udp:{options.sip}", "--listen", f"tcp:{options.sip}"]
    for transport, place in secure(options).items():
        sipd += ["--listen", f"{transport}:{place}"]
    sipd += ["--metrics", str(options.metrics)] if options.metrics else []
    for relay in options.media:
        sipd += ["--media", relay]
    sipd += ["--state", str(options.state / "sipd"), "--control", str(control)]
    sipd += ["--key-file", str(options.state / "installation.key")]
    panel = ["gunicorn", "--config", "ops/gunicorn.conf.py", "--bind", str(options.panel), "panel.app:create_app()"]
    return {"sipd": sipd, "panel": panel}


def serve(options: argparse.Namespace, env: dict[str, str], control: Path) -> None:
    """Start both, say where they are, and stay until one ends or we are asked to stop."""
    programs: list[Program] = []
    try:
        for name, command in commands(options, control).items():
            programs.append(start(name, command, env, options.state))
        sipd, panel = programs
        if wait_until(lambda: sipd_answers(control), sipd, programs) and wait_until(
            lambda: panel_answers(options.panel), panel, programs
        ):
            welcome(options, tenantry(env, "setup-link"))
            while not ended(programs):
                time.sleep(0.2)
        if failed := ended(programs):
            show_end(failed)
    finally:
        on_signals(signal.SIG_IGN)
        stop(programs)


def welcome(options: argparse.Namespace, setup_link: str) -> None:
    first = f"\nCreate the provider's account with this link; it works once:\n  {setup_link}\n" if setup_link else ""
    also = "".join(f", {place} ({name.upper()})" for name, place in secure(options).items())
    watched = f"  Watch   http://{options.metrics.reachable}/metrics, /healthz, /readyz\n" if options.metrics else ""
    text = f"""
Tenantry runs.
  Panel   http://{options.panel.reachable}
  SIP     {options.sip} (UDP and TCP){also}
{watched}  Data    {options.state}, logs in {options.state / "log"}
{first}
Ctrl-C stops it."""
    print(text, flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start the panel and sipd on this machine.")
    parser.add_argument("--panel", type=address, default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument("--sip", type=address, default="127.0.0.1:5060", metavar="HOST:PORT")
    parser.add_argument("--tls", type=address, metavar="HOST:PORT", help="SIP over TLS as well")
    parser.add_argument("--wss", type=address, metavar="HOST:PORT", help="SIP over secure WebSocket as well")
    parser.add_argument("--metrics", type=address, metavar="HOST:PORT", help="metrics and health of sipd over HTTP")
    parser.add_argument(
        "--media", action="append", default=[], metavar="udp:HOST:PORT", help="ng port of an rtpengine; many times"
    )
    parser.add_argument("--state", type=Path, default=Path("var"), metavar="FOLDER")
    parser.add_argument("--prepare", action="store_true", help="make the key and the database, and start nothing")
    return parser.parse_args()


def main() -> int:
    """Check what can be checked beforehand, then serve. Zero when we were asked to stop."""
    options = read_options()
    os.chdir(ROOT)
    control = options.state / "sipd.sock"
    if len(os.fsencode(control)) > SOCKET_PATH_BYTES:
        fail(f"the path of {options.state} is too long for a Unix socket in it; choose a shorter one: make run VAR=...")
    env = environment(options, control)
    if secure(options) and not env.get("TENANTRY_TLS_CERTIFICATE"):
        fail("TLS and WSS need a certificate: name its PEM file, chain and key, in TENANTRY_TLS_CERTIFICATE")
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if options.prepare:
        prepare(options.state, env)
        return 0
    try:
        on_signals(raise_stopped)
        with only_one(options.state):
            need_free(options.panel, socket.SOCK_STREAM, "PANEL")
            need_free(options.sip, socket.SOCK_DGRAM, "SIP")
            need_free(options.sip, socket.SOCK_STREAM, "SIP")
            if options.metrics:
                need_free(options.metrics, socket.SOCK_STREAM, "METRICS")
            for name, place in secure(options).items():
                need_free(place, socket.SOCK_STREAM, name.upper())
            prepare(options.state, env)
            serve(options, env, control)
    except Stopped:
        print(f"Stopped. The data stay in {options.state}.", flush=True)
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
