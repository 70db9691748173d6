"""Seen from outside: a real node, a call between peers, and the commands that tell what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sipd.routing import codec
from sipd.routing.model import Table
from tests.integration.node import ROOT, Node, wait_for
from tests.integration.sip.conftest import PBX_HOST, two_tenants
from tests.peers.call import Call
from tests.peers.phone import Phone
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD

ACCOUNTS = {f"{name}.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"} for name in ("acme", "globex")}
Doc = dict[str, Any]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.close()


def sipd(node: Node, *arguments: str, by_state: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100"}
    if by_state:
        environment["TENANTRY_STATE"] = str(node.path)
    command = [sys.executable, "-m", "sipd", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def asked(node: Node, *arguments: str) -> Any:
    done = sipd(node, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Stage:
    """A node with both tenants, the PBX, and a phone of acme."""

    def __init__(self, node: Node, pbx: StandinPbx, phone: Phone, table: Table) -> None:
        self.node, self.pbx, self.phone, self.table = node, pbx, phone, table

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(sipd, self.node, *arguments)

    async def json(self, *arguments: str) -> Any:
        return await asyncio.to_thread(asked, self.node, *arguments)

    async def call(self) -> Call:
        call = self.pbx.call("101@acme.pbx.example")
        await call.answered()
        return call

    async def traced(self, *filters: str, count: int = 1) -> list[Doc]:
        """The list of calls' traces, once there are so many that are over."""
        for _ in range(100):
            found: list[Doc] = (await self.json("trace", "--kind", "call", *filters))["traces"]
            if len([trace for trace in found if trace["timings"]["total"] is not None]) >= count:
                return found
            await asyncio.sleep(0.1)
        raise AssertionError("no trace of a call that is over")


@asynccontextmanager
async def stage(node: Node) -> AsyncIterator[Stage]:
    edge = Hop("udp", "127.0.0.1", node.port)
    async with (
        StandinPbx(ACCOUNTS, host=PBX_HOST, transport="udp") as pbx,
        Phone("101", "acme.example", PASSWORD, edge, on_call="answer") as phone,
    ):
        table = two_tenants(pbx.port)
        loaded = await asyncio.to_thread(node.load, table)
        assert loaded["ok"], loaded
        registered = ["registered"] * 4
        await asyncio.to_thread(wait_for, lambda: [entry["state"] for entry in node.upstream()] == registered)
        assert (await phone.register()).status == 200
        yield Stage(node, pbx, phone, table)


def test_what_a_call_said_is_told_filtered_and_run_again(node: Node, tmp_path: Path) -> None:
    async def play() -> None:
        async with stage(node) as on:
            call = await on.call()
            await call.bye()
            refused = on.pbx.call_uri("sip:199@acme.example", Hop("udp", "127.0.0.1", node.port))
            assert (await refused.final()).status == 404
            (found,) = await on.traced()
            await drawn(on, found)
            await filtered(on)
            await run_again(on, tmp_path)

    node.start()
    asyncio.run(play())


async def drawn(on: Stage, found: Doc) -> None:
    ladder = await on.run("trace", found["id"], "--full")
    assert ladder.returncode == 0, ladder.stderr
    assert "yes  user              '101' leads to 101" in ladder.stdout
    assert "INVITE" in ladder.stdout
    assert "200 OK (BYE)" in ladder.stdout
    assert "ended by caller" in ladder.stdout
    whole = await on.json("trace", found["legs"][1])
    assert whole["id"] == found["id"]
    assert [leg["leg"] for leg in whole["messages"][:3]] == [0, 0, 1]
    assert (await on.json("trace", found["id"][:12]))["id"] == found["id"]
    assert (await on.run("trace", found["id"][:12], "--tenant", "globex")).returncode == 1
    last = await on.run("trace", "--last", "3")
    assert last.stdout.count("sipd") >= 3
    nobody = await on.run("trace", "nobody")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "There is no trace of 'nobody'" in nobody.stderr


async def filtered(on: Stage) -> None:
    assert len(await on.traced("--tenant", "acme.example")) == 1
    assert (await on.json("trace", "--kind", "call", "--tenant", "globex"))["traces"] == []
    assert (await on.run("trace", "--tenant", "nobody")).returncode == 1
    refusals = (await on.json("trace", "--code", "404", "--since", "10m"))["traces"]
    assert [trace["rule"] for trace in refusals] == ["unknown-user"]
    registrations = (await on.json("trace", "--kind", "upstream"))["traces"]
    assert {trace["code"] for trace in registrations} == {200}
    for trace in await asyncio.to_thread(everything, on.node):
        said = json.dumps(trace)
        assert "pbx-secret" not in said
        assert 'response=\\"' not in said.replace('response=\\"(removed)\\"', "")


