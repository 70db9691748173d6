"""A real node that is watched: what it counts against what was done, health, bad HTTP clients, the service manager."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sipd.metrics import NAMES
from sipd.net.http import CONNECTION_LIMIT, REQUEST_BYTES
from tests.authority import Authority
from tests.integration.node import Node, free_port, wait_for
from tests.integration.shell.fakes import FakeCore, config
from tests.integration.shell.test_daemon import live
from tests.integration.shell.test_process import sipd
from tests.integration.sip.conftest import two_tenants
from tests.integration.sip.test_siege_on_the_wire import strikes
from tests.integration.sip.test_with_peers import PBX_HOST, stage
from tests.unit.core.bench import PASSWORD

ROOT = Path(__file__).parents[3]
Doc = dict[str, Any]


class Watched(Node):
    """A node with metrics."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.metrics_port = free_port()

    def begin(self, *flags: str) -> None:
        self.start(f"--metrics=127.0.0.1:{self.metrics_port}", *flags)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.metrics_port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def health(self, path: str) -> tuple[int, Doc]:
        status, body = self.get(path)
        return status, json.loads(body)

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Values by name and labels, of a moment after now: an answer is remembered for a second."""
        time.sleep(1.1)
        status, body = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Watched]:
    node = Watched(tmp_path)
    yield node
    node.close()


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, /, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def queries() -> set[str]:
    """Names of metrics in the alerts and on the dashboard."""
    dashboard = json.loads((ROOT / "ops" / "grafana" / "sipd.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += re.findall(r"^ +expr: (.*)$", (ROOT / "ops" / "prometheus" / "alerts.yml").read_text(), re.MULTILINE)
    return {name for text in asked for name in re.findall(r"\b(?:sipd|process|python)_\w+", text)}


def test_what_is_counted_is_what_was_done(node: Watched) -> None:
    async def play() -> None:
        async with stage(node) as on:
            call = on.pbx.call("101@acme.pbx.example")
            await call.answered()
            during = await asyncio.to_thread(node.scrape)
            assert value(during, "sipd_calls", direction="in", state="answered") == 1
            assert value(during, "sipd_tenant_calls", tenant="acme") == 1
            await call.bye()
            await on.acme.calls[-1].ended()
            out = on.globex.call("9000")
            await out.answered()
            await out.bye()
            assert (await on.acme.call("9001").final()).status == 486
            found = await asyncio.to_thread(node.scrape)
            for code, rule in (("401", "challenge"), ("200", "register")):
                assert value(found, "sipd_requests_total", method="REGISTER", code=code, rule=rule) == 2
            assert value(found, "sipd_requests_total", method="INVITE", code="200", rule="user") == 1
            assert value(found, "sipd_requests_total", method="BYE", code="200", rule="in-dialog") == 2
            assert value(found, "sipd_bindings", transport="udp") == 2
            assert value(found, "sipd_upstream_registrations", state="registered") == 4
            assert value(found, "sipd_calls", direction="in", state="answered") == 0
            assert value(found, "sipd_calls_ended_total", direction="in", outcome="answered") == 1
            assert value(found, "sipd_calls_ended_total", direction="out", outcome="answered") == 1
            assert value(found, "sipd_calls_ended_total", direction="out", outcome="busy") == 1
            assert value(found, "sipd_call_setup_seconds_count", until="answer") == 2
            assert value(found, "sipd_call_duration_seconds_count") == 2
            assert value(found, "sipd_tenant_calls_ended_total", tenant="acme") == 2
            assert value(found, "sipd_tenant_upstream_registered", tenant="globex") == 2
            assert value(found, "sipd_table_version") == 1
            assert value(found, "sipd_table_info", hash=node.ask("status")["hash"]) == 1
            assert value(found, "sipd_tenants") == 2
            assert value(found, "sipd_ready") == 1
            assert value(found, "sipd_events_total", name="udp.received") > 20
            families = {re.sub(r"_(bucket|count|sum)$", "", name) for name, _ in found} | set(NAMES)
            assert queries() <= families | {name for name, _ in found}

    node.begin()
    asyncio.run(play())


def test_every_metric_of_alerts_and_dashboard_is_in_the_scrape(node: Watched) -> None:
    """By the lines of type, which are there also while a metric has no sample, as without media relay."""
    node.begin()
    node.load(two_tenants(free_port()))
    body = node.get("/metrics")[1].decode()
    written = set(re.findall(r"^# TYPE (\S+)", body, re.MULTILINE))
    written |= {f"{name}_{part}" for name in written if name in NAMES for part in ("bucket", "count", "sum")}
    asked = queries()
    assert len(asked) > 30
    assert asked <= written


def test_ready_with_a_table_and_not_while_draining(node: Watched) -> None:
    node.begin()
    assert node.health("/healthz") == (200, {"alive": True, "reasons": {}})
    status, why = node.health("/readyz")
    assert (status, list(why["reasons"])) == (503, ["no-table"])
    asked = sipd("healthy", "--control", str(node.control))
    assert (asked.returncode, asked.stdout[:19]) == (1, "No table is loaded:")
    node.load(two_tenants(free_port()))
    assert node.health("/readyz") == (200, {"ready": True, "reasons": {}})
    assert sipd("healthy", "--control", str(node.control)).returncode == 0
    node.ask("drain")
    status, why = node.health("/readyz")
    assert (status, list(why["reasons"])) == (503, ["draining"])
    assert node.health("/healthz")[0] == 200
    node.ask("resume")
    assert node.health("/readyz")[0] == 200
    assert "ready     yes" in sipd("status", "--control", str(node.control)).stdout


def test_the_answer_of_healthy_when_nobody_is_there(tmp_path: Path) -> None:
    assert sipd("healthy", "--control", str(tmp_path / "none.sock")).returncode == 2


def test_the_token_guards_the_metrics(node: Watched, tmp_path: Path) -> None:
    token = tmp_path / "metrics.token"
    token.write_text("0123456789abcdef0123\n")
    node.begin(f"--metrics-token-file={token}")
    assert node.get("/metrics")[0] == 401
    assert node.get("/metrics", Authorization="Bearer 0123456789abcdef0124")[0] == 401
    assert node.get("/metrics", Authorization="Bearer 0123456789abcdef0123")[0] == 200
    assert node.get("/healthz")[0] == 200


def test_slow_and_junk_clients_disturb_neither_the_scrape_nor_the_calls(node: Watched) -> None:
    node.begin()
    place = ("127.0.0.1", node.metrics_port)
    with ExitStack() as stack:
        for _ in range(2 * CONNECTION_LIMIT):
            slow = stack.enter_context(socket.create_connection(place, 5))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert node.get("/healthz")[0] == 200
        assert node.get("/metrics")[0] == 200
        for junk in (b"\x16\x03\x01" + bytes(400), b"", b"GET", b"INVITE sip:a SIP/2.0"):
            with socket.create_connection(place, 5) as client:
                client.sendall(junk + b"\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(place, 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (REQUEST_BYTES * 3))
            try:
                assert client.recv(100).startswith(b"HTTP/1.1 431 ")
            except ConnectionResetError:  # what we had still to say was thrown away with the answer
                pass
        with socket.create_connection(place, 5) as client:
            client.sendall(b"GET /metr")
        node.ask("status")
    counters = node.ask("status")["counters"]
    assert counters["http.cut_slow"] >= CONNECTION_LIMIT
    assert counters["http.bad_requests"] >= 4
    assert counters["shell.faults"] == 0


def test_when_a_certificate_ends(node: Watched, tmp_path: Path) -> None:
    chain = Authority(tmp_path).pair("127.0.0.1").chain
    node.begin(f"--listen=tls:127.0.0.1:{free_port()}", f"--tls-certificate={chain}")
    assert value(node.scrape(), "sipd_certificate_expiry_seconds", certificate=str(chain)) > 3600


def test_head_and_other_methods(node: Watched) -> None:
    node.begin()
    for method, status, length in (("HEAD", 200, 0), ("GET", 200, 1), ("POST", 405, 1), ("DELETE", 405, 1)):
        client = HTTPConnection("127.0.0.1", node.metrics_port, timeout=5)
        client.request(method, "/metrics")
        answer = client.getresponse()
        assert answer.status == status
        assert len(answer.read()) >= length
        assert (answer.getheader("Allow") is not None) is (status == 405)
        client.close()


def test_a_used_port_is_said(node: Watched, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", node.metrics_port)):
        flags = ["--state", str(tmp_path), "--listen", f"udp:127.0.0.1:{node.port}"]
        done = sipd("run", *flags, f"--metrics=127.0.0.1:{node.metrics_port}")
    assert done.returncode == 2
    assert f'metrics "127.0.0.1:{node.metrics_port}": the port is in use' in done.stderr


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_no_secret_is_in_the_log_whatever_comes(node: Watched, form: str) -> None:
    node.begin("--log-level=debug", f"--log-format={form}", "--log-calls=on")
    routing = two_tenants(free_port(PBX_HOST))
    assert node.load(routing)["ok"]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pbx,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        pbx.bind((PBX_HOST, 0))
        stranger.bind(("127.0.0.9", 0))
        for data, host in strikes(1) + strikes(2):
            (pbx if host == PBX_HOST else stranger).sendto(data, (node.host, node.port))
        uri = "sip:101:hunter2@acme.example"
        text = (
            f"INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PBX_HOST};branch=z9hG4bKlast\r\nMax-Forwards: 9\r\n"
            f"From: <{uri}>;tag=1\r\nTo: <{uri}>\r\nCall-ID: last-one\r\nCSeq: 1 INVITE\r\nContact: <{uri}>\r\n"
            'Authorization: Digest username="101", response="0123456789abcdef0123456789abcdef"\r\n\r\n'
        )
        pbx.sendto(text.encode(), (node.host, node.port))
        wait_for(lambda: "last-one" in (node.path / "log").read_text())
    node.end()
    log = node.log
    for secret in (
        PASSWORD,
        "pbx-secret",
        "hunter2",
        "0123456789abcdef0123456789abcdef",
        (node.path / "key").read_text().strip(),
    ):
        assert secret not in log
    for sealed in {user.ha1_md5 for tenant in routing.tenants for user in tenant.users}:
        assert sealed not in log
    if form == "json":
        lines = [json.loads(line) for line in log.splitlines()]
        refused = [line for line in lines if line["message"] == "refused"]
        assert refused
        assert all({"at", "level", "from", "message", "rule", "call_id"} <= set(line) for line in refused)
        assert {"call started", "call ended"} <= {line["message"] for line in lines}
        assert "acme" in {line.get("tenant") for line in lines}
    else:
        assert all(line.startswith("at=") for line in log.splitlines())


class Manager:
    """A service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.setblocking(False)

    def taken(self) -> list[str]:
        """All lines that have come since."""
        lines: list[str] = []
        while True:
            try:
                lines += self.sock.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines

    async def until(self, line: str) -> list[str]:
        """All lines up to one that begins so."""
        found: list[str] = []
        async with asyncio.timeout(10):
            while not any(each.startswith(line) for each in found):
                await asyncio.sleep(0.02)
                found += self.taken()
        return found


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(made.path))
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield made
    made.sock.close()


