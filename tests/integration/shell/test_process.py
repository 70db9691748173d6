"""`python -m sipd` as a process: it loads a table, is killed, comes back with it, and stops when told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sipd import commands
from sipd.routing import codec
from tests.integration.shell.fakes import load_request, message, table

ROOT = Path(__file__).parents[3]
Doc = dict[str, Any]


class Node:
    """One `sipd run` in a directory, startable again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.control = path / "control.sock"
        self.process: subprocess.Popen[str] | None = None
        sipd("key", str(path / "key"))

    def start(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sipd", "run", "--state", str(self.path), "--listen", "udp:127.0.0.1:0", *flags],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(lambda: self.control.exists() and self.ask("status"))

    def ask(self, do: str, **rest: object) -> Doc | None:
        try:
            return commands.ask(self.control, {"do": do, **rest})
        except commands.UnreadableError:
            return None

    def status(self) -> Doc:
        return commands.ask(self.control, {"do": "status"})

    def end(self, number: int) -> int:
        """Exit code after a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        assert self.process.stderr is not None
        self.log = self.process.stderr.read()
        self.process.stderr.close()
        self.process = None
        return code


def sipd(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sipd", *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=30
    )


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    if node.process is not None:
        node.end(signal.SIGKILL)


def test_a_table_and_its_events_survive_a_kill(node: Node) -> None:
    node.start()
    name = codec.encode(table("101")).hash
    loaded = commands.ask(node.control, load_request(table("101"), 4))
    assert loaded["hash"] == name
    before = node.status()
    assert node.end(signal.SIGKILL) == -signal.SIGKILL
    assert node.control.exists()
    node.start()
    after = node.status()
    assert (after["hash"], after["version"], after["since"]) == (name, 4, before["since"])
    assert after["spool"]["first"] == before["spool"]["first"]
    events = commands.ask(node.control, {"do": "events", "after": 0})["events"]
    assert [event["kind"] for event in events] == ["node.started", "table.loaded", "node.started"]
    assert [event["id"] for event in events] == list(range(events[0]["id"], events[0]["id"] + 3))


def test_a_table_written_by_hand_is_sealed_and_loaded(tmp_path: Path, node: Node) -> None:
    node.start()
    document: Any = codec.to_document(table("101"))
    user = document["tenants"][0]["users"][0]
    user["ha1_md5"] = user["ha1_sha256"] = "plain:s3cret"
    file = tmp_path / "table.json"
    file.write_text(json.dumps(document))
    asked = ("load", str(file), "--control", str(node.control))
    assert "does not exist" in sipd(*asked, "--key-file", str(tmp_path / "none")).stderr
    done = sipd("load", str(file), "--state", str(node.path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("Version 1 is enforced")
    user["extension"] = "a b"
    file.write_text(json.dumps(document))
    refused = sipd(*asked, "--key-file", str(node.path / "key"))
    assert refused.returncode == 1
    assert "'a b' is no extension" in refused.stdout
    assert node.status()["version"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_within_a_second(node: Node, number: int) -> None:
    node.start("--listen", "tcp:127.0.0.1:0")
    began = time.monotonic()
    assert node.end(number) == 0
    assert time.monotonic() - began < 1.0
    assert not node.control.exists()
    assert "Traceback" not in node.log


def test_the_key_is_in_no_log_line(node: Node) -> None:
    node.start("--log-level", "debug")
    commands.ask(node.control, load_request(table("101"), 4))
    node.end(signal.SIGTERM)
    assert (node.path / "key").read_text().strip() not in node.log
    assert "table loaded hash=" in node.log


def test_a_used_port_exits_with_2_and_a_sentence(tmp_path: Path) -> None:
    sipd("key", str(tmp_path / "key"))
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.bind(("127.0.0.1", 0))
        listen = f"udp:127.0.0.1:{other.getsockname()[1]}"
        done = sipd("run", "--state", str(tmp_path), "--listen", listen)
    assert done.returncode == 2
    assert "the port is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_key_exits_with_2_and_says_how_to_make_one(tmp_path: Path) -> None:
    done = sipd("run", "--state", str(tmp_path), "--listen", "udp:127.0.0.1:0")
    assert done.returncode == 2
    assert "python -m sipd key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_daemon_on_the_same_state_exits_with_2(node: Node) -> None:
    node.start()
    done = sipd("run", "--state", str(node.path), "--listen", "udp:127.0.0.1:0")
    assert done.returncode == 2
    assert "Another sipd uses the state directory" in done.stderr


def test_flags_environment_and_file(node: Node) -> None:
    (node.path / "sipd.toml").write_text('node = "from-file"\nlog_level = "warning"\n')
    os.environ["TENANTRY_NODE"] = "from-environment"
    try:
        node.start("--config", str(node.path / "sipd.toml"))
    finally:
        del os.environ["TENANTRY_NODE"]
    answer = node.ask("hello")
    assert answer is not None
    assert answer["node"] == "from-environment"
    node.end(signal.SIGTERM)
    assert node.log == ""


def test_it_answers_sip(tmp_path: Path, node: Node) -> None:
    """The real core, over a real socket: a broken request gets a 400."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node.start("--listen", f"udp:127.0.0.1:{port}")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as phone:
        phone.settimeout(5)
        phone.sendto(message("OPTIONS"), ("127.0.0.1", port))
        wait_for(lambda: sum(node.status()["counters"].values()) > 0)


def document(*extensions: str) -> str:
    return json.dumps(codec.to_document(table(*extensions)))


def test_check_prints_each_problem(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(document("101"))
    good = sipd("check", str(path))
    assert good.returncode == 0
    assert good.stdout.splitlines()[-1].startswith("0 errors")
    bad = sipd("check", "-", stdin=document("not an extension"))
    assert bad.returncode == 1
    assert ": error: " in bad.stdout
    as_json = sipd("check", "-", "--json", stdin=document("not an extension"))
    assert json.loads(as_json.stdout)["problems"][0]["severity"] == "error"
    shape = sipd("check", "-", stdin='{"format":1}')
    assert shape.returncode == 1


@pytest.mark.parametrize("text", ["", "no json", "[" * 100_000, "\udcff"])
def test_check_of_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = sipd("check", str(path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert sipd("check", str(tmp_path / "nothing")).returncode == 2


def test_route_says_who_gets_a_call_and_why(tmp_path: Path) -> None:
    path = str(tmp_path / "table.json")
    Path(path).write_text(document("101"))
    taken = sipd("route", path, "--source", "192.0.2.1", "--uri", "sip:101@acme.example")
    assert taken.returncode == 0
    assert "=> user 101 of tenant acme, over connection pbx, by rule user" in taken.stdout
    assert "domain" in taken.stdout
    refused = sipd("route", path, "--source", "192.0.2.9:5070", "--uri", "sip:101@acme.example", "--json")
    assert refused.returncode == 1
    assert (json.loads(refused.stdout)["status"], json.loads(refused.stdout)["rule"]) == (403, "unknown-source")
    for wrong in (["--source", "nobody"], ["--source", "192.0.2.1", "--uri", "tel:101"]):
        arguments = wrong if "--uri" in wrong else [*wrong, "--uri", "sip:101@acme.example"]
        done = sipd("route", path, *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_route_goes_by_the_time_and_the_certificate(tmp_path: Path) -> None:
    text = (ROOT / "docs/table.md").read_text(encoding="utf-8")
    path = tmp_path / "table.json"
    path.write_text(text.partition("```json\n")[2].partition("```")[0], encoding="utf-8")
    assert sipd("check", str(path)).stdout == "0 errors, 0 warnings\n"
    asked = ["--source", "198.51.100.1:40000", "--transport", "tls", "--uri", "sip:+4930123450@acme.voice.example"]
    named = [*asked, "--client", "pbx.example", "--at"]
    monday = sipd("route", str(path), *named, "2026-11-23T09:00+01:00")
    assert "is open: it is Monday 2026-11-23 09:00 in Europe/Berlin" in monday.stdout
    assert "=> group 600 of tenant acme, over connection Main PBX, by rule number" in monday.stdout
    sunday = sipd("route", str(path), *named, "2026-11-22T09:00+01:00")
    assert "=> forwarded to +491701234567 of tenant acme" in sunday.stdout
    assert "unknown-source" in sipd("route", str(path), *asked).stdout
    wrong = sipd("route", str(path), *named, "tomorrow")
    assert (wrong.returncode, "'tomorrow' is no time" in wrong.stderr) == (2, True)


def test_status_registrations_and_calls_are_printed(node: Node) -> None:
    nobody = sipd("status", "--control", str(node.control))
    assert nobody.returncode == 2
    assert "is sipd running" in nobody.stderr
    node.start()
    commands.ask(node.control, load_request(table("101"), 4))
    assert "version 4" in sipd("status", "--control", str(node.control)).stdout
    assert "0 upstream registrations" in sipd("registrations", "--control", str(node.control)).stdout
    assert sipd("calls", "--control", str(node.control)).stdout == "0 calls\n"
    assert json.loads(sipd("calls", "--control", str(node.control), "--json").stdout)["calls"] == []


def test_a_table_of_another_format_is_refused_with_words_and_the_old_one_stays(tmp_path: Path, node: Node) -> None:
    node.start()
    commands.ask(node.control, load_request(table("101"), 4))
    before = node.status()
    request = load_request(table("101", "102"), 5)
    request["manifest"] = {**request["manifest"], "format": 2}
    with pytest.raises(commands.UnreadableError, match="The format is 2; this release reads format 1"):
        commands.ask(node.control, request)
    after = node.status()
    assert (after["version"], after["hash"], after["since"]) == (4, before["hash"], before["since"])
    assert after["refused_hash"] == codec.part_hash(request["manifest"])
    (problem,) = after["problems"]
    assert (problem["path"], problem["severity"]) == ("format", "error")
    file = tmp_path / "next.json"
    file.write_text(json.dumps({**codec.to_document(table("101")), "format": 99}))
    for words in (("load", str(file), "--state", str(node.path)), ("check", str(file))):
        done = sipd(*words)
        assert done.returncode in (1, 2)
        assert "The format is 99; this release reads format 1" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert node.status()["hash"] == before["hash"]
    kinds = [event["kind"] for event in commands.ask(node.control, {"do": "events", "after": 0})["events"]]
    assert kinds.count("table.refused") == 1


def test_a_node_that_is_killed_while_it_loads_has_the_table_before_or_the_one_after(node: Node) -> None:
    node.start()
    commands.ask(node.control, load_request(table("101"), 1))
    whole = table(*(str(number) for number in range(1000, 4000)))
    names = {codec.encode(table("101")).hash, codec.encode(whole).hash}
    for pause in (0.0, 0.02, 0.05, 0.1, 0.2):
        request = json.dumps(load_request(whole, 2)).encode() + b"\n"
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(node.control))
            control.sendall(request)
            time.sleep(pause)
            node.end(signal.SIGKILL)
        node.start()
        assert node.status()["hash"] in names