def everything(node: Node) -> list[Doc]:
    return [node.ask("trace", trace=about["id"])["trace"] for about in node.ask("traces", limit=500)["traces"]]


async def run_again(on: Stage, path: Path) -> None:
    (path / "table.json").write_text(json.dumps(codec.to_document(on.table)))
    traces = await on.json("trace", "--last", "100")
    (path / "traces.json").write_text(json.dumps(traces))
    same = await on.run(
        "replay", str(path / "traces.json"), "--table", str(path / "table.json"), "--compare", "--explain"
    )
    assert same.returncode == 0, same.stdout
    assert "now 404 Not Found, by rule unknown-user" in same.stdout
    assert "now to phones of 101, by rule user, tenant acme" in same.stdout
    other = codec.to_document(on.table)
    other["tenants"] = [tenant for tenant in other["tenants"] if tenant["slug"] != "acme"]
    (path / "table.json").write_text(json.dumps(other))
    differs = await on.run("replay", str(path / "traces.json"), "--table", str(path / "table.json"), "--compare")
    assert differs.returncode == 1


def test_hang_up_and_what_is_listed(node: Node) -> None:
    async def play() -> None:
        async with stage(node) as on:
            call = await on.call()
            (listed,) = (await on.json("calls", "--tenant", "acme"))["calls"]
            assert (await on.json("calls", "--tenant", "globex"))["calls"] == []
            assert (await on.run("hangup", listed["id"], "--tenant", "globex")).returncode == 1
            ended = await on.run("hangup", listed["id"])
            assert (ended.returncode, ended.stdout) == (0, f"Call {listed['id']} is ended.\n")
            await call.ended()
            await on.phone.calls[-1].ended()
            assert (await on.run("hangup", listed["id"])).returncode == 1
            (trace,) = await on.traced()
            assert (trace["by"], trace["reason"]) == ("operator", "Hung Up By The Operator")
            status = await on.run("status")
            assert "listens   udp:127.0.0.1:" in status.stdout
            assert "registrations" in (await on.run("registrations", "--tenant", "acme")).stdout
            assert all(len(line) <= 100 for line in (await on.run("registrations")).stdout.splitlines())
            assert all(len(line) <= 100 for line in (await on.run("trace")).stdout.splitlines())

    node.start()
    asyncio.run(play())


def test_traces_survive_a_kill(node: Node) -> None:
    async def play() -> Doc:
        async with stage(node) as on:
            await (await on.call()).bye()
            (found,) = await on.traced()
            await asyncio.to_thread(wait_for, lambda: node.ask("status")["counters"]["traces.stored"] >= 5)
            await asyncio.sleep(3)  # a second to settle, one for the next look
            return found

    node.start()
    found = asyncio.run(play())
    node.end(signal.SIGKILL)
    node.start()
    whole = asked(node, "trace", found["id"])
    assert [m["no"] for m in whole["messages"]] == list(range(len(whole["messages"])))
    assert whole["timings"] == found["timings"]
    assert len(whole["messages"]) >= 13


def test_a_full_disk_has_no_effect_on_calls(node: Node) -> None:
    """The largest file that the process may write is small: sooner or later no trace can be stored."""

    async def play() -> None:
        async with stage(node) as on:
            await asyncio.to_thread(limit_files, node, 2 * 1024)
            for _ in range(3):
                await (await on.call()).bye()
            assert len(await on.traced(count=3)) == 3
            await asyncio.to_thread(wait_for, lambda: node.ask("status")["counters"]["traces.failures"] >= 1)
            await (await on.call()).bye()
            await on.traced(count=4)
            await asyncio.to_thread(limit_files, node, resource.RLIM_INFINITY)

    node.start()
    asyncio.run(play())
    node.end()
    assert node.log.count("traces cannot be stored") == 1


def limit_files(node: Node, size: int) -> None:
    assert node.process is not None
    _, hard = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_off_and_in_memory_only(node: Node) -> None:
    node.start("--trace", "off")
    assert "Tracing is off" in sipd(node, "trace").stdout
    node.end()
    node.start("--trace-megabytes", "0")
    assert sipd(node, "trace").returncode == 0
    assert not (node.path / "traces.db").exists()
    node.end()
    with contextlib.suppress(FileNotFoundError):
        (node.path / "control.sock").unlink()
    nobody = sipd(node, "trace")
    assert nobody.returncode == 2
    assert "is sipd running" in nobody.stderr