def test_the_service_manager_hears_of_the_start_the_loop_and_the_end(manager: Manager, tmp_path: Path) -> None:
    async def body(node: Any, core: FakeCore) -> None:
        began = await manager.until("READY=1")
        assert "STATUS=not ready: no-table; table version 0, 1 calls in progress" in began
        await manager.until("WATCHDOG=1")
        node.reload()
        assert {"RELOADING=1", "READY=1"} <= set(await manager.until("READY=1"))

    asyncio.run(live(config(tmp_path, "udp:127.0.0.1:0"), body))
    assert "STOPPING=1" in manager.taken()


def test_a_loop_that_hangs_feeds_no_watchdog(manager: Manager, tmp_path: Path) -> None:
    async def body(node: Any, core: FakeCore) -> None:
        await manager.until("WATCHDOG=1")
        manager.taken()
        time.sleep(2.5)  # noqa: ASYNC251 - the loop hangs, and two ticks are due
        assert manager.taken() == []
        await manager.until("WATCHDOG=1")

    asyncio.run(live(config(tmp_path, "udp:127.0.0.1:0"), body))


def test_nobody_is_told_where_nobody_asked(tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")

    async def body(node: Any, core: FakeCore) -> None:
        await manager.until("READY=1")
        await asyncio.sleep(1.2)
        assert "WATCHDOG=1" not in manager.taken()

    asyncio.run(live(config(tmp_path, "udp:127.0.0.1:0"), body))
