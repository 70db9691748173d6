"""The daemon around a fake core: what comes in, what is stored, what goes out, in this order."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipd.clock import Clock, steady
from sipd.config import Address, Config, ConfigError
from sipd.daemon import Daemon
from sipd.flow import Flow
from sipd.grounds import lock_state
from sipd.net.udp import bind_udp
from tests.integration.shell.fakes import Cores, FakeCore, config, message, until
from tests.integration.shell.nameserver import NameServer


class Phone:
    """A UDP client."""

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect((host, port))

    def send(self, data: bytes) -> None:
        self.sock.send(data)

    async def receive(self) -> bytes:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.sock, 65535)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.receive()


Body = Callable[[Daemon, FakeCore], Awaitable[None]]


def run(settings: Config, body: Body) -> None:
    asyncio.run(live(settings, body))


def run_with(server: NameServer, tmp_path: Path, body: Body) -> None:
    """A node that asks a name server of the test's."""

    async def whole() -> None:
        async with server:
            servers = (Address("127.0.0.1", server.port),)
            await live(config(tmp_path, "udp:127.0.0.1:0", dns_servers=servers), body)

    asyncio.run(whole())


async def live(settings: Config, body: Body) -> None:
    cores = Cores()
    node = Daemon(settings, AESSIV(bytes(64)), cores)
    life = asyncio.create_task(node.run())
    started = asyncio.create_task(node.started.wait())
    await asyncio.wait({life, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        if node.started.is_set():
            await body(node, cores.last)
    finally:
        node.stop()
        async with asyncio.timeout(2):
            await life


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_datagram_is_answered(tmp_path: Path, host: str) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone(host, node.listeners[0].port)
        assert await phone.ask(b"OPTIONS 1") == b"OPTIONS 1"
        phone.sock.close()

    shown = f"[{host}]" if ":" in host else host
    run(config(tmp_path, f"udp:{shown}:0"), body)


def test_what_was_answered_is_on_disk(tmp_path: Path) -> None:
    """Read by another connection at the moment the answer comes, as a process after `kill -9` would."""

    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone("127.0.0.1", node.listeners[0].port)
        with sqlite3.connect(tmp_path / "state.db") as other:
            for number in range(20):
                assert await phone.ask(b"STORE %d" % number)
                rows = "SELECT count(*) FROM state WHERE kind = 'binding'"
                assert other.execute(rows).fetchone() == (number + 1,)
                assert other.execute("SELECT count(*) FROM event").fetchone() == (number + 2,)
        other.close()
        phone.sock.close()

    run(config(tmp_path, "udp:127.0.0.1:0"), body)

    async def again(node: Daemon, core: FakeCore) -> None:
        restored = {told for told in core.told if told[0] == "restore"}
        assert restored == {("restore", f"told/STORE {number}") for number in range(20)}

    run(config(tmp_path, "udp:127.0.0.1:0"), again)


def test_a_fault_costs_one_message_of_the_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone("127.0.0.1", node.listeners[0].port)
        phone.send(b"FAULT")
        phone.send(b"A")
        assert await phone.receive() == b"A"
        core.faults.append(ValueError("kept by the core"))
        assert await phone.ask(b"B") == b"B"
        assert core.faults == []
        phone.sock.close()

    run(config(tmp_path, "udp:127.0.0.1:0"), body)
    assert "a fault of the core" in caplog.text


def test_timers_run_once_they_are_due(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        loop = asyncio.get_running_loop()
        phone = Phone("127.0.0.1", node.listeners[0].port)
        began = loop.time()
        assert await phone.ask(b"TIMER 1") == b"TIMER 1"
        assert loop.time() - began >= 0.05
        assert core.next_timer() is None
        phone.sock.close()

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_names_are_resolved(tmp_path: Path) -> None:
    server = NameServer("pbx.example. 60 IN A 192.0.2.1")

    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone("127.0.0.1", node.listeners[0].port)
        assert await phone.ask(b"RESOLVE pbx.example") == b"RESOLVED 192.0.2.1"
        assert await phone.ask(b"RESOLVE nowhere.example") == b"RESOLVED"
        phone.sock.close()

    run_with(server, tmp_path, body)


def test_a_look_up_that_hangs_fails_in_time_and_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sipd.net.resolve.RESOLVE_SECONDS", 0.05)
    server = NameServer()
    server.silent = True

    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone("127.0.0.1", node.listeners[0].port)
        assert await phone.ask(b"RESOLVE slow.example") == b"RESOLVED"
        phone.sock.close()

    run_with(server, tmp_path, body)


def test_streams_and_datagrams_side_by_side(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone("127.0.0.1", node.listeners[0].port)
        reader, writer = await asyncio.open_connection("127.0.0.1", node.listeners[1].port)
        writer.write(message("A") + message("B"))
        assert await reader.readexactly(2 * len(message("A"))) == message("A") + message("B")
        assert await phone.ask(b"C") == b"C"
        host, port = writer.get_extra_info("sockname")
        writer.close()
        await until(lambda: core.told)
        assert core.told == [("flow_lost", ("tcp", host, port, 1))]
        phone.sock.close()

    run(config(tmp_path, "udp:127.0.0.1:0", "tcp:127.0.0.1:0"), body)


def test_a_broken_frame_gets_the_cores_answer(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.listeners[0].port)
        writer.write(message("OPTIONS").replace(b"Content-Length: 0", b"Content-Length: -1"))
        assert await reader.read() == b"SIP/2.0 400 Broken\r\n\r\n"
        writer.close()

    run(config(tmp_path, "tcp:127.0.0.1:0"), body)


def test_what_came_whole_before_junk_is_answered(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.listeners[0].port)
        writer.write(message("A") + b"\n\x00\xff" * 10)
        assert (await reader.read()).startswith(message("A"))
        writer.close()

    run(config(tmp_path, "tcp:127.0.0.1:0"), body)


def test_answers_still_go_out_at_the_stop(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.listeners[0].port)
        writer.write(message("A", b"x" * 60_000))
        await until(lambda: core.counters["received"])
        node.stop()
        assert len(await reader.read()) == len(message("A", b"x" * 60_000))
        writer.close()

    run(config(tmp_path, "tcp:127.0.0.1:0"), body)


def test_start_and_stop_are_events(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        pass

    for _ in range(2):
        run(config(tmp_path, "udp:127.0.0.1:0"), body)
    with sqlite3.connect(tmp_path / "state.db") as database:
        rows = database.execute("SELECT id, body ->> 'kind' FROM event ORDER BY id").fetchall()
    database.close()
    assert [kind for _, kind in rows] == ["node.started", "node.stopped"] * 2
    assert [number - rows[0][0] for number, _ in rows] == [0, 1, 2, 3]


def test_a_used_port_is_said_and_nothing_is_left_open(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        raise AssertionError("it started")

    with bind_udp("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f'listen "udp:127.0.0.1:{port}": the port is in use'):
            run(config(tmp_path, "tcp:127.0.0.1:0", f"udp:127.0.0.1:{port}"), body)
    with pytest.raises(ConfigError, match="no such address"):
        run(config(tmp_path, "udp:192.0.2.55:5060"), body)


def test_advertised_addresses(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        first, second = core.settings.listeners
        assert (first.advertised_host, first.advertised_port) == ("sip.example", 5099)
        assert (second.host, second.port > 0, second.advertised_host) == ("127.0.0.1", True, "sip.example")

    run(config(tmp_path, "udp:127.0.0.1:0", "tcp:127.0.0.1:0", advertise_host="sip.example", advertise_port=5099), body)


def test_a_state_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        lock_state(config(tmp_path / "file"))


def test_a_table_on_disk_that_is_torn_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "table.db").write_bytes(b"torn" * 1000)

    async def body(node: Daemon, core: FakeCore) -> None:
        assert core.compiled.table.tenants == ()

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


class Walls:
    """The clock on the wall, and the machine's: both are moved by the test."""

    def __init__(self) -> None:
        self.step = 0.0
        self.slept = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: time.time() + self.step, lambda: steady() + self.slept)


async def live_by(walls: Walls, settings: Config, body: Body) -> None:
    cores = Cores()
    node = Daemon(settings, AESSIV(bytes(64)), cores, walls.clock())
    life = asyncio.create_task(node.run())
    await node.started.wait()
    try:
        await body(node, cores.last)
    finally:
        node.stop()
        async with asyncio.timeout(5):
            await life


def told(path: Path, kind: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path / "state.db")) as database:
        rows = database.execute("SELECT body FROM event ORDER BY id").fetchall()
    return [event for event in (json.loads(body) for (body,) in rows) if event["kind"] == kind]


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_clock_that_is_set_fires_no_timer_and_is_told(tmp_path: Path, step: float) -> None:
    walls = Walls()

    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone("127.0.0.1", node.listeners[0].port)
        core.timers.append((node._clock.now() + 60, b"late", Flow("udp", "127.0.0.1", 9, 0)))
        walls.step = step
        await until(lambda: core.ahead)
        assert abs(core.ahead - step) < 2
        assert len(core.timers) == 1, "nothing fired, and nothing was put off"
        assert await phone.ask(b"TIMER 1") == b"TIMER 1"
        phone.sock.close()

    asyncio.run(live_by(walls, config(tmp_path, "udp:127.0.0.1:0"), body))
    (stepped,) = told(tmp_path, "clock.stepped")
    assert abs(stepped["detail"]["seconds"] - step) < 2
    (stopped,) = told(tmp_path, "node.stopped")
    assert abs(stopped["at"] - (time.time() + step)) < 30, "people read the clock on the wall"


def test_a_restart_after_the_clock_was_set_goes_on_by_the_old_one(tmp_path: Path) -> None:
    walls = Walls()
    times: list[float] = []

    async def body(node: Daemon, core: FakeCore) -> None:
        times.append(node._clock.now())
        assert abs(core.ahead - walls.step) < 2

    for step in (0.0, -86_400.0, 86_400.0):
        walls.step = step
        asyncio.run(live_by(walls, config(tmp_path, "udp:127.0.0.1:0"), body))
    assert 0 < times[1] - times[0] < 30
    assert 0 < times[2] - times[1] < 30


def test_timers_that_came_due_while_the_machine_slept_fire_soon_after(tmp_path: Path) -> None:
    walls = Walls()

    async def body(node: Daemon, core: FakeCore) -> None:
        phone = Phone("127.0.0.1", node.listeners[0].port)
        flow = Flow("udp", *phone.sock.getsockname(), 0)
        core.timers.append((node._clock.now() + 1000, b"woken", flow))
        await phone.ask(b"A")  # and so it is armed
        walls.slept = walls.step = 2000.0
        assert await phone.receive() == b"woken"
        phone.sock.close()

    asyncio.run(live_by(walls, config(tmp_path, "udp:127.0.0.1:0"), body))
    assert told(tmp_path, "clock.stepped") == []
