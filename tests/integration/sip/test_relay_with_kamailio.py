"""Phones that hold the accounts of a real Kamailio, and register there through the edge (wire.md: strategy relay).

The edge has no password of anybody here: all that Kamailio lets through was proved by the phone itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sipd.routing.model import Table, Tenant, User
from tests.integration.kamailio.registrar import KamailioRegistrar, kamailio_for_tests
from tests.integration.kamailio.sipp import Sipp
from tests.integration.node import Node, wait_for
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import faults, two_tenants
from tests.peers.loop import in_loop
from tests.peers.phone import Phone
from tests.peers.wire import Hop

pytestmark = [
    pytest.mark.needs("kamailio", "sipp", "baresip"),
    pytest.mark.parametrize("transport", ["udp", "tcp"]),
]
SECRET = "kept-in-the-phone"
ACCOUNTS = {f"{name}.pbx.example": {"a101": SECRET, "a102": SECRET} for name in ("acme", "globex")}
AOR = "a101@acme.pbx.example"

both_modes = pytest.mark.parametrize("mode", [True, False], ids=["mode on", "mode off"])


@pytest.fixture
def kamailio(tmp_path: Path) -> Iterator[KamailioRegistrar]:
    yield from kamailio_for_tests(tmp_path / "kamailio", accounts=ACCOUNTS)


@pytest.fixture
def sipp(tmp_path: Path) -> Sipp:
    folder = tmp_path / "sipp"
    folder.mkdir()
    return Sipp(folder)


def relayed(tenant: Tenant) -> Tenant:
    return replace(tenant, users=tuple(_in_its_phone(user) for user in tenant.users))


def _in_its_phone(user: User) -> User:
    account = replace(user.upstream[0], username=f"a{user.extension}", password="")
    return replace(user, ha1_md5="", ha1_sha256="", upstream=(account,))


def routing(kamailio: KamailioRegistrar, transport: str, mode: bool = True) -> Table:
    """Both tenants there, globex with the mode on, acme as `mode` says; no user has a password at the edge."""
    source = f"{kamailio.host}:{kamailio.port}"
    of_pbx = {"host": kamailio.host, "sources": (source,), "internal_calls": "always_direct"}
    made = two_tenants(kamailio.port, transport, strategy="relay", **of_pbx)
    acme, globex = map(relayed, made.tenants)
    link = replace(acme.connections[0], multi_tenant=mode)
    return replace(made, tenants=(replace(acme, connections=(link,)), globex))


def contact(node: Node, transport: str, mode: bool, user: str = "101") -> str:
    """As the edge's rule has it."""
    suffix = ";transport=tcp" if transport == "tcp" else ""
    if mode:
        return f"sip:{user}@acme.example:{node.port}{suffix}"
    return f"sip:{user}@{node.host}:{node.port}{suffix};local-domain=acme.example"


@contextlib.contextmanager
def baresip(node: Node, folder: Path, transport: str, secret: str = SECRET) -> Iterator[Baresip]:
    edge = Hop(transport, node.host, node.port)
    own = Baresip(folder / "baresip", "101", "acme.example", secret, edge, "auto", account=";auth_user=a101")
    with own as phone:
        yield phone
    assert faults(node) == 0


def phone(node: Node, transport: str, user: str = "101", name: str = "a101", tenant: str = "acme") -> Phone:
    edge = Hop(transport, node.host, node.port)
    return Phone(user, f"{tenant}.example", SECRET, edge, auth_user=name, on_call="answer")


@both_modes
@in_loop
async def test_baresip_registers_is_called_and_calls(
    node: Node, kamailio: KamailioRegistrar, sipp: Sipp, tmp_path: Path, transport: str, mode: bool
) -> None:
    await asyncio.to_thread(node.load, routing(kamailio, transport, mode))
    with baresip(node, tmp_path, transport) as first:
        await asyncio.to_thread(wait_for, node.bindings)
        assert kamailio.contacts(AOR) == [contact(node, transport, mode)]
        (row,) = node.upstream()
        assert (row["state"], row["code"], row["extension"]) == ("registered", 200, "101")
        (binding,) = node.bindings()
        assert binding["user_agent"].startswith("baresip")

        await asyncio.to_thread(sipp.call, "a101", "acme.pbx.example", kamailio.hop(transport))
        await asyncio.to_thread(first.wait, "CALL_CLOSED")

        async with phone(node, transport, "102", "a102") as second:
            assert (await second.register()).status == 200
            await asyncio.to_thread(first.do, "dial", "sip:a102@acme.example")
            await asyncio.to_thread(first.wait, "CALL_ESTABLISHED")
            call = await second.incoming()
            assert call.invite.from_.uri.aor == AOR  # Kamailio has let it through, as who it is
            await asyncio.to_thread(first.do, "hangup")
            await asyncio.to_thread(first.wait, "CALL_CLOSED")
            assert await call.ended() == "remote"
    await asyncio.to_thread(wait_for, lambda: len(node.events("call.ended")) == 3)
    ended = [(event["detail"]["direction"], event["detail"]["code"]) for event in node.events("call.ended")]
    assert sorted(ended) == [("in", 200), ("in", 200), ("out", 200)]  # a challenge is no call


