"""The control channel of a whole daemon around a fake core, over its real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipd import control, reload
from sipd.config import Address, Config, ConfigError
from sipd.control import bind_unix
from sipd.daemon import Daemon
from sipd.grounds import lock_state
from sipd.routing import codec
from tests.integration.shell.fakes import Cores, FakeCore, config, load_request, message, table

Doc = dict[str, Any]
TOKEN = "0123456789abcdef0123456789abcdef"


class Client:
    """Requests over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def unix(cls, path: Path) -> Client:
        return cls(*await asyncio.open_unix_connection(path, limit=2**24))

    async def raw(self, line: bytes) -> Doc:
        self.writer.write(line)
        async with asyncio.timeout(20):
            answer = json.loads(await self.reader.readline())
        assert isinstance(answer, dict)
        return answer

    async def ask(self, do: str, **rest: object) -> Doc:
        return await self.raw(json.dumps({"do": do, **rest}).encode() + b"\n")

    async def load(self, request: Doc) -> Doc:
        return await self.raw(json.dumps(request).encode() + b"\n")


def run(settings: Config, body: Callable[[Client, FakeCore], Awaitable[None]]) -> None:
    """Start a daemon, run `body` with a client of its Unix socket, stop."""

    async def whole() -> None:
        cores = Cores()
        node = Daemon(settings, AESSIV(bytes(64)), cores)
        life = asyncio.create_task(node.run())
        started = asyncio.create_task(node.started.wait())
        await asyncio.wait({life, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if life.done():
            await life
        client = await Client.unix(settings.control)
        try:
            await body(client, cores.last)
        finally:
            client.writer.close()
            node.stop()
            await life

    asyncio.run(whole())


def test_hello_and_status(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        hello = await client.ask("hello")
        assert hello == {"ok": True, "node": "n1", "format": 1, "release": hello["release"]}
        status = await client.ask("status")
        assert set(status) == {
            "ok", "version", "hash", "since", "problems", "refused_hash", "uptime", "counters", "spool", "vitals",
            "node", "release", "pid", "listeners", "loop_lag", "memory", "queues", "traces_on_disk", "limits",
            "store", "drain", "clock", "ready", "not_ready", "load_ms", "stale", "media", "connections",
        }  # fmt: skip
        assert (status["version"], status["hash"], status["refused_hash"], status["problems"]) == (0, "", "", [])
        assert status["counters"]["received"] == 0
        assert status["listeners"][0].startswith("udp:127.0.0.1:")
        assert status["memory"]["now"] > 1024 * 1024
        assert len(status["limits"]["digest"]) == 12
        assert status["limits"]["in_force"]["message.bytes"] == 65535

    run(config(tmp_path, "udp:127.0.0.1:0"), body)
    assert not (tmp_path / "control.sock").exists()


@pytest.mark.parametrize("do", ["registrations", "calls", "traces", "trace", "hangup"])
@pytest.mark.parametrize("lost", ["", None, 5])
def test_a_lost_tenant_is_not_shown_everybodys(tmp_path: Path, do: str, lost: object) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        answer = await client.ask(do, tenant=lost, call="c1", trace="c1")
        assert answer == {"ok": False, "error": '"tenant" must be a text.'}
        assert core.told == []

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_the_socket_is_ours_only(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_a_table_is_loaded_with_missing_parts_sent_later(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        one = table("101")
        encoded = codec.encode(one)
        answer = await client.load(load_request(one, 7, parts=False))
        assert (answer["ok"], set(answer["missing"])) == (False, set(encoded.parts))
        assert core.compiled.table.tenants == ()
        answer = await client.load(load_request(one, 7))
        assert (answer["ok"], answer["version"], answer["hash"]) == (True, 7, encoded.hash)
        assert 0 < answer["ms"] < 5000
        assert core.compiled.hash == encoded.hash
        before = core.compiled
        changed = table("101", "102")
        request = load_request(changed, 8)
        del request["parts"][encoded.manifest["installation"]]  # the node has that one
        answer = await client.load(request)
        assert answer["ok"]
        assert core.compiled.installation is before.installation
        status = await client.ask("status")
        assert (status["version"], status["hash"]) == (8, codec.encode(changed).hash)
        events = (await client.ask("events", after=0))["events"]
        assert [event["kind"] for event in events] == ["node.started", "table.loaded", "table.loaded"]
        assert events[1]["detail"] == {"hash": encoded.hash, "version": 7, "ms": events[1]["detail"]["ms"]}

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_a_bad_table_is_refused_with_its_problems_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = table("101"), table("not an extension")
    problems: list[Doc] = []

    async def body(client: Client, core: FakeCore) -> None:
        await client.load(load_request(good, 1))
        answer = await client.load(load_request(bad, 2))
        assert answer["ok"] is False
        assert "tenants[acme]" in answer["error"]
        assert answer["problems"][0]["severity"] == "error"
        problems.extend(answer["problems"])
        assert core.compiled.hash == codec.encode(good).hash
        status = await client.ask("status")
        assert (status["version"], status["refused_hash"]) == (1, codec.encode(bad).hash)
        assert status["problems"] == problems

    async def again(client: Client, core: FakeCore) -> None:
        assert core.compiled.hash == codec.encode(good).hash
        answer = await client.load(load_request(bad, 3, parts=False))
        assert (answer["ok"], answer["problems"]) == (False, problems)

    run(config(tmp_path, "udp:127.0.0.1:0"), body)
    monkeypatch.setattr(reload, "validate", lambda table: [])  # it would pass now: it is not looked at again
    run(config(tmp_path, "udp:127.0.0.1:0"), again)


def test_a_part_with_other_bytes_is_refused_but_the_table_is_not_remembered(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        request = load_request(table("101"), 1)
        name = request["manifest"]["tenants"]["t-acme"]
        right = request["parts"][name]
        request["parts"][name] = {**right, "name": "another"}
        answer = await client.load(request)
        assert answer["ok"] is False
        assert name in answer["error"]
        request["parts"][name] = right
        assert (await client.load(request))["ok"] is True

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_a_tenant_listed_under_another_id_is_refused(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        request = load_request(table("101"), 1)
        request["manifest"]["tenants"] = {"t-globex": request["manifest"]["tenants"]["t-acme"]}
        answer = await client.load(request)
        assert answer["ok"] is False
        assert "listed for tenant 't-globex'" in answer["problems"][0]["message"]

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_events_are_kept_until_the_cursor_passes_them(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        await client.load(load_request(table("101"), 1))
        first = await client.ask("events", after=0, limit=1)
        assert first["next"] == first["events"][0]["id"]
        second = await client.ask("events", after=first["next"], limit=10)
        assert [event["kind"] for event in second["events"]] == ["table.loaded"]
        assert second["events"][0]["id"] == first["next"] + 1
        assert await client.ask("events", after=second["next"]) == {"ok": True, "events": [], "next": second["next"]}
        spool = (await client.ask("status"))["spool"]
        assert spool == {"first": second["next"] + 1, "next": second["next"] + 1}

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_what_the_core_is_asked(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        assert (await client.ask("registrations"))["bindings"][0]["tenant"] == "all"
        assert (await client.ask("registrations", tenant="t1"))["bindings"][0]["tenant"] == "t1"
        assert (await client.ask("calls"))["calls"][0]["id"] == "c1"
        assert await client.ask("renew", tenant="t1", connection="c1") == {"ok": True, "renewed": 3}
        assert core.told[-1] == ("renew", "t1", "c1")
        assert await client.ask("hangup", call="c1", tenant="t-acme") == {"ok": True, "call": "c1"}
        assert core.told[-1] == ("hang_up", "c1", "t-acme", 480, "Hung Up By The Operator")
        assert (await client.ask("hangup", call="c1", tenant="t-globex"))["ok"] is False
        assert (await client.ask("hangup", call="c1", code=200))["ok"] is False
        assert (await client.ask("hangup", call="c1", reason="a\r\nb"))["ok"] is False
        assert await client.ask("traces") == {"ok": True, "traces": [], "tracing": False}
        assert "Tracing is off" in (await client.ask("trace", trace="c1"))["error"]

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


@pytest.mark.parametrize(
    "line",
    [
        b"junk",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"do":1}',
        b'{"do":"shutdown"}',
        b'{"do":"load"}',
        b'{"do":"load","version":true,"manifest":{},"parts":{}}',
        b'{"do":"load","version":1,"manifest":{},"parts":{}}',
        b'{"do":"load","version":1,"manifest":{"format":NaN},"parts":{}}',
        b'{"do":"load","version":1,"manifest":{"\\ud800":1},"parts":{}}',
        b'{"do":"load","version":1,"manifest":[],"parts":{}}',
        b'{"do":"events","after":-1}',
        b'{"do":"events","after":1e9}',
        b'{"do":"events","after":0,"limit":0}',
        b'{"do":"events","after":99999999999999999999999}',
        b'{"do":"registrations","tenant":5}',
        b'{"do":"renew"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
    ],
)
def test_junk_is_answered_and_the_connection_goes_on(tmp_path: Path, line: bytes) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        answer = await client.raw(line + b"\n")
        assert answer["ok"] is False
        assert answer["error"]
        assert (await client.ask("status"))["ok"] is True

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_a_part_nested_too_deep_for_us_is_a_refusal(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        name = "a" * 64
        nested = b'{"a":' * 900 + b"1" + b"}" * 900
        answer = await client.raw(
            b'{"do":"load","version":1,"manifest":{"format":1,"installation":"%s","tenants":{}},"parts":{"%s":%s}}\n'
            % (name.encode(), name.encode(), nested)
        )
        assert answer["ok"] is False
        assert (await client.ask("status"))["ok"] is True

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_a_fault_of_a_handler_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCore, "calls", lambda self, tenant, now: 1 / 0)
    monkeypatch.setattr(FakeCore, "registrations", lambda self, tenant, now: {"bindings": object()})

    async def body(client: Client, core: FakeCore) -> None:
        assert (await client.ask("calls"))["ok"] is False
        assert (await client.ask("registrations"))["ok"] is False
        assert (await client.ask("status"))["ok"] is True

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_many_requests_in_one_write_and_one_in_many(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        client.writer.write(b'\n{"do":"hello"}\n{"do":"sta')
        await asyncio.sleep(0.02)
        client.writer.write(b'tus"}\n{"do":"calls"}\n')
        answers = [json.loads(await client.reader.readline()) for _ in range(3)]
        assert ["format" in answers[0], "counters" in answers[1], "calls" in answers[2]] == [True] * 3

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_a_line_over_the_limit_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LINE_BYTES", 100_000)

    async def body(client: Client, core: FakeCore) -> None:
        client.writer.write(b'{"do":"' + b"x" * 150_000)
        answer = json.loads(await client.reader.readline())
        assert answer == {"ok": False, "error": "The line has more than 100000 bytes; send less at a time."}
        assert await client.reader.read() == b""

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_a_line_that_never_ends_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LINE_SECONDS", 0.1)

    async def body(client: Client, core: FakeCore) -> None:
        client.writer.write(b'{"do":')
        assert json.loads(await client.reader.readline())["ok"] is False
        assert await client.reader.read() == b""

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_too_many_control_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTION_LIMIT", 1)

    async def body(client: Client, core: FakeCore) -> None:
        assert (await client.ask("hello"))["ok"] is True
        second = await Client.unix(tmp_path / "control.sock")
        assert "close one" in json.loads(await second.reader.readline())["error"]
        second.writer.close()

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


@pytest.mark.parametrize("words", [b"", b'{"do":"sta', b'{"do":"status"}\n' * 2000])
def test_who_hangs_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    """It says nothing, half a line, or does not read what it asked for."""
    monkeypatch.setattr(control, "CONNECTION_LIMIT", 2)
    monkeypatch.setattr(control, "QUIET_SECONDS", 0.3)

    async def body(client: Client, core: FakeCore) -> None:
        hanging = await Client.unix(tmp_path / "control.sock")
        hanging.writer.write(words)
        for _ in range(20):
            await asyncio.sleep(0.05)
            assert (await client.ask("hello"))["ok"] is True, "who asks stays"
        async with asyncio.timeout(10):
            while True:
                third = await Client.unix(tmp_path / "control.sock")
                if (await third.ask("hello"))["ok"] is True:
                    break
                third.writer.close()
                await client.ask("hello")
        assert (await client.ask("status"))["counters"]["control.hung_up"] == 1
        for one in (hanging, third):
            one.writer.close()

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_tcp_takes_the_token_first(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", free.getsockname()[1])
    settings = config(tmp_path, "udp:127.0.0.1:0", control_tcp=address, control_token_file=tmp_path / "token")

    async def asked(*lines: bytes) -> list[Doc]:
        """What comes back for these lines until the end of the stream."""
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"".join(lines))
        writer.write_eof()
        with suppress(ConnectionResetError):
            answers = [json.loads(line) for line in (await reader.read()).splitlines()]
        writer.close()
        return answers

    async def body(client: Client, core: FakeCore) -> None:
        hello = json.dumps({"do": "hello", "token": TOKEN}).encode() + b"\n"
        answers = await asked(hello, b'{"do":"status"}\n')
        assert [answer["ok"] for answer in answers] == [True, True]
        for wrong in (
            b'{"do":"status"}\n',
            b'{"do":"hello"}\n',
            b'{"do":"hello","token":"wrong"}\n',
            b'{"do":"hello","token":"\\ud800\xc3\xa9"}\n',
            b'{"do":"hello","token":[]}\n',
            b"GET / HTTP/1.1\r\n",
            json.dumps({"do": "status", "token": TOKEN}).encode() + b"\n",
            b"x" * (control.HELLO_BYTES + 1) + b"\n",
        ):
            answers = await asked(wrong, hello)
            assert [answer["ok"] for answer in answers] == [False], wrong
            assert TOKEN not in json.dumps(answers)

    run(settings, body)


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    bind_unix(path).close()
    assert path.exists()

    async def body(client: Client, core: FakeCore) -> None:
        with pytest.raises(ConfigError, match="Another sipd is alive"):
            bind_unix(path)
        assert (await client.ask("hello"))["ok"] is True

    run(config(tmp_path, "udp:127.0.0.1:0"), body)
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"):
        bind_unix(path)
    assert path.read_text() == "precious"


def test_two_daemons_do_not_share_a_state_directory(tmp_path: Path) -> None:
    async def body(client: Client, core: FakeCore) -> None:
        with pytest.raises(ConfigError, match="Another sipd uses the state directory"):
            lock_state(config(tmp_path))

    run(config(tmp_path, "udp:127.0.0.1:0"), body)


def test_calls_go_on_while_a_large_line_is_read(tmp_path: Path) -> None:
    """What takes long is done in threads: a datagram is answered while a load of some megabytes comes in."""

    async def body(client: Client, core: FakeCore) -> None:
        port = core.settings.listeners[0].port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.setblocking(False)
            client.writer.write(b'{"do":"load","version":1,"manifest":{},"parts":{"x":"' + b"y" * 4_000_000 + b'"}}\n')
            phone.sendto(message(), ("127.0.0.1", port))
            async with asyncio.timeout(2):
                assert await asyncio.get_running_loop().sock_recv(phone, 2000) == message()
        assert json.loads(await client.reader.readline())["ok"] is False

    run(config(tmp_path, "udp:127.0.0.1:0"), body)
