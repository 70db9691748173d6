"""SIPVicious, which most scanners on the Internet are made of: it ends in silence, and learns nothing."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.integration.node import Node
from tests.integration.sip.conftest import PBX_HOST, faults, two_tenants
from tests.peers.phone import Phone
from tests.peers.wire import Hop, free_port
from tests.unit.core.bench import PASSWORD

pytestmark = pytest.mark.needs("svmap", "svwar", "svcrack")
ATTACKER, PHONE = "127.0.0.1", "127.0.0.5"
"""The tools choose their own address."""
SECONDS = 60.0
DISGUISED = "Yealink SIP-T46U 108.86.0.20"
RUN = """
import sys
sys.path.insert(0, "/usr/share/sipvicious")
from sipvicious.libs import svhelper
old = svhelper.makeRequest.__defaults__
svhelper.makeRequest.__defaults__ = tuple(sys.argv[1] if value == "friendly-scanner" else value for value in old)
tool = sys.argv[2]
del sys.argv[1:2]
sys.argv = sys.argv[1:]
__import__("sipvicious." + tool, fromlist=["main"]).main()
"""


def attack(path: Path, agent: str, tool: str, *options: str) -> str:
    """What it printed. It calls itself `agent`."""
    command = ["/usr/bin/python3", "-c", RUN, agent, tool, "-x", ATTACKER, *options]
    home = {"HOME": str(path), "TERM": "dumb", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=home, cwd=path, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def served(node: Node) -> Node:
    assert node.load(two_tenants(free_port(PBX_HOST), strategy="none"))["ok"]
    return node


def banned(node: Node) -> list[str]:
    return [ban["source"] for ban in node.ask("bans")["bans"]]


async def serves(node: Node) -> bool:
    async with Phone("101", "acme.example", PASSWORD, Hop("udp", node.host, node.port), host=PHONE) as phone:
        return (await phone.register()).status == 200


def counters(node: Node) -> dict[str, int]:
    found: dict[str, int] = node.ask("status")["counters"]
    return found


class TestAsItIs:
    """It says that it is a scanner: not one answer."""

    def test_svmap_finds_no_device(self, served: Node, tmp_path: Path) -> None:
        said = attack(tmp_path, "friendly-scanner", "svmap", "-p", str(served.port), "127.0.0.1")
        assert "found nothing" in said
        assert counters(served)["guard.silent.scanner"]

    @pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
    def test_svwar_finds_no_extension(self, served: Node, tmp_path: Path, method: str) -> None:
        options = ("-p", str(served.port), "-e", "100-130", "-m", method, "--maximumtime", "3", "127.0.0.1")
        said = attack(tmp_path, "friendly-scanner", "svwar", *options)
        assert "101" not in said.replace("100-130", "")
        assert asyncio.run(serves(served))


class TestDisguised:
    """It calls itself a phone: a few answers that are all the same, and then a ban."""

    def test_svmap_learns_no_more_than_that_something_is_there(self, served: Node, tmp_path: Path) -> None:
        said = attack(tmp_path, DISGUISED, "svmap", "-p", str(served.port), "127.0.0.1")
        assert "Tenantry" not in said
        assert "acme" not in said

    @pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
    @pytest.mark.parametrize("domain", ["acme.example", "127.0.0.1"])
    def test_svwar_finds_no_extension(self, served: Node, tmp_path: Path, method: str, domain: str) -> None:
        options = ("-p", str(served.port), "-e", "90-150", "-m", method, "--domain", domain, "--force")
        said = attack(tmp_path, DISGUISED, "svwar", *options, "--maximumtime", "3", "127.0.0.1")
        found = {word for line in said.splitlines() if "|" in line for word in line.split() if word.isdigit()}
        assert found != {"101", "102"}, said
        assert not found or len(found) > 10, f"all are alike, or none is named:\n{said}"
        assert asyncio.run(serves(served))
        assert faults(served) == 0

    def test_svcrack_finds_no_password_and_is_banned(self, served: Node, tmp_path: Path) -> None:
        words = tmp_path / "words"
        words.write_text("\n".join([*(f"wrong{number}" for number in range(60)), PASSWORD, "more"]) + "\n")
        options = ("-p", str(served.port), "-u", "101", "-d", str(words), "--domain", "acme.example")
        said = attack(tmp_path, DISGUISED, "svcrack", *options, "--maximumtime", "10", "127.0.0.1")
        assert PASSWORD not in said, said
        assert banned(served) == [ATTACKER]
        assert counters(served)["auth.wrong"] <= 21
        assert counters(served)["udp.shut_out"]
        assert asyncio.run(serves(served))
