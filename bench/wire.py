"""sipd and Kamailio side by side, on loopback sockets: `make bench`. Processor time of the server per operation.

sipp is phone, PBX and caller on the other core. Kamailio does the least that is the same work (bench/kamailio.cfg),
tuned as its documents advise; it is a proxy, so that it keeps less of a call than a back-to-back user agent. What is
compared is the cost for the one who pays for the machine. Needs two cores, and sipp and kamailio from Debian.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.conftest import program
from tests.integration.kamailio.registrar import answers_options, kamailio_program
from tests.integration.node import AS_FAST_AS_IT_GOES, Node, free_port, wait_for
from tests.integration.sip.conftest import PBX_HOST
from tests.integration.sip.sipp import scenario_file
from tests.unit.core.bench import PASSWORD, table, tenant

CONFIG = Path(__file__).with_name("kamailio.cfg")
TENANTS = 1000
DOMAIN, USER = "t7.example", "101"
PHONE_HOST = "127.0.0.3"
SERVER_CORE, LOAD_CORE = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")
SECONDS = 60
"""After which a run of sipp gives up."""


class Server:
    """A running server: where it listens, and what it has cost so far."""

    def __init__(self, host: str, port: int, pid: int) -> None:
        self.host, self.port, self.pid = host, port, pid

    def spent(self) -> float:
        """Seconds of processor time of all its processes."""
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat.parent.name) == self.pid or int(fields[2]) == self.pid:  # it, or of its process group
                total += int(fields[11]) + int(fields[12])
        return total / TICKS


@contextmanager
def sipd(folder: Path) -> Iterator[Server]:
    """With a thousand tenants at one PBX address."""
    link = {"host": PBX_HOST, "sources": (PBX_HOST,)}
    tenants = [tenant(f"t{n}", extensions=(USER,), strategy="none", of_connection=link) for n in range(TENANTS)]
    node = Node(folder)
    node.start("--digest", "MD5", *AS_FAST_AS_IT_GOES)
    try:
        node.load(table(*tenants))
        assert node.process is not None
        pin(node.process.pid)
        yield Server(node.host, node.port, node.process.pid)
    finally:
        node.close()


@contextmanager
def kamailio(folder: Path) -> Iterator[Server]:
    """Tuned: one worker, the fast allocator."""
    port = free_port()
    script = folder / "kamailio.cfg"
    script.write_text(CONFIG.read_text().replace("PASSWORD_OF_PHONES", PASSWORD))
    command = [kamailio_program(), "-f", str(script), "-DD", "-E", "-x", "tlsf", "-X", "tlsf", "-m", "256", "-M", "16"]
    command += ["-l", f"udp:127.0.0.1:{port}", "-Y", str(folder), "-w", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command], stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: answers_options("127.0.0.1", port))
        yield Server("127.0.0.1", port, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def pin(pid: int) -> None:
    subprocess.run(["taskset", "-ap", "-c", SERVER_CORE, str(pid)], check=True, stdout=subprocess.DEVNULL)


def sipp(
    server: Server, scenario: str, *, host: str, port: int, calls: int, rate: int, domain: str = DOMAIN
) -> list[str]:
    """The command line of one run."""
    command = ["taskset", "-c", LOAD_CORE, "sipp", f"{server.host}:{server.port}", "-sf", str(scenario_file(scenario))]
    command += ["-i", host, "-p", str(port), "-t", "u1", "-m", str(calls), "-r", str(rate), "-l", "400"]
    command += ["-timeout", f"{SECONDS}s", "-timeout_error", "-nostdin", "-s", USER, "-au", USER, "-ap", PASSWORD]
    for name, value in {"domain": domain, "caller": "sip:caller@public.example", "user": USER}.items():
        command += ["-key", name, value]
    return [*command, "-key", "contact_uri", f"sip:{USER}@{host}:{port}"]


def run(command: list[str]) -> None:
    """To its end; the figures of a run in which a call failed are worth nothing."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS + 10)
    if done.returncode:
        raise RuntimeError(f"sipp ended with {done.returncode}:\n{done.stderr[-1000:]}{done.stdout[-2000:]}")


def register(server: Server, calls: int, rate: int) -> None:
    """REGISTER with digest: 401, then 200."""
    run(sipp(server, "register", host=PHONE_HOST, port=free_port(PHONE_HOST), calls=calls, rate=rate))


def call_through(server: Server, calls: int, rate: int) -> None:
    """INVITE 100 180 200 ACK BYE 200 from the PBX to a phone: 13 datagrams."""
    port = free_port(PHONE_HOST)
    run(sipp(server, "register", host=PHONE_HOST, port=port, calls=1, rate=1))
    answering = sipp(server, "answer", host=PHONE_HOST, port=port, calls=calls, rate=rate)
    with subprocess.Popen(answering, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as phone:
        try:
            run(sipp(server, "call", host=PBX_HOST, port=free_port(PBX_HOST), calls=calls, rate=rate))
        finally:
            phone.terminate()


def refused(server: Server, calls: int, rate: int) -> None:
    """INVITE to an unknown domain: 404."""
    port = free_port(PBX_HOST)
    run(sipp(server, "call_refused", host=PBX_HOST, port=port, calls=calls, rate=rate, domain="nobody.example"))


WORK: dict[str, Callable[[Server, int, int], None]] = {
    "REGISTER with digest": register,
    "call through": call_through,
    "INVITE refused 404": refused,
}
SERVERS = {"sipd": sipd, "kamailio (tuned)": kamailio}


def measure(start: Callable[[Path], object], work: Callable[[Server, int, int], None], count: int, rate: int) -> float:
    """Microseconds of processor time per operation, after a short run to warm up."""
    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as server:  # type: ignore[attr-defined]
        work(server, count // 10, rate)
        before = server.spent()
        work(server, count, rate)
        return (server.spent() - before) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="operations in a round (%(default)s)")
    parser.add_argument("--rate", type=int, default=500, help="operations a second (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (%(default)s)")
    options = parser.parse_args()
    missing = [name for name in ("sipp", "taskset", "kamailio") if program(name) is None]
    if missing or (os.cpu_count() or 1) < 2:
        sys.exit(f"Not compared: needs two cores, and {', '.join(missing) or 'has one'}.")
    print(f"processor time per operation, {options.rate} a second over UDP, {TENANTS} tenants, microseconds")
    print(f"{'operation':28}" + "".join(f"{name:>20}" for name in SERVERS))
    for name, work in WORK.items():
        figures = [
            statistics.median(measure(start, work, options.count, options.rate) for _ in range(options.rounds))
            for start in SERVERS.values()
        ]
        print(f"{name:28}" + "".join(f"{figure:20.0f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
