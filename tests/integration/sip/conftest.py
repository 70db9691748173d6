"""A node for each test, and the two tenants of the story on one PBX address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sipd.routing.model import Table
from tests.integration.node import Node
from tests.unit.core.bench import table, tenant

PBX_HOST = "127.0.0.2"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    node.start()
    yield node
    node.close()


@pytest.fixture
def md5_node(tmp_path: Path) -> Iterator[Node]:
    """For phones that fail at any challenge which is not MD5, as Debian's sipp and baresip do."""
    node = Node(tmp_path)
    node.start("--digest", "MD5")
    yield node
    node.close()


def two_tenants(
    pbx_port: int, transport: str = "udp", *, mode: bool = True, strategy: str = "on_behalf", **of_connection: object
) -> Table:
    """acme and globex at the same PBX, each with its own registrar domain there and users 101 and 102."""
    tenants = []
    for name in ("acme", "globex"):
        link = {
            "host": PBX_HOST, "port": pbx_port, "transport": transport, "sources": (PBX_HOST,),
            "registrar_domain": f"{name}.pbx.example", **of_connection,
        }  # fmt: skip
        tenants.append(tenant(name, mode=mode, strategy=strategy, of_connection=link))
    routing = table(*tenants)
    return replace(routing, installation=replace(routing.installation, edge_hosts=("127.0.0.1",)))


def allowing(routing: Table, *networks: str) -> Table:
    """A table that lets these networks ask and fail as often as they like."""
    return replace(routing, installation=replace(routing.installation, allowed=networks))


def registered(node: Node) -> int:
    """How many upstream registrations stand."""
    return [entry["state"] for entry in node.upstream()].count("registered")


def faults(node: Node) -> int:
    """Errors of the daemon's own so far."""
    found: int = node.ask("status")["counters"].get("faults", 0)
    return found
