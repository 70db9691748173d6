"""A node that is told to stop, or to drain, between the stand-in PBX and phones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.node import Node, wait_for
from tests.integration.sip.test_with_peers import Stage, stage
from tests.peers.call import Call


@pytest.fixture
def patient(tmp_path: Path) -> object:
    """A node that waits for calls at a stop; each test ends it."""
    node = Node(tmp_path)
    node.start("--drain", "30")
    yield node
    if node.process is not None:
        node.end(signal.SIGKILL)
    node.close()


def tell(node: Node, number: int = signal.SIGTERM) -> None:
    assert node.process is not None
    os.kill(node.process.pid, number)


async def ended(node: Node, seconds: float = 10.0) -> int:
    assert node.process is not None
    code = await asyncio.to_thread(node.process.wait, seconds)
    node.log = (node.path / "log").read_text()
    node.process = None
    return code


async def draining(node: Node, calls: int) -> None:
    state = await asyncio.to_thread(lambda: node.ask("status")["drain"])
    assert (state["draining"], state["calls"]) == (True, calls)


async def talk(on: Stage) -> Call:
    """101 of acme is called and has answered."""
    call = on.pbx.call("101@acme.pbx.example")
    await call.answered()
    return call


async def refused(on: Stage) -> None:
    """New calls of both sides get 503 with Retry-After; a REGISTER is answered."""
    for call in (on.pbx.call("101@globex.pbx.example"), on.globex.call("9000")):
        answer = await call.final()
        assert (answer.status, answer.get("retry-after")) == (503, "30")
    assert (await on.globex.register()).status == 200


def test_a_stop_waits_for_the_call_and_takes_no_new_one(patient: Node) -> None:
    async def play() -> None:
        async with stage(patient) as on:
            call = await talk(on)
            tell(patient)
            await asyncio.to_thread(wait_for, lambda: patient.ask("status")["drain"]["draining"])
            await draining(patient, 1)
            await refused(on)
            assert (await call.reinvite()).status == 200
            await call.bye()
            await on.acme.calls[-1].ended()
            assert await ended(patient) == 0
            assert not [m for m in on.pbx.received("REGISTER") if m.get("expires") == "0"], "none is taken back"
        patient.start("--drain", "0")
        (record,) = patient.events("call.ended")
        assert (record["detail"]["by"], record["detail"]["code"]) == ("caller", 200)
        assert [event["detail"]["calls"] for event in patient.events("node.draining")] == [1]

    asyncio.run(play())


def test_a_stop_hangs_up_what_is_left_when_its_time_is_over(node: Node) -> None:
    async def play() -> None:
        async with stage(node) as on:
            call = await talk(on)
            await asyncio.to_thread(node.ask, "drain", seconds=1)
            await draining(node, 1)
            await call.ended()
            await on.acme.calls[-1].ended()
            assert [m.get("reason") for m in on.pbx.received("BYE")] == ['SIP;cause=503;text="Node Is Stopping"']
            await draining(node, 0)
            (record,) = await asyncio.to_thread(node.events, "call.ended")
            assert (record["detail"]["by"], record["detail"]["reason"]) == ("edge", "Node Is Stopping")

    asyncio.run(play())


def test_the_time_of_a_stop_is_bounded(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.start("--drain", "1")

    async def play() -> None:
        async with stage(node) as on:
            call = await talk(on)
            tell(node)
            await call.ended()
            await on.acme.calls[-1].ended()
            assert await ended(node) == 0

    asyncio.run(play())
    node.start("--drain", "0")
    assert [event["detail"]["by"] for event in node.events("call.ended")] == ["edge"]
    node.close()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(patient: Node, second: int) -> None:
    async def play() -> None:
        async with stage(patient) as on:
            await talk(on)
            tell(patient)
            await asyncio.to_thread(wait_for, lambda: patient.ask("status")["drain"]["draining"])
            began = time.monotonic()
            tell(patient, second)
            assert await ended(patient) == 0
            assert time.monotonic() - began < 8, "not after the 30 seconds"

    asyncio.run(play())


def test_an_operator_empties_a_node_and_fills_it_again(node: Node) -> None:
    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sipd", *words, "--control", str(node.control)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def play() -> None:
        async with stage(node) as on:
            call = await talk(on)
            assert await asyncio.to_thread(command, "drain") == "New calls are refused; 1 are in progress.\n"
            assert "New calls are refused; 1 are in progress." in await asyncio.to_thread(command, "status")
            await refused(on)
            await call.bye()
            assert await asyncio.to_thread(command, "resume") == "New calls are taken; 0 are in progress.\n"
            await (await talk(on)).bye()

    asyncio.run(play())
    kinds = [event["kind"] for event in node.events()]
    assert kinds.index("node.draining") < kinds.index("node.resumed")