@both_modes
@in_loop
async def test_two_phones_of_a_user_are_one_contact_until_the_last_leaves(
    node: Node, kamailio: KamailioRegistrar, transport: str, mode: bool
) -> None:
    await asyncio.to_thread(node.load, routing(kamailio, transport, mode))
    async with phone(node, transport) as first, phone(node, transport) as second:
        for each in (first, second):
            answer = await each.register()
            assert (answer.status, len(answer.all("Contact"))) == (200, 1)
        assert kamailio.contacts(AOR) == [contact(node, transport, mode)]
        assert len(node.bindings()) == 2
        assert (await first.unregister()).status == 200
        assert kamailio.contacts(AOR) == [contact(node, transport, mode)]
        assert len(node.bindings()) == 1
        answer = await second.register(0, contact="*")
        assert (answer.status, answer.all("Contact")) == (200, [])
        assert kamailio.contacts(AOR) == []
        assert (node.bindings(), node.upstream()) == ([], [])


@in_loop
async def test_a_wrong_password_is_refused_by_the_pbx_and_seen(
    node: Node, kamailio: KamailioRegistrar, tmp_path: Path, transport: str
) -> None:
    await asyncio.to_thread(node.load, routing(kamailio, transport))
    with baresip(node, tmp_path, transport, "wrong"):
        await asyncio.to_thread(wait_for, node.upstream)
        (row,) = node.upstream()
        assert (row["state"], row["code"]) == ("refused", 401)
        assert node.bindings() == []
        assert kamailio.contacts(AOR) == []


@in_loop
async def test_the_same_extension_of_two_tenants_and_messages_between_users(
    node: Node, kamailio: KamailioRegistrar, sipp: Sipp, transport: str
) -> None:
    await asyncio.to_thread(node.load, routing(kamailio, transport))
    async with (
        phone(node, transport) as acme,
        phone(node, transport, tenant="globex") as globex,
        phone(node, transport, "102", "a102") as other,
    ):
        for each in (acme, globex, other):
            assert (await each.register()).status == 200
        await asyncio.to_thread(sipp.call, "a101", "globex.pbx.example", kamailio.hop(transport))
        assert [len(each.received("INVITE")) for each in (acme, globex)] == [0, 1]
        assert (await acme.ask("MESSAGE", "sip:a102@acme.example", body=b"through the PBX")).status == 200
        assert [message.body for message in other.received("MESSAGE")] == [b"through the PBX"]
        stranger = Phone("101", "acme.example", SECRET, acme.edge, auth_user="a101")
        async with stranger:
            assert (await stranger.call("a102").final()).status == 403
        assert not other.received("INVITE")


@in_loop
async def test_a_restart_of_the_node_leaves_the_phone_registered(
    node: Node, kamailio: KamailioRegistrar, sipp: Sipp, transport: str
) -> None:
    """UDP: the phone's address serves on. TCP: it connects anew, and registers under the same Call-ID at the PBX."""
    await asyncio.to_thread(node.load, routing(kamailio, transport))
    async with phone(node, transport) as first:
        assert (await first.register()).status == 200
        await asyncio.to_thread(node.end, signal.SIGKILL)
        await asyncio.to_thread(node.start)
        assert [row["state"] for row in node.upstream()] == ["registered"]
        if transport == "tcp":
            assert (await first.register()).status == 200
        await asyncio.to_thread(sipp.call, "a101", "acme.pbx.example", kamailio.hop(transport))
        assert len(first.received("INVITE")) == 1
        assert (await first.register()).status == 200
        assert kamailio.contacts(AOR) == [contact(node, transport, mode=True)]
    assert faults(node) == 0
