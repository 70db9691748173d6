"""sipsak, the administrator's probe: it registers and takes the binding back. (Its message mode crashes by itself in
Debian's build, before it sends anything.)"""

from __future__ import annotations

import subprocess

import pytest

from tests.integration.node import Node
from tests.integration.sip.conftest import PBX_HOST, faults, two_tenants
from tests.peers.wire import free_port
from tests.unit.core.bench import PASSWORD

pytestmark = pytest.mark.needs("sipsak")
SECONDS = 20.0


def sipsak(node: Node, uri: str, *options: str) -> str:
    """What it printed. It ends with 0 when the answer is a 2xx."""
    command = ["sipsak", "-vv", "-p", f"{node.host}:{node.port}", "-s", uri, "-H", "127.0.0.1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def served(node: Node) -> Node:
    assert node.load(two_tenants(free_port(PBX_HOST), strategy="none"))["ok"]
    return node


def test_it_registers_and_takes_the_binding_back(served: Node) -> None:
    """Catches: a challenge that it does not understand (it takes MD5 alone), `Contact: *` that is not honoured."""
    signed = ("-u", "101", "-a", PASSWORD)
    sipsak(served, "sip:101@acme.example", "-U", "-C", "sip:101@127.0.0.1:40404", "-x", "120", *signed)
    (binding,) = served.bindings()
    assert (binding["tenant"], binding["contact"]) == ("acme", "sip:101@127.0.0.1:40404")
    sipsak(served, "sip:101@acme.example", "-U", "-C", "*", "-x", "0", *signed)
    assert served.bindings() == []
    assert faults(served) == 0
