"""Blocked and banned sources at a real daemon: nothing from there is read, over any transport; and the commands."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace

from sipd.routing.model import Table
from tests.integration.node import ROOT, Node, wait_for
from tests.integration.sip.conftest import PBX_HOST, faults, two_tenants
from tests.peers.flood import message
from tests.peers.wire import free_port

STRANGER = "127.0.0.9"
OPTIONS = (
    "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{0} 127.0.0.9;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n"
    "From: <sip:a@b.example>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


def blocking(*networks: str) -> Table:
    table = two_tenants(free_port(PBX_HOST), strategy="none")
    return replace(table, installation=replace(table.installation, blocked=networks))


def counter(node: Node, name: str) -> int:
    found: int = node.ask("status")["counters"].get(name, 0)
    return found


def stream(node: Node) -> socket.socket:
    return socket.create_connection((node.host, node.port), 5, source_address=(STRANGER, 0))


def heard(sock: socket.socket) -> bytes:
    """What comes in a second; empty when the other end closes, or says nothing."""
    sock.settimeout(1.0)
    try:
        return sock.recv(4096)
    except OSError:
        return b""


def command(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sipd", *words, "--control", str(node.control)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)


def test_nothing_of_a_blocked_network_is_read(node: Node) -> None:
    assert node.load(blocking())["ok"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, stream(node) as before:
        udp.bind((STRANGER, 0))
        udp.sendto(OPTIONS.format("UDP").encode(), (node.host, node.port))
        assert heard(udp).startswith(b"SIP/2.0 200")
        before.sendall(OPTIONS.format("TCP").encode())
        assert heard(before).startswith(b"SIP/2.0 200")

        assert node.load(blocking("127.0.0.8/30"))["ok"]
        udp.sendto(OPTIONS.format("UDP").encode(), (node.host, node.port))
        assert heard(udp) == b""
        before.sendall(OPTIONS.format("TCP").encode())
        assert heard(before) == b""
        with stream(node) as after:
            assert heard(after) == b""
    assert counter(node, "udp.shut_out") == 1
    assert counter(node, "tcp.shut_out") == 2, "the connection that there was, and the new one"
    assert faults(node) == 0


def test_a_ban_is_listed_and_lifted_by_command(node: Node) -> None:
    assert node.load(blocking())["ok"]
    assert "0 bans" in command(node, "bans").stdout
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((STRANGER, 0))
        for number in range(300):
            udp.sendto(message(number, STRANGER), (node.host, node.port))
        wait_for(lambda: node.ask("bans")["bans"])
        (ban,) = node.ask("bans")["bans"]
        assert (ban["source"], ban["times"]) == (STRANGER, 1)
        assert 59 <= ban["until"] - ban["since"] <= 61
        listed = command(node, "bans").stdout
        assert "1 bans" in listed
        assert STRANGER in listed
        lifted = command(node, "unban", STRANGER)
        assert (lifted.returncode, lifted.stdout) == (0, f"{STRANGER} is not banned any more.\n")
        again = command(node, "unban", STRANGER)
        assert again.returncode == 1
        assert "sipd bans lists who is" in again.stdout
    assert [event["detail"]["reason"] for event in node.events("source.unbanned")] == ["operator"]
