"""sipp's own scenarios, as `sipp -sd` prints them: what everybody tries first against a SIP server.

Catches: an edge that wants more of an ACK or BYE than the built-in ones have. They address the edge instead of the
Contact that they got, and their URIs name its address and no tenant: so the mode is off. Left out are those that
cannot work with any edge that authenticates its phones: branchc and branchs (a REGISTER without credentials), uac_pcap
(needs a capture file), and 3pcc (no call between two ends).
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sipd.routing.model import Table
from tests.integration.node import Node
from tests.integration.sip.conftest import PBX_HOST, two_tenants
from tests.integration.sip.sipp import SippAtEdge, count, wait_until_bound
from tests.integration.sip.test_with_sipp import ended
from tests.peers.wire import free_port

pytestmark = pytest.mark.needs("sipp")


def one_tenant(port: int, transport: str) -> Table:
    """acme alone, with the mode off."""
    both = two_tenants(port, transport, mode=False, strategy="none")
    return replace(both, tenants=both.tenants[:1])


@pytest.fixture
def built_in(tmp_path: Path) -> dict[str, str]:
    """Names of files with the scenarios, without their ending."""
    names = {}
    for name in ("uac", "uas", "regexp"):
        text = subprocess.run(["sipp", "-sd", name], capture_output=True, text=True, check=False).stdout
        assert "<scenario" in text
        (tmp_path / f"{name}.xml").write_text(text)
        names[name] = str(tmp_path / name)
    return names


def at_edge(node: Node, folder: Path, transport: str, port: int) -> SippAtEdge:
    assert node.load(one_tenant(port, transport))["ok"]
    return SippAtEdge(folder, node, transport)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("caller", ["uac", "regexp"])
def test_the_pbx_calls_a_phone(
    md5_node: Node, tmp_path: Path, built_in: dict[str, str], caller: str, transport: str
) -> None:
    """uac and regexp as PBX, uas as phone."""
    port = free_port(PBX_HOST)
    sipp = at_edge(md5_node, tmp_path, transport, port)
    with sipp.phone(built_in["uas"]) as phone:
        run = sipp.call(built_in[caller], port=port)
        assert ended(md5_node) == [(200, "caller")]
        assert count(phone, "BYE ") == 1
        assert count(run, "SIP/2.0 200 OK") == 2


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_calls_out(md5_node: Node, tmp_path: Path, built_in: dict[str, str], transport: str) -> None:
    """uas as PBX, behind a phone that signs its calls."""
    port = free_port(PBX_HOST)
    sipp = at_edge(md5_node, tmp_path, transport, port)
    with sipp.start(built_in["uas"], host=PBX_HOST, port=port) as pbx:
        wait_until_bound(transport, PBX_HOST, port)
        sipp.run("phone_calls", user="101", service="9000")
        assert ended(md5_node) == [(200, "caller")]
        assert count(pbx, "BYE ") == 1
